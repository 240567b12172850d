"""Where a span lies in time once its parent is placed. Rules, from the root down, for a child against its parent:

a. Told that nobody waits for it, or begun when its parent had ended: it is on no path (``outlives_parent`` where it ends later).
b. Begun before its parent: in another process its clock is behind, and it is moved by the overlap (``skew_shifted``), with what lies below it.
c. In another process, short enough to fit, ending at most ``skew_us_max`` late: its clock is ahead, likewise.
d. Ending later still: the only call of a span in another process is waited for until the caller gives up, so it is cut at the caller's end
   (``clipped_to_parent``); another child is cut too where most of it lies inside, and is on no path where most lies outside.

A span far from its root in time (1970 in a trace of today) is moved to its parent's start (``time_out_of_range``).
"""

import msgspec

from headway.calls.hops.counts import Counts
from headway.calls.hops.model import HopSpan
from headway.calls.hops.tree import Tree
from headway.kernel.limits import HOP_TRACE_US_MAX


class _Spot:
    """A placed span: what lies below it moves by ``moved_us``; ``whole_end_us`` is its end before it was cut."""

    __slots__ = ("awaited", "end_us", "moved_us", "start_us", "whole_end_us")

    def __init__(self, start_us: int, end_us: int, moved_us: int) -> None:
        self.start_us, self.end_us, self.whole_end_us, self.moved_us = start_us, end_us, end_us, moved_us
        self.awaited = True


def place(tree: Tree, counts: Counts, *, skew_us_max: int, earliest_us: int, latest_us: int) -> tuple[HopSpan, ...]:
    """In order of start, the root first."""
    spans, children = tree.spans, tree.children
    root = spans[0]
    if not earliest_us <= root.start_us <= latest_us:
        counts.add("time_out_of_range")
    spots: list[_Spot] = [_Spot(root.start_us, root.end_us, 0)] * len(spans)
    placed: list[tuple[int, int, HopSpan]] = []
    waiting = [0]
    while waiting:
        at = waiting.pop()
        parent, spot = spans[at], spots[at]
        below = children[at]
        if len(below) > 1:
            _count_retries([spans[place] for place in below], counts)
        for place in below:
            span = spans[place]
            spots[place] = _placed(span, spot, span.hop != parent.hop, len(below) == 1, skew_us_max, counts)
            mended = _as_placed(span, spots[place], parent.span)
            placed.append((mended.start_us, place, mended))
            if children[place]:
                waiting.append(place)
    placed.sort(key=lambda each: (each[0], -each[2].duration_us, each[2].span))
    return (root, *(each[2] for each in placed))


def _placed(span: HopSpan, parent: _Spot, remote: bool, only: bool, skew_us_max: int, counts: Counts) -> _Spot:
    start = span.start_us + parent.moved_us
    moved = parent.moved_us
    if abs(start - parent.start_us) > HOP_TRACE_US_MAX:
        counts.add("time_out_of_range")
        moved += parent.start_us - start
        start = parent.start_us
    spot = _Spot(start, start + span.duration_us, moved)
    before, after = parent.start_us - spot.start_us, spot.end_us - parent.whole_end_us
    if before <= 0 and spot.end_us <= parent.end_us and span.awaited:
        return spot
    if not span.awaited or (spot.start_us >= parent.end_us and spot.start_us > parent.start_us):
        spot.awaited = False
        if after > 0:
            counts.add("outlives_parent")
        return spot
    fits = span.duration_us <= parent.whole_end_us - parent.start_us
    if before > 0 and remote:
        _move(spot, before, counts)
    elif before <= 0 and remote and fits and 0 < after <= skew_us_max:
        _move(spot, -after, counts)
    _cut(spot, parent, remote and only, counts)
    return spot


def _move(spot: _Spot, by_us: int, counts: Counts) -> None:
    counts.add("skew_shifted")
    spot.start_us += by_us
    spot.end_us += by_us
    spot.whole_end_us += by_us
    spot.moved_us += by_us


def _cut(spot: _Spot, parent: _Spot, called: bool, counts: Counts) -> None:
    """To its parent's bounds, unless most of it lies after them."""
    outside = spot.end_us - parent.whole_end_us
    if not called and 2 * outside > spot.end_us - spot.start_us:
        spot.awaited = False
        counts.add("outlives_parent")
        return
    start, end = max(spot.start_us, parent.start_us), min(spot.end_us, parent.end_us)
    if (start, end) != (spot.start_us, spot.end_us):
        counts.add("clipped_to_parent")
        spot.start_us, spot.end_us = start, max(start, end)


def _as_placed(span: HopSpan, spot: _Spot, parent: str) -> HopSpan:
    duration = spot.end_us - spot.start_us
    same = span.start_us == spot.start_us and span.duration_us == duration and span.awaited == spot.awaited
    if same and span.parent == parent:
        return span
    return msgspec.structs.replace(span, parent=parent, start_us=spot.start_us, duration_us=duration, awaited=spot.awaited)


def _count_retries(siblings: list[HopSpan], counts: Counts) -> None:
    """Each sibling of one name that begins after a failed one has ended. They stay as they are: each try took its time."""
    failed: dict[tuple[str, str], int] = {}
    for span in siblings:
        if span.error:
            key = span.hop, span.name
            failed[key] = min(failed.get(key, span.end_us), span.end_us)
    if failed:
        again = sum(1 for span in siblings if failed.get((span.hop, span.name), span.start_us + 1) <= span.start_us)
        if again:
            counts.add("retry_sibling", again)
