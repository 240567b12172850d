"""Spans as they were read, whatever form they came in, and the rules that need the whole trace to say whose time a span is.

1. Of nested calls of a model the innermost is the model; those around it (a framework's, a proxy's, Headway's own) belong to their services.
2. What a model's span holds in its own service, such as its HTTP request, is the model's time too.
3. A client's span without children is its peer's time, where it names one: nobody there tells of itself.
4. A consumer's span under a producer's is not awaited.
"""

from collections.abc import Iterable, Sequence

import msgspec

from headway.calls.hops.model import HopSpan
from headway.calls.hops.recognise import MODEL

CLIENT, CONSUMER, PRODUCER = "client", "consumer", "producer"
UNNAMED = "(unnamed)"
"""A service that says no name."""


class SeenSpan(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One span. ``hop`` is what its attributes say of who owns its time; empty: its service."""

    trace: str
    span: str
    parent: str = ""
    service: str = ""
    name: str = ""
    kind: str = ""
    """client, server, internal, producer, consumer or empty."""
    role: str = ""
    hop: str = ""
    peer: str = ""
    start_us: int
    duration_us: int
    awaited: bool = True
    error: bool = False
    tenant: str = ""
    input_tokens: int | None = None
    cached_tokens: int | None = None
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


class Labels(msgspec.Struct, frozen=True, kw_only=True):
    """What a trace can be told apart by, besides its type. ``input_tokens`` of its largest call of a model."""

    tenant: str = ""
    cache_hit: bool | None = None
    input_tokens: int | None = None


def by_trace(seen: Iterable[SeenSpan]) -> dict[str, list[SeenSpan]]:
    """In order of first sight."""
    traces: dict[str, list[SeenSpan]] = {}
    for span in seen:
        traces.setdefault(span.trace, []).append(span)
    return traces


def hop_spans(members: Sequence[SeenSpan]) -> list[HopSpan]:
    """The spans of one trace, each with its owner. In the order given; nothing is mended or left out here."""
    if not any(span.role or span.peer or span.kind == CONSUMER for span in members):
        return [_as_hop(span, span.hop or span.service or UNNAMED, is_model=False, awaited=span.awaited) for span in members]
    known = {span.span: span for span in members}
    children: dict[str, list[SeenSpan]] = {}
    for span in members:
        if span.parent:
            children.setdefault(span.parent, []).append(span)
    around = _around_models(members, known)
    models = [span for span in members if span.role == MODEL and span.span not in around]
    owned = _within(models, children)
    called = {span.span for span in models}
    return [
        _as_hop(
            span,
            owned.get(span.span) or _owner(span, around, children) or UNNAMED,
            is_model=span.span in called,
            awaited=span.awaited and not (span.kind == CONSUMER and _kind(span.parent, known) == PRODUCER),
        )
        for span in members
    ]


def labels(members: Iterable[SeenSpan]) -> Labels:
    """Of one trace: the first tenant named, whether anything was read from a cache, and the largest prompt."""
    tenant, cached, tokens = "", None, None
    for span in members:
        tenant = tenant or span.tenant
        if span.role != MODEL:
            continue
        if span.cached_tokens is not None:
            cached = bool(cached) or span.cached_tokens > 0
        if span.input_tokens is not None:
            tokens = max(tokens or 0, span.input_tokens)
    return Labels(tenant=tenant, cache_hit=cached, input_tokens=tokens)


def _as_hop(span: SeenSpan, hop: str, *, is_model: bool, awaited: bool) -> HopSpan:
    return HopSpan(
        trace=span.trace,
        span=span.span,
        parent=span.parent,
        hop=hop,
        name=span.name,
        start_us=span.start_us,
        duration_us=span.duration_us,
        awaited=awaited,
        error=span.error,
        is_model=is_model,
        inputs=span.inputs,
        outputs=span.outputs,
    )


def _kind(span: str, known: dict[str, SeenSpan]) -> str:
    return known[span].kind if span in known else ""


def _around_models(members: Sequence[SeenSpan], known: dict[str, SeenSpan]) -> set[str]:
    """Ids of all spans that have a model's span below them. Each is walked over once, so that a cycle ends."""
    found: set[str] = set()
    for span in members:
        at = span.parent if span.role == MODEL else ""
        while at in known and at not in found:
            found.add(at)
            at = known[at].parent
    return found


def _within(models: Sequence[SeenSpan], children: dict[str, list[SeenSpan]]) -> dict[str, str]:
    """Hop by id, of models' spans and of what they hold in their own services."""
    owned: dict[str, str] = {}
    for model in models:
        hop = model.hop or MODEL
        waiting = [model]
        while waiting:
            span = waiting.pop()
            if span.span in owned:
                continue
            owned[span.span] = hop
            waiting += [kid for kid in children.get(span.span, ()) if kid.service == model.service and not kid.role and not kid.hop]
    return owned


def _owner(span: SeenSpan, around: set[str], children: dict[str, list[SeenSpan]]) -> str:
    if span.role == MODEL and span.span in around:
        return span.service
    if span.hop:
        return span.hop
    if span.peer and span.kind in (CLIENT, PRODUCER) and span.span not in children:
        return span.peer
    return span.service
