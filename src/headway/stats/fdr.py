"""Many tests at once: the share of false alarms among the alarms is held (Benjamini and Hochberg 1995)."""

import numpy as np
from numpy.typing import ArrayLike

from headway.stats.quantile import Floats


def adjusted(p_values: ArrayLike) -> Floats:
    """(k,) adjusted p-values in the given order: reject those at most the wanted false discovery rate. ValueError outside 0..1."""
    p = np.asarray(p_values, dtype=np.float64)
    if p.size == 0:
        return p
    if np.isnan(p).any() or p.min() < 0 or p.max() > 1:
        raise ValueError("p-values lie between 0 and 1")
    order = np.argsort(p)[::-1]
    ranks = np.arange(p.size, 0, -1)
    found = np.empty_like(p)
    found[order] = np.minimum.accumulate(np.minimum(1, p[order] * p.size / ranks))
    return found
