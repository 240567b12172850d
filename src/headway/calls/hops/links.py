"""Critical time told apart by work and by waiting for a call: what evidence of one slow process looks like.

A span whose only child is in another process does nothing but wait for it; what it owns alone is the network, the queue before the callee and
the callee's threads: time of the link, not of the caller's work.
"""

import msgspec

from headway.calls.hops.critical_path import stretches
from headway.calls.hops.model import HopTrace
from headway.calls.hops.tree import children_of

Link = tuple[str, str]
"""Caller and callee; the same twice for a hop's own work."""


class LinkTimes(msgspec.Struct, frozen=True, kw_only=True):
    """``by_link`` sums to ``duration_us``; ``calls`` counts spans, on the path or not."""

    trace: str
    request_type: str
    start_us: int
    duration_us: int
    by_link: dict[Link, int]
    calls: dict[Link, int]


def link_times(trace: HopTrace) -> LinkTimes:
    spans, children = trace.spans, children_of(trace.spans)
    links: list[Link] = []
    calls: dict[Link, int] = {}
    for place, span in enumerate(spans):
        below = children[place]
        link = (span.hop, spans[below[0]].hop if len(below) == 1 else span.hop)
        links.append(link)
        calls[link] = calls.get(link, 0) + 1
    times: dict[Link, int] = {}
    for place, start, end in stretches(spans, children):
        times[links[place]] = times.get(links[place], 0) + end - start
    return LinkTimes(
        trace=trace.trace,
        request_type=trace.request_type,
        start_us=spans[0].start_us,
        duration_us=spans[0].duration_us,
        by_link=times,
        calls=calls,
    )
