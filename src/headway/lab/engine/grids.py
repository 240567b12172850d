"""Piecewise linear curves, and grids of them: below the first point flat, past the last one straight on."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import product
from typing import TypeAlias

Point4: TypeAlias = tuple[int, int, int, int]


class Curve:
    """A value over a count, at known counts in rising order."""

    __slots__ = ("_xs", "_ys")

    def __init__(self, points: Sequence[tuple[int, float]]) -> None:
        assert points, "a curve has points"
        self._xs = [x for x, _ in points]
        self._ys = [y for _, y in points]

    def at(self, x: float) -> float:
        xs, ys = self._xs, self._ys
        if x <= xs[0] or len(xs) == 1:
            return ys[0]
        i = min(bisect_right(xs, x), len(xs) - 1)
        return ys[i - 1] + (ys[i] - ys[i - 1]) * (x - xs[i - 1]) / (xs[i] - xs[i - 1])


class Grid:
    """A value over two axes. Rows may be known at different columns; a row that ends before the others is left out."""

    __slots__ = ("_curves", "_rows")

    def __init__(self, points: Mapping[tuple[int, int], float]) -> None:
        rows: dict[int, list[tuple[int, float]]] = {}
        for (row, column), value in sorted(points.items()):
            rows.setdefault(row, []).append((column, value))
        last = max(column for _, column in points)
        whole = {row: known for row, known in rows.items() if known[-1][0] == last}
        self._rows = list(whole)
        self._curves = [Curve(known) for known in whole.values()]

    def at(self, row: float, column: float) -> float:
        rows, curves = self._rows, self._curves
        if row <= rows[0] or len(rows) == 1:
            return curves[0].at(column)
        i = min(bisect_right(rows, row), len(rows) - 1)
        share = (row - rows[i - 1]) / (rows[i] - rows[i - 1])
        return curves[i - 1].at(column) * (1 - share) + curves[i].at(column) * share


class Grid4:
    """A value over four axes, known at each crossing. Past the last point of an axis it stays, but goes straight on along ``straight``.

    Straight on along several axes at once would multiply: far out, a small bend becomes any number. KeyError when a crossing is missing.
    """

    __slots__ = ("_axes", "_straight", "_values")

    def __init__(self, axes: Sequence[Sequence[int]], values: Mapping[Point4, float], *, straight: int | None = None) -> None:
        self._straight = straight
        self._axes = [list(axis) for axis in axes]
        self._values = [values[a, b, c, d] for a, b, c, d in product(*axes)]

    def at(self, *point: float) -> float:
        corners = [(0, 1.0)]
        for place, (axis, x) in enumerate(zip(self._axes, point, strict=True)):
            i, share = _place(axis, x if place == self._straight else min(x, axis[-1]))
            size = len(axis)
            near = [(base * size + i, weight * (1 - share)) for base, weight in corners]
            corners = near + [(base * size + i + 1, weight * share) for base, weight in corners] if share else near
        return sum(self._values[index] * weight for index, weight in corners)


def _place(axis: list[int], x: float) -> tuple[int, float]:
    """The cell that ``x`` is in, and how far into it: over 1 past the last point."""
    if x <= axis[0] or len(axis) == 1:
        return 0, 0.0
    i = min(bisect_right(axis, x), len(axis) - 1) - 1
    return i, (x - axis[i]) / (axis[i + 1] - axis[i])
