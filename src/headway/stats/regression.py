"""A line through the medians: least absolute deviations, which a tenth of wild points does not bend, with a slope that cannot be negative."""

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from headway.stats.quantile import Floats

ROUNDS = 200
"""Of the golden section: the bracket shrinks to 1e-41 of itself, which is exact for a float."""
GOLDEN = (5**0.5 - 1) / 2


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """y = ``intercept`` + ``slope`` x; ``spread`` is the median of absolute residuals."""

    intercept: float
    slope: float
    spread: float
    n: int

    def at(self, x: float) -> float:
        return self.intercept + self.slope * x


def median_line(x: ArrayLike, y: ArrayLike) -> Line:
    """Minimises sum |y - a - b x| over a and b >= 0. For given b the best a is a median, and the sum is convex in b. ValueError without
    points, or where x and y differ in shape or are not finite. All x alike: slope 0."""
    xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if xs.ndim != 1 or xs.shape != ys.shape or xs.size == 0 or not (np.isfinite(xs).all() and np.isfinite(ys).all()):
        raise ValueError("x and y must be as many finite numbers, at least one")
    slope = _slope(xs, ys)
    intercept = float(np.median(ys - slope * xs))
    return Line(intercept=intercept, slope=slope, spread=float(np.median(np.abs(ys - intercept - slope * xs))), n=int(xs.size))


def _slope(xs: Floats, ys: Floats) -> float:
    order = np.argsort(xs)
    steps = np.diff(xs[order])
    rises = np.diff(ys[order])[steps > 0] / steps[steps > 0]
    if rises.size == 0:
        return 0.0
    low, high = 0.0, max(0.0, float(rises.max()))
    for _ in range(ROUNDS):
        if high - low <= 1e-15 * max(1.0, high):
            break
        left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        if _loss(xs, ys, left) <= _loss(xs, ys, right):
            high = right
        else:
            low = left
    middle = (low + high) / 2
    return 0.0 if _loss(xs, ys, 0.0) <= _loss(xs, ys, middle) else middle


def _loss(xs: Floats, ys: Floats, slope: float) -> float:
    rest = ys - slope * xs
    return float(np.abs(rest - np.median(rest)).sum())
