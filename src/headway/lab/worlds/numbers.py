"""What a world's outcomes say: quantiles by band or tenant."""

from collections.abc import Callable, Iterable, Sequence

import msgspec

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
        gap_ms=spread(gap for m in done for gap in m.last.gaps_ms),
        e2e_ms=spread(t for m in done if (t := m.e2e_ms) is not None),
    )


def bands(outcomes: Outcomes, key: Callable[[Ask], str], chosen: Callable[[Ask], bool] = lambda _: True) -> list[Band]:
    groups: dict[str, list[Made]] = {}
    for made in outcomes.made:
        if chosen(made.ask):
            groups.setdefault(key(made.ask), []).append(made)
    return [band(name, groups[name]) for name in sorted(groups)]
