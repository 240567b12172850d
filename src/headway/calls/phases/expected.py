"""The first-token time that a prompt of so many uncached tokens usually has: E = max(floor, a + b u + c u^2), with b, c >= 0.

On an engine of one's own also w x requests waiting ahead and q x prompt tokens that are read beside it. Found by least absolute relative error
(iteratively reweighted), which a third of wild calls does not bend. Milliseconds, tokens.
"""

from collections.abc import Callable, Collection, Sequence
from operator import mul

import msgspec

from headway.calls.phases.medians import median

ROUNDS = 15
_CLOSE = 0.01
"""Relative errors under this weigh alike: a call that lies on the line is no anchor of endless weight."""
_CURVE_CALLS_MIN, _CURVE_GAIN, _CURVE_WIDTH = 60, 0.03, 4.0
_TERM_CALLS_MIN = 20
_FLOOR_SHARE = 0.01
_STILL = 1e-4
Column = list[float]


class Point(msgspec.Struct, frozen=True):
    """One call: what was read, and how long the first token took after sending. ``uncached`` None: nobody counted."""

    took_ms: float
    uncached: float | None = None
    waiting: float = 0.0
    beside: float = 0.0


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """``n`` calls stand behind it; ``curve`` in ms a squared token, ``waiting_ms`` a request ahead, ``beside_ms`` a token beside."""

    floor_ms: float = 0.0
    start_ms: float = 0.0
    token_ms: float = 0.0
    curve: float = 0.0
    waiting_ms: float = 0.0
    beside_ms: float = 0.0
    n: int = 0
    uncached_median: float = 0.0

    def at(self, uncached: float | None, waiting: float = 0.0, beside: float = 0.0) -> float:
        """Milliseconds from sending to the first token; of an uncounted prompt as of the median one."""
        u = self.uncached_median if uncached is None else max(uncached, 0.0)
        own = self.start_ms + self.token_ms * u + self.curve * u * u
        return max(self.floor_ms, own) + self.waiting_ms * waiting + self.beside_ms * beside


def fit(points: Collection[Point]) -> Line:
    """Of no points a line of zeros. Terms that the data cannot tell apart from nothing stay 0."""
    if not points:
        return Line()
    counted = [point for point in points if point.uncached is not None]
    floor = sorted(point.took_ms for point in points)[int(_FLOOR_SHARE * len(points))]
    middle = median([float(point.uncached or 0) for point in counted])
    if len({point.uncached for point in counted}) < 2:
        flat = median([point.took_ms for point in points])
        return Line(floor_ms=min(floor, flat), start_ms=flat, n=len(points), uncached_median=middle)
    straight = _solved(counted, _terms(counted, curved=False))
    line = _line(straight, floor, middle, len(points))
    sizes = sorted(float(point.uncached or 0) for point in counted)
    if len(counted) >= _CURVE_CALLS_MIN and sizes[-1] > _CURVE_WIDTH * max(middle, 1.0):
        bent = _line(_solved(counted, _terms(counted, curved=True)), floor, middle, len(points))
        if bent.curve > 0 and _error(bent, counted) < (1 - _CURVE_GAIN) * _error(line, counted):
            return bent
    return line


Term = tuple[str, Callable[[Point], float]]


def _terms(points: Sequence[Point], curved: bool) -> list[Term]:
    terms: list[Term] = [("start_ms", lambda p: 1.0), ("token_ms", lambda p: p.uncached or 0.0)]
    if curved:
        terms.append(("curve", lambda p: (p.uncached or 0.0) ** 2))
    if _moves([p.waiting for p in points]):
        terms.append(("waiting_ms", lambda p: p.waiting))
    if _moves([p.beside for p in points]):
        terms.append(("beside_ms", lambda p: p.beside))
    return terms


def _moves(values: Sequence[float]) -> bool:
    usual = median(values)
    return sum(value != usual for value in values) >= _TERM_CALLS_MIN


def _line(found: dict[str, float], floor: float, middle: float, n: int) -> Line:
    return Line(floor_ms=floor, n=n, uncached_median=middle, **found)


def _error(line: Line, points: Sequence[Point]) -> float:
    return sum(abs(p.took_ms - line.at(p.uncached, p.waiting, p.beside)) / max(p.took_ms, 1.0) for p in points)


def _solved(points: Sequence[Point], terms: Sequence[Term]) -> dict[str, float]:
    """Coefficients by name, none but the start negative: a term that comes out below 0 is left out and the rest solved again."""
    used = list(terms)
    while True:
        values = [[value(p) for p in points] for _, value in used]
        scales = [max(max(map(abs, column)), 1e-12) for column in values]
        columns = [[each / scale for each in column] for column, scale in zip(values, scales, strict=True)]
        found = _least_absolute(columns, [max(p.took_ms, 1.0) for p in points])
        least = min(range(1, len(used)), key=lambda i: found[i], default=0)
        if least == 0 or found[least] >= 0:
            return {name: value / scale for (name, _), value, scale in zip(used, found, scales, strict=True)}
        del used[least]


def _least_absolute(columns: Sequence[Column], took: Column) -> list[float]:
    """Minimises sum |y - Xb| / y. Ends early where a round changes nothing any more."""
    near = [_CLOSE * y for y in took]
    found = _weighted(columns, took, [1 / (y * y) for y in took])
    for _ in range(ROUNDS):
        off = took
        for column, b in zip(columns, found, strict=True):
            off = [left - x * b for left, x in zip(off, column, strict=True)]
        weights = [1 / (y * max(abs(left), least)) for y, left, least in zip(took, off, near, strict=True)]
        before, found = found, _weighted(columns, took, weights)
        if all(abs(b - a) <= _STILL * abs(a) for a, b in zip(before, found, strict=True)):
            break
    return found


def _weighted(columns: Sequence[Column], took: Column, weights: Column) -> list[float]:
    """Least squares by normal equations, with a ridge so small that it only settles what the data leave open."""
    k = len(columns)
    sums = [[0.0] * (k + 1) for _ in range(k)]
    for i, column in enumerate(columns):
        weighted = list(map(mul, weights, column))
        for j in range(i, k):
            sums[i][j] = sums[j][i] = sum(map(mul, weighted, columns[j]))
        sums[i][k] = sum(map(mul, weighted, took))
    for i in range(k):
        sums[i][i] *= 1 + 1e-9
        sums[i][i] += 1e-15
    return _eliminated(sums)


def _eliminated(sums: list[list[float]]) -> list[float]:
    k = len(sums)
    for i in range(k):
        pivot = max(range(i, k), key=lambda r: abs(sums[r][i]))
        sums[i], sums[pivot] = sums[pivot], sums[i]
        for r in range(i + 1, k):
            share = sums[r][i] / sums[i][i]
            for j in range(i, k + 1):
                sums[r][j] -= share * sums[i][j]
    found = [0.0] * k
    for i in reversed(range(k)):
        found[i] = (sums[i][k] - sum(sums[i][j] * found[j] for j in range(i + 1, k))) / sums[i][i]
    return found
