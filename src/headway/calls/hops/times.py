"""One row a trace: what hops cost on its critical path. All reports are made of these, so that a trace is walked once."""

from collections.abc import Iterable, Sequence

import msgspec

from headway.calls.hops.critical_path import stretches
from headway.calls.hops.model import HopSpan, HopTrace
from headway.calls.hops.tree import children_of


class TraceTimes(msgspec.Struct, frozen=True, kw_only=True):
    """``by_hop`` sums to ``duration_us``; microseconds."""

    trace: str
    request_type: str
    start_us: int
    duration_us: int
    by_hop: dict[str, int]
    model_us: int = 0
    """Of ``duration_us``, how much spans that call a language model own, and spans below them (the request that carries the call)."""
    tenant: str = ""
    cache_hit: bool | None = None
    prompt_band: str = ""


def times_of(trace: HopTrace) -> TraceTimes:
    spans, children = trace.spans, children_of(trace.spans)
    of_model = _of_model(spans, children)
    by_hop: dict[str, int] = {}
    model_us = 0
    for place, start, end in stretches(spans, children):
        hop = spans[place].hop
        by_hop[hop] = by_hop.get(hop, 0) + end - start
        if place in of_model:
            model_us += end - start
    return TraceTimes(
        trace=trace.trace,
        request_type=trace.request_type,
        start_us=trace.spans[0].start_us,
        duration_us=trace.duration_us,
        by_hop=by_hop,
        model_us=model_us,
        tenant=trace.tenant,
        cache_hit=trace.cache_hit,
        prompt_band=trace.prompt_band,
    )


def _of_model(spans: Sequence[HopSpan], children: list[list[int]]) -> set[int]:
    """Places of calls of a model and of all below them."""
    found: set[int] = set()
    waiting = [place for place, span in enumerate(spans) if span.is_model]
    while waiting:
        place = waiting.pop()
        if place not in found:
            found.add(place)
            waiting += children[place]
    return found


def all_times(traces: Iterable[HopTrace]) -> list[TraceTimes]:
    return [times_of(trace) for trace in traces]
