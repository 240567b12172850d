"""How long a first token takes when nobody is beside: learnt at each endpoint and model from its own quiet calls.

A straight line of first-token time on uncached prompt tokens, fitted by medians (Theil 1950, Sen 1968), which a third of wild points does
not move. Quiet is a call beside which nothing ran until its first token. Where there are too few of these, the calls with the fewest beside
them stand in, and the method says so: then the line still holds some of the load, and slowdown comes out too small rather than too large.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import combinations
from statistics import median

import msgspec

from headway.calls.admission.spans import CallSpan, by_endpoint

QUIET_MIN = 8
POINTS_MAX = 300
"""Of more, so many are taken at even steps of their size: 45,000 pairs."""
REACH = 2.0
"""A line says nothing of prompts more than so many times longer than the longest it has seen: attention grows faster than a line."""
QUIETEST_SHARE = 0.1


class Alone(msgspec.Struct, frozen=True, kw_only=True):
    """First-token time alone: ``floor_ms`` and ``ms_per_token`` for each uncached token, seen up to ``tokens_max``."""

    endpoint: str
    model: str
    floor_ms: float
    ms_per_token: float
    tokens_max: float
    spread_ms: float
    """Median distance of the points from the line."""
    n: int
    quiet: bool
    """False: the quietest calls stood in, since fewer than QUIET_MIN ran alone."""

    def expected_ms(self, uncached_tokens: float | None) -> float | None:
        """None where the line says nothing."""
        if uncached_tokens is None or uncached_tokens > self.tokens_max * REACH:
            return None
        return self.floor_ms + self.ms_per_token * uncached_tokens


def alone_by_place(calls: Sequence[CallSpan]) -> dict[tuple[str, str], Alone]:
    """One line for each endpoint and model that has at least QUIET_MIN calls with a first token."""
    found: dict[tuple[str, str], Alone] = {}
    for members in by_endpoint(calls).values():
        beside = _beside(members)
        places: dict[tuple[str, str], list[tuple[int, float, float]]] = {}
        for call, n in zip(members, beside, strict=True):
            if n is not None and call.uncached_tokens is not None:
                assert call.admitted_ms is not None
                assert call.first_token_ms is not None
                points = places.setdefault(call.place, [])
                points.append((n, float(call.uncached_tokens), call.first_token_ms - call.admitted_ms))
        for place, points in places.items():
            quiet = [(x, y) for n, x, y in points if n == 0]
            chosen = quiet if len(quiet) >= QUIET_MIN else _quietest(points)
            if len(chosen) >= QUIET_MIN:
                found[place] = line(place, chosen, quiet=len(quiet) >= QUIET_MIN)
    return found


def line(place: tuple[str, str], points: Sequence[tuple[float, float]], *, quiet: bool = True) -> Alone:
    """The line through (uncached tokens, ms) by medians. Its slope is never negative; with one size only it is level."""
    n, tokens_max = len(points), max(x for x, _ in points)
    points = _thinned(points)
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(points, 2) if a[0] != b[0]]
    slope = max(0.0, median(slopes)) if slopes else 0.0
    floor = max(0.0, median(y - slope * x for x, y in points))
    spread = median(abs(y - floor - slope * x) for x, y in points)
    return Alone(
        endpoint=place[0],
        model=place[1],
        floor_ms=floor,
        ms_per_token=slope,
        tokens_max=tokens_max,
        spread_ms=spread,
        n=n,
        quiet=quiet,
    )


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    ordered = sorted(points)
    if len(ordered) <= POINTS_MAX:
        return ordered
    step = (len(ordered) - 1) / (POINTS_MAX - 1)
    return [ordered[round(i * step)] for i in range(POINTS_MAX)]


def _quietest(points: Iterable[tuple[int, float, float]]) -> list[tuple[float, float]]:
    ordered = sorted(points)
    return [(x, y) for _, x, y in ordered[: max(QUIET_MIN, int(len(ordered) * QUIETEST_SHARE))]]


def _beside(calls: Sequence[CallSpan]) -> list[int | None]:
    """How many others ran at any time between each call's admission and its first token; None without either."""
    ran = [(c.admitted_ms, c.ended_ms) for c in calls if c.admitted_ms is not None]
    starts, ends = sorted(start for start, _ in ran), sorted(end for _, end in ran)
    return [
        max(0, bisect_left(starts, c.first_token_ms) - bisect_right(ends, c.admitted_ms) - 1)
        if c.admitted_ms is not None and c.first_token_ms is not None
        else None
        for c in calls
    ]
