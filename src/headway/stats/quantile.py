"""Quantiles: linear between order statistics, weighted, and the weights of a window around one."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def quantile(values: ArrayLike, share: float) -> float:
    """By linear interpolation between the two nearest order statistics. ValueError for no values or a share outside 0..1."""
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0 or not 0 <= share <= 1:
        raise ValueError(f"no quantile {share} of {array.size} values")
    return float(np.quantile(array, share))


def weighted_quantile(values: ArrayLike, weights: ArrayLike, share: float) -> float:
    """Linear between the middles of the weights, so that equal weights give ``(i + 1/2) / n``. ValueError where weights do not fit values,
    are negative or sum to 0."""
    array, weight = np.asarray(values, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    if array.shape != weight.shape or array.size == 0 or weight.min() < 0 or weight.sum() <= 0 or not 0 <= share <= 1:
        raise ValueError("weights must be as many as values, none negative, not all 0")
    order = np.argsort(array, kind="stable")
    order = order[weight[order] > 0]
    sums = np.cumsum(weight[order])
    places = (sums - weight[order] / 2) / sums[-1]
    return float(np.interp(share, places, array[order]))


def window_weights(n: int, share: float, least: int, span: float = 0.5) -> Floats:
    """Weights (n,) over ranks 0..n-1 of sorted values, an Epanechnikov kernel around the quantile ``share``; they sum to 1.

    Its half width is ``span`` of the distance from ``share`` to the nearer end, and more where that holds fewer than ``least`` ranks.
    """
    if n == 0:
        raise ValueError("no values")
    centre = share * (n - 1)
    away = np.abs(np.arange(n) - centre)
    enough = float(np.partition(away, min(least, n) - 1)[min(least, n) - 1])
    half = max(span * min(share, 1 - share) * n, enough) + 1
    weights = np.clip(1 - (away / half) ** 2, 0, None)
    return np.asarray(weights / weights.sum(), dtype=np.float64)
