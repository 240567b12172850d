"""Spans of one trace as one tree, whatever their parents say: missing ones, cycles and several roots are mended and counted."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate

from headway.calls.hops.counts import Counts
from headway.calls.hops.model import HopSpan
from headway.kernel.limits import HOP_TRACE_US_MAX

MISSING = "(missing)"
"""Hop of a root that no span tells of: its exclusive time is what nobody reported."""


class Tree:
    """``spans`` in no order but the root first; ``children`` are places in it."""

    __slots__ = ("children", "spans")

    def __init__(self, spans: list[HopSpan], children: list[list[int]]) -> None:
        self.spans, self.children = spans, children


def rooted(trace: str, spans: Mapping[str, HopSpan], counts: Counts, *, earliest_us: int, latest_us: int) -> Tree:
    """``spans`` by id, at least one. The earliest span without a parent is the root, those with a sane time before others; where there is
    none, the one whose parent is missing, and where several are, a span that covers them."""
    heads = _cut_cycles(spans, counts)
    roots = [span for span in spans.values() if not span.parent]
    orphans = [span for span in spans.values() if span.parent and (span.parent not in spans or span.span in heads)]
    missing = sum(1 for span in orphans if span.parent not in spans)
    if missing:
        counts.add("parent_missing", missing)
    if len(roots) > 1:
        counts.add("root_extra", len(roots) - 1)
    tops = sorted(roots or orphans, key=lambda span: (not earliest_us <= span.start_us <= latest_us, _order(span)))
    root = tops[0] if roots or len(tops) == 1 else _cover(trace, tops, spans, counts)
    ordered = [root, *(span for span in spans.values() if span is not root)]
    places = {span.span: place for place, span in enumerate(ordered)}
    children: list[list[int]] = [[] for _ in ordered]
    for place, span in enumerate(ordered):
        if place:
            children[0 if span.span in heads else places.get(span.parent, 0)].append(place)
    return Tree(ordered, children)


def children_of(spans: Sequence[HopSpan]) -> list[list[int]]:
    """Of a clean trace: places of each span's children, in order of start."""
    places = {span.span: place for place, span in enumerate(spans)}
    children: list[list[int]] = [[] for _ in spans]
    for place in range(1, len(spans)):
        children[places.get(spans[place].parent, 0)].append(place)
    return children


def waited_for(at: int, kids: list[int], spans: Sequence[HopSpan], children: list[list[int]]) -> list[int]:
    """Those of ``kids`` that can hold up their parent.

    Not those that nobody awaits, and not a span of the parent's own hop that has no children and runs beside one that has: it tells of the
    parent's work (a handler, an execution), most of which is waiting for that other one.
    """
    waited = [kid for kid in kids if spans[kid].awaited]
    if len(waited) < 2:
        return waited
    hop = spans[at].hop
    calls = sorted((spans[kid].start_us, spans[kid].end_us) for kid in waited if children[kid])
    if not calls or len(calls) == len(waited):
        return waited
    begins, last_ends = [start for start, _ in calls], list(accumulate((end for _, end in calls), max))

    def beside(span: HopSpan) -> bool:
        begun = bisect_left(begins, span.end_us)
        return begun > 0 and last_ends[begun - 1] > span.start_us

    return [kid for kid in waited if children[kid] or spans[kid].hop != hop or not beside(spans[kid])]


def _order(span: HopSpan) -> tuple[int, int, str]:
    return span.start_us, -span.duration_us, span.span


def _cover(trace: str, tops: list[HopSpan], spans: Mapping[str, HopSpan], counts: Counts) -> HopSpan:
    """As long as what it stands for: from the first start to the last end of the spans whose parent is not there."""
    counts.add("root_missing")
    sane = [top for top in tops if abs(top.start_us - tops[0].start_us) <= HOP_TRACE_US_MAX]
    began = min(top.start_us for top in sane)
    name = parent if (parent := tops[0].parent) not in spans else f"{parent}/root"
    return HopSpan(trace=trace, span=name, hop=MISSING, start_us=began, duration_us=max(top.end_us for top in sane) - began)


def _cut_cycles(spans: Mapping[str, HopSpan], counts: Counts) -> set[str]:
    """Ids of one span of each cycle, the earliest: there it is cut. Every span is looked at once."""
    done: set[str] = set()
    heads: set[str] = set()
    for start in spans:
        trail: list[str] = []
        on_trail: set[str] = set()
        at = start
        while at in spans and at not in done and at not in on_trail:
            trail.append(at)
            on_trail.add(at)
            at = spans[at].parent
        if at in on_trail:
            cycle = trail[trail.index(at) :]
            heads.add(min((spans[each] for each in cycle), key=_order).span)
            counts.add("cycle_cut")
        done |= on_trail
    return heads
