"""Medians, spreads and ranks in plain Python: what a verdict needs where numpy may not be."""

from collections.abc import Sequence
from math import erfc, sqrt

import msgspec

MAD_TO_SIGMA = 1.4826
_P75_SIGMAS, _P90_SIGMAS = 0.6745, 1.2816
_TAIL_MAX = 1.25
"""The ninetieth percentile stretches the scale so far at most, which is what exponential and log-normal tails do: a tenth of wild values is not to
become the measure of itself."""


class Usual(msgspec.Struct, frozen=True, kw_only=True):
    """What a quantity usually is. ``scale`` is the larger of 1.4826 MAD and (p75 - median) / 0.6745, up to a quarter more where (p90 - median) / 1.2816
    is: a long upper tail is usual where it is usual."""

    n: int
    median: float
    scale: float
    p90: float
    mad: float
    """1.4826 MAD alone."""

    def units(self, value: float, floor: float = 1e-9) -> float:
        """How many scales ``value`` lies above the median."""
        return (value - self.median) / max(self.scale, floor)


def middle(ordered: Sequence[float]) -> float:
    """Median of sorted values; 0 of none."""
    n = len(ordered)
    if not n:
        return 0.0
    return ordered[n // 2] if n % 2 else (ordered[n // 2 - 1] + ordered[n // 2]) / 2


def median(values: Sequence[float]) -> float:
    return middle(sorted(values))


def mad_scale(values: Sequence[float], centre: float) -> float:
    """1.4826 x the median of absolute distances: a standard deviation that a third of wild values does not move."""
    return MAD_TO_SIGMA * median([abs(value - centre) for value in values])


def usual_of(values: Sequence[float]) -> Usual:
    """``ValueError`` of no values."""
    if not values:
        raise ValueError("nothing is usual of no values")
    ordered = sorted(values)
    centre = middle(ordered)
    p75, p90 = (ordered[min(int(share * len(ordered)), len(ordered) - 1)] for share in (0.75, 0.9))
    mad = mad_scale(ordered, centre)
    scale = max(mad, (p75 - centre) / _P75_SIGMAS)
    scale = max(scale, min((p90 - centre) / _P90_SIGMAS, _TAIL_MAX * scale))
    return Usual(n=len(ordered), median=centre, scale=scale, p90=p90, mad=mad)


def rank_sum_p(later: Sequence[float], earlier: Sequence[float]) -> float:
    """One-sided p that ``later`` is larger (Mann and Whitney 1947), by the normal approximation with ties; 1 where either is empty."""
    n, m = len(later), len(earlier)
    if not n or not m:
        return 1.0
    ranked = sorted([(value, True) for value in later] + [(value, False) for value in earlier])
    total, at, ties = 0.0, 0, 0.0
    while at < len(ranked):
        end = at
        while end < len(ranked) and ranked[end][0] == ranked[at][0]:
            end += 1
        run = end - at
        ties += run**3 - run
        total += sum(is_later for _, is_later in ranked[at:end]) * ((at + end + 1) / 2)
        at = end
    size = n + m
    variance = n * m / 12 * (size + 1 - ties / (size * (size - 1)))
    if variance <= 0:
        return 1.0
    shift = total - n * (n + 1) / 2 - n * m / 2
    return 0.5 * erfc((shift - 0.5) / sqrt(2 * variance))
