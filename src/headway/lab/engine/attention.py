"""What attention costs in one layer, from measured kernel times. Microseconds."""

from collections.abc import Mapping
from typing import Final

from headway.lab.engine.grids import Grid, Grid4, Point4
from headway.lab.engine.model import StepWork

LEAST: Final = 16
"""Chunks and contexts were measured from here on, doubling."""


DECODES: Final = 2
"""The axis of how many decode: measured to 128 beside a prefill, and what they lose there goes on with their number."""


class Attention:
    """Each prefill chunk at its context, decodes at their mean context, and two things that a sum of the two misses.

    A step that holds both runs them in one kernel call, in which decodes lose the layout made for them: what the joint
    measurement takes more than its parts. And a call ends with its longest member: ``skew`` of the way from the time at the mean
    context to that at the longest.
    """

    __slots__ = ("_decode", "_prefill", "_skew", "_together")

    def __init__(self, times: Mapping[Point4, float], *, skew: float = 0.0) -> None:
        self._prefill = Grid({key[:2]: us for key, us in times.items() if key[2] == 0})
        self._decode = Grid({key[2:]: us for key, us in times.items() if key[0] == 0})
        self._together = _excess(times)
        self._skew = skew

    def layer_us(self, work: StepWork) -> float:
        prefill = sum(self._prefill.at(chunk, before) for chunk, before in work.chunks)
        count = work.decodes
        if not count:
            return prefill
        mean = work.decode_context / count
        decode = self._decode.at(count, mean)
        skewed = 0.0
        if self._skew and work.decode_context_max > mean:
            skewed = self._skew * (self._decode.at(count, work.decode_context_max) - decode)
        if not work.chunks:
            return decode + skewed
        tokens = sum(chunk for chunk, _ in work.chunks)
        before = sum(chunk * context for chunk, context in work.chunks) / tokens
        both = prefill + decode + self._together.at(tokens, before, count, mean)
        return max(both, prefill, decode) + skewed


def _excess(times: Mapping[Point4, float]) -> Grid4:
    """Joint time less the parts, at the doublings that were measured with all others."""
    mixed = [key for key in times if key[0] and key[2] and all(map(_doubling, (key[0], key[1], key[3])))]
    axes = [sorted({key[i] for key in mixed}) for i in range(4)]
    excess = {key: times[key] - times[key[0], key[1], 0, 0] - times[0, 0, key[2], key[3]] for key in mixed}
    return Grid4(axes, excess, straight=DECODES)


def _doubling(count: int) -> bool:
    return count == 0 or (count >= LEAST and count & (count - 1) == 0)
