"""Is a difference more than the labels' luck? Labels are exchanged within strata only, so that a shift of the mix is not a difference."""

import numpy as np
from numpy.typing import NDArray

from headway.stats.quantile import Floats


def stratified_difference(values: Floats, second: NDArray[np.bool_], strata: NDArray[np.intp]) -> Floats:
    """(k,) of values (n, k): mean in the second window less mean in the first, within each stratum, weighted by its rows in the second.
    A stratum that lacks a window counts for nothing; all lacking gives zeros."""
    weights = _weights(second, strata)
    return np.asarray(weights @ values, dtype=np.float64)


def permutation_test(
    values: Floats, second: NDArray[np.bool_], strata: NDArray[np.intp], *, count: int, seed: int
) -> tuple[Floats, Floats]:
    """Differences (k,) and two-sided p-values (k,), never below 1 / (count + 1) (Phipson and Smyth 2010)."""
    seen = stratified_difference(values, second, strata)
    draw = np.random.default_rng(seed)
    groups = [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]
    at_least = np.zeros(values.shape[1])
    shuffled = second.copy()
    for _ in range(count):
        for group in groups:
            shuffled[group] = second[group][draw.permutation(group.size)]
        drawn = _weights(shuffled, strata) @ values
        at_least += np.abs(drawn) >= np.abs(seen) - 1e-9
    return seen, np.asarray((at_least + 1) / (count + 1), dtype=np.float64)


def _weights(second: NDArray[np.bool_], strata: NDArray[np.intp]) -> Floats:
    """(n,) whose dot product with a column is the difference."""
    bins = int(strata.max(initial=0)) + 1
    later = np.bincount(strata[second], minlength=bins).astype(np.float64)
    earlier = np.bincount(strata[~second], minlength=bins).astype(np.float64)
    both = (later > 0) & (earlier > 0)
    share = np.where(both, later, 0)
    if share.sum() == 0:
        return np.zeros(second.size)
    share = share / share.sum()
    up = np.divide(share, later, out=np.zeros(bins), where=both)
    down = np.divide(share, earlier, out=np.zeros(bins), where=both)
    return np.asarray(np.where(second, up[strata], -down[strata]), dtype=np.float64)
