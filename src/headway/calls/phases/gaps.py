"""Gaps between the reads of a streamed answer: how long, how many, which of them were stalls, and which were no gaps of the provider's at all.

A gap lies between two reads from the first token to the last. While our own write to the caller is blocked we do not read, so that time is
taken out of the gap; what then remains of a blocked gap is judged as a stall, but says nothing of the provider's pace and is in no median.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from itertools import pairwise
from math import ceil
from operator import itemgetter

import msgspec

from headway.calls.phases.model import Seen

STALL_MEDIANS = 5.0
STALL_MS_MIN = 250.0
STALL_GAPS_MIN = 4
"""Before so many gaps there is no running median: the whole answer's stands in, so that slow chunks from the start are no stall."""
_UNTIL = itemgetter(1)
_TICK_MS = 0.1
"""Token times are rounded to this: a read may seem that much earlier than the first token that it held."""


class Stall(msgspec.Struct, frozen=True, kw_only=True):
    """A gap longer than max(STALL_MEDIANS x running median, STALL_MS_MIN). ``excess_ms`` is without its ordinary part, the median."""

    at_ms: float
    """Where it began, from arrival."""
    gap_ms: float
    excess_ms: float


class Gaps(msgspec.Struct, frozen=True, kw_only=True):
    """The gaps of one answer, shortest first, and its stalls in order of time."""

    sorted_ms: tuple[float, ...] = ()
    stalls: tuple[Stall, ...] = ()
    blocked: int = 0
    """Gaps in which our write was blocked; they are in ``sorted_ms`` no more than any other write of ours."""

    @property
    def n(self) -> int:
        return len(self.sorted_ms)

    @property
    def longest_ms(self) -> float | None:
        return self.sorted_ms[-1] if self.sorted_ms else None

    @property
    def stalled_ms(self) -> float:
        return sum(stall.excess_ms for stall in self.stalls)

    def quantile_ms(self, share: float) -> float | None:
        """The value of rank ceil(n x share); None without gaps."""
        return self.sorted_ms[max(ceil(self.n * share), 1) - 1] if self.sorted_ms else None

    def over_medians(self, k: float) -> int:
        """How many gaps are longer than ``k`` medians."""
        median = self.quantile_ms(0.5)
        return 0 if median is None else self.n - bisect_right(self.sorted_ms, k * median)


def gaps_between(
    reads_ms: Sequence[float], first_ms: float, last_ms: float, blocked_at_ms: Sequence[tuple[float, float]] = ()
) -> Gaps:
    """``reads_ms`` in order; those before the first token and after the last do not count. The running median is of the gaps before."""
    reads = reads_ms[bisect_left(reads_ms, first_ms - _TICK_MS) : bisect_right(reads_ms, last_ms + _TICK_MS)]
    if not blocked_at_ms:
        lengths = [end - begin for begin, end in pairwise(reads)]
        free = sorted(lengths)
        return Gaps(sorted_ms=tuple(free), stalls=_stalls(reads, lengths, (), free))
    lengths = [max(end - begin - overlap_ms(blocked_at_ms, begin, end), 0.0) for begin, end in pairwise(reads)]
    ours = [length < end - begin for length, (begin, end) in zip(lengths, pairwise(reads), strict=True)]
    free = sorted(length for length, blocked in zip(lengths, ours, strict=True) if not blocked)
    return Gaps(sorted_ms=tuple(free), stalls=_stalls(reads, lengths, ours, free), blocked=sum(ours))


def _stalls(reads: Sequence[float], lengths: Sequence[float], ours: Sequence[bool], free: Sequence[float]) -> tuple[Stall, ...]:
    """``lengths`` of the gaps without our own blocking; ``ours``: which were blocked, empty where none; ``free``: the others, sorted."""
    if max(lengths, default=0.0) <= STALL_MS_MIN:
        return ()
    before: list[float] = []
    stalls = []
    for number, (at_ms, gap) in enumerate(zip(reads, lengths, strict=False)):
        if gap > STALL_MS_MIN:
            median = _median(before if len(before) >= STALL_GAPS_MIN else free)
            if gap > STALL_MEDIANS * median:
                stalls.append(Stall(at_ms=at_ms, gap_ms=gap, excess_ms=gap - median))
        if not ours or not ours[number]:
            insort(before, gap)
    return tuple(stalls)


def _median(ordered: Sequence[float]) -> float:
    return ordered[(len(ordered) - 1) // 2] if ordered else 0.0


def gaps_of(seen: Seen) -> Gaps:
    """The gaps of a call; none where it has no token times."""
    if seen.first_token_ms is None or len(seen.token_ms) < 2:
        return Gaps()
    last_ms = seen.last_token_ms if seen.last_token_ms is not None else seen.token_ms[-1]
    return gaps_between(seen.token_ms, seen.first_token_ms, last_ms, seen.blocked_at_ms)


def overlap_ms(intervals_ms: Sequence[tuple[float, float]], begin_ms: float, end_ms: float) -> float:
    """How much of [begin, end] lies in ``intervals_ms``, which are in order and do not overlap."""
    found = 0.0
    for at in range(bisect_right(intervals_ms, begin_ms, key=_UNTIL), len(intervals_ms)):
        since, until = intervals_ms[at]
        if since >= end_ms:
            break
        found += max(min(until, end_ms) - max(since, begin_ms), 0.0)
    return found
