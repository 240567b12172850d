"""What a world's outcomes say: quantiles by band or tenant."""

from array import array
from collections.abc import Callable, Iterable, Sequence

import msgspec
import numpy as np

from headway.lab.worlds.driver import Outcomes
from headway.lab.worlds.model import Ask, Made


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """n and quantiles; all 0 where n is 0."""

    n: int
    p50: float = 0.0
    p95: float = 0.0
    p99: float = 0.0
    most: float = 0.0


def quantile(ordered: Sequence[float], share: float) -> float:
    """Of values in ascending order, linear between neighbours (numpy's default)."""
    place = (len(ordered) - 1) * share
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def spread(values: Iterable[float]) -> Spread:
    ordered = sorted(values)
    if not ordered:
        return Spread(n=0)
    return Spread(
        n=len(ordered),
        p50=quantile(ordered, 0.5),
        p95=quantile(ordered, 0.95),
        p99=quantile(ordered, 0.99),
        most=ordered[-1],
    )


def spread_of_many(parts: "Sequence[array[float]]") -> Spread:
    """As ``spread`` of all parts together, quickly for millions."""
    whole = np.concatenate([np.frombuffer(part, dtype=np.float32) for part in parts if part] or [np.empty(0, np.float32)])
    if not whole.size:
        return Spread(n=0)
    p50, p95, p99 = (float(value) for value in np.quantile(whole, [0.5, 0.95, 0.99]))
    return Spread(n=int(whole.size), p50=p50, p95=p95, p99=p99, most=float(whole.max()))


class Band(msgspec.Struct, frozen=True, kw_only=True):
    """One band, class or tenant of a world, in milliseconds. ``ttft`` runs from the client's first try."""

    name: str
    asked: int
    done: int
    refused: int
    ttft_ms: Spread
    queue_ms: Spread
    gap_ms: Spread
    e2e_ms: Spread


def band(name: str, made: Sequence[Made]) -> Band:
    done = [m for m in made if m.done]
    return Band(
        name=name,
        asked=len(made),
        done=len(done),
        refused=sum(1 for m in made if m.tries and m.last.refusal is not None),
        ttft_ms=spread(t for m in done if (t := m.ttft_ms) is not None),
        queue_ms=spread(t for m in done if (t := m.queue_ms) is not None),
        gap_ms=spread_of_many([m.last.gaps_ms for m in done]),
        e2e_ms=spread(t for m in done if (t := m.e2e_ms) is not None),
    )


def bands(outcomes: Outcomes, key: Callable[[Ask], str], chosen: Callable[[Ask], bool] = lambda _: True) -> list[Band]:
    groups: dict[str, list[Made]] = {}
    for made in outcomes.made:
        if chosen(made.ask):
            groups.setdefault(key(made.ask), []).append(made)
    return [band(name, groups[name]) for name in sorted(groups)]
