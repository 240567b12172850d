"""What a trace's duration was spent on: from the end backwards, the child that finished last, cut to what is left of its parent.

The walk of CRISP (Zhang et al., ATC 2022). Every microsecond of the root falls to exactly one span, so the parts sum to the root (HOP-1).
A child that ran well into a later one was not waited for by it, and is passed over; one that overlaps it by a rounding is cut, where CRISP
would count the overlap twice. Who is waited for at all: ``waited_for``.
"""

from collections.abc import Sequence

from headway.calls.hops.model import HopSpan, HopTrace, PathPart
from headway.calls.hops.tree import children_of, waited_for

OVERLAP_PARTS = 20
"""A sibling may overlap the one after it by one part in so many of its own duration, and still be what that one waited for."""
Stretch = tuple[int, int, int]
"""Place of the owner among the spans, start and end in microseconds."""


def walk(trace: HopTrace) -> tuple[PathPart, ...]:
    """In order, touching each other, from the root's start to its end; a trace of 0 ms has none."""
    return tuple(
        PathPart(span=trace.spans[place].span, hop=trace.spans[place].hop, start_us=start, duration_us=end - start)
        for place, start, end in sorted(stretches(trace.spans), key=lambda stretch: stretch[1])
    )


def exclusive_us(trace: HopTrace) -> dict[str, int]:
    """Critical time by hop; hops that lie on no path are absent. Sums to the root's duration."""
    spans = trace.spans
    times: dict[str, int] = {}
    for place, start, end in stretches(spans):
        hop = spans[place].hop
        times[hop] = times.get(hop, 0) + end - start
    return times


def stretches(spans: Sequence[HopSpan], children: list[list[int]] | None = None) -> list[Stretch]:
    """In no order, none of them empty. ``children`` as ``children_of`` gives them, where they are known."""
    below = children_of(spans) if children is None else children
    starts = [span.start_us for span in spans]
    ends = [span.start_us + span.duration_us for span in spans]
    found: list[Stretch] = []
    waiting: list[Stretch] = [(0, starts[0], ends[0])]
    while waiting:
        at, low, high = waiting.pop()
        left = high
        kids = below[at]
        if len(kids) > 1:
            kids = waited_for(at, kids, spans, below)
            kids.sort(key=lambda kid: (ends[kid], starts[kid]), reverse=True)
        for kid in kids:
            if left <= low:
                break
            end = ends[kid] if ends[kid] < left else left
            start = starts[kid] if starts[kid] > low else low
            if start >= end or not spans[kid].awaited:
                continue
            if end < ends[kid] and left < high and (ends[kid] - end) * OVERLAP_PARTS > ends[kid] - starts[kid]:
                continue
            if end < left:
                found.append((at, end, left))
            waiting.append((kid, start, end))
            left = start
        if left > low:
            found.append((at, low, left))
    return found
