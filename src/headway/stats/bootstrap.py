"""Intervals by drawing the same observations again (Efron 1979). Rows are what is drawn: a trace stays whole."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from headway.stats.quantile import Floats

Indices = NDArray[np.intp]


def resamples(n: int, count: int, seed: int) -> Indices:
    """Places (count, n) of rows drawn with replacement; the same for the same seed."""
    return np.random.default_rng(seed).integers(0, n, size=(count, n), dtype=np.intp)


def bootstrap(n: int, statistic: Callable[[Indices], Floats], *, count: int, seed: int) -> Floats:
    """(count, k): ``statistic`` of k numbers on each resample of n rows. One resample is in memory at a time."""
    draw = np.random.default_rng(seed)
    return np.stack([np.atleast_1d(statistic(draw.integers(0, n, size=n, dtype=np.intp))) for _ in range(count)])


def interval(samples: Floats, level: float = 0.95) -> tuple[Floats, Floats]:
    """(low, high) of each column of (count, k), by percentiles."""
    edge = (1 - level) / 2
    low, high = np.quantile(samples, [edge, 1 - edge], axis=0)
    return np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
