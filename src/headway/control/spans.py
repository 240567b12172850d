"""Facts as OpenTelemetry spans, after the GenAI semantic conventions; the names, and the version they have, stand in ``span_names.py``.

A call is a SERVER span with what Headway knows of it (``headway.*``) and its phases. Each attempt below it is a CLIENT span named
``{operation} {model}`` that alone carries ``gen_ai.*``, so that a backend that adds up operations or usage counts each once. A call that came with a
``traceparent`` is a child in its caller's trace; one made on another's behalf is linked to it. Ids follow from the call's id: a span that is sent twice
is the same span. Why a call was slow comes some two minutes later, as a child of its span.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from headway.calls.model import Outcome
from headway.calls.phases.model import Verdict
from headway.control.span_attributes import Host, Value, of_attempt, of_call, of_verdict, operation
from headway.control.span_names import SCHEMA_VERSION
from headway.facts.model import AttemptFact, CallFact, Fact, SpanFact
from headway.facts.repair import clamped
from headway.kernel.traces import span_id as span_id
from headway.kernel.traces import trace_id as trace_id
from headway.kernel.traces import trace_of

_NS_PER_MS = 1_000_000
_NS_PER_US = 1_000
_FINE = frozenset({Outcome.DONE, Outcome.CLIENT_GONE, Outcome.REFUSED})
"""Outcomes that are nobody's error, or the caller's: no error status on a server's span."""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """A row with what else is known of its call."""

    fact: Fact
    call: CallFact | None = None
    """Of an attempt: its call."""
    attempts: tuple[AttemptFact, ...] = ()
    """Of a call: its attempts."""


def together(facts: Sequence[Fact]) -> list[Told]:
    """Rows of one segment, each with the rest of its call: a gateway writes them one after the other."""
    calls = {fact.call: fact for fact in facts if type(fact) is CallFact}
    attempts: dict[str, list[AttemptFact]] = {}
    for fact in facts:
        if type(fact) is AttemptFact:
            attempts.setdefault(fact.call, []).append(fact)
    told = []
    for fact in facts:
        if type(fact) is CallFact:
            told.append(Told(fact=fact, attempts=tuple(attempts.get(fact.call, ()))))
        elif type(fact) is AttemptFact:
            told.append(Told(fact=fact, call=calls.get(fact.call)))
        else:
            told.append(Told(fact=fact))
    return told


def span_of(
    fact: Fact,
    *,
    call: CallFact | None = None,
    attempts: Sequence[AttemptFact] = (),
    known: Mapping[str, Host] | None = None,
) -> Span | None:
    """The span of a fact; None for rows that are no stretch of time, and for spans of others, which have their own way to a collector."""
    if isinstance(fact, CallFact):
        return _call_span(fact, attempts)
    if isinstance(fact, AttemptFact):
        return _attempt_span(fact, call, known or {})
    if isinstance(fact, SpanFact) and not fact.service:
        return _own_span(fact)
    return None


def span_told(told: Told, known: Mapping[str, Host]) -> Span | None:
    return span_of(told.fact, call=told.call, attempts=told.attempts, known=known)


def request_of(spans: Iterable[Span], resource: Mapping[str, Value]) -> ExportTraceServiceRequest:
    """One OTLP request of all ``spans`` under one resource."""
    scope = ScopeSpans(scope=InstrumentationScope(name="headway"), spans=spans)
    return ExportTraceServiceRequest(
        resource_spans=[ResourceSpans(resource=Resource(attributes=attributes(resource)), scope_spans=[scope])]
    )


def attributes(values: Mapping[str, Value]) -> list[KeyValue]:
    """Attributes that have a value; None and empty text are left out, since absent is not zero."""
    return [
        KeyValue(key=key, value=_any(value)) for key, value in values.items() if value is not None and value != "" and value != ()
    ]


def _call_span(fact: CallFact, attempts: Sequence[AttemptFact]) -> Span:
    what = operation(fact.path) or fact.path.removeprefix("/v1/").partition("/")[0]
    return Span(
        trace_id=trace_of(fact.call, fact.traceparent),
        span_id=span_id(fact.call),
        parent_span_id=_caller_span(fact.traceparent),
        links=[Span.Link(trace_id=trace_id(fact.parent_call), span_id=span_id(fact.parent_call))] if fact.parent_call else [],
        name=f"headway {what} {fact.feature or fact.requested}".rstrip(),
        kind=Span.SPAN_KIND_SERVER if not fact.parent_call else Span.SPAN_KIND_INTERNAL,
        start_time_unix_nano=_unix_ns(fact.started_wall_ms),
        end_time_unix_nano=_unix_ns(fact.started_wall_ms, fact.duration_ms),
        attributes=attributes(of_call(fact, attempts)),
        status=_status(fact.outcome, fact.error_detail or fact.error_code),
    )


def _attempt_span(fact: AttemptFact, call: CallFact | None, known: Mapping[str, Host]) -> Span:
    values = of_attempt(fact, call, known)
    return Span(
        trace_id=trace_of(fact.call, fact.traceparent),
        span_id=span_id(fact.call, fact.attempt),
        parent_span_id=span_id(fact.call),
        name=f"{values['gen_ai.operation.name']} {fact.upstream_model}".strip() or "attempt",
        kind=Span.SPAN_KIND_CLIENT,
        start_time_unix_nano=_unix_ns(fact.started_wall_ms),
        end_time_unix_nano=_unix_ns(fact.started_wall_ms, fact.duration_ms),
        attributes=attributes(values),
        status=_status(fact.outcome, fact.error_detail or fact.error_code),
    )


def verdict_span(call: CallFact, verdict: Verdict) -> Span:
    """Why a call was slow, as a child of its span that lasts as long: it is known only later, and a span cannot be sent twice."""
    return Span(
        trace_id=trace_of(call.call, call.traceparent),
        span_id=span_id(call.call, "verdict"),
        parent_span_id=span_id(call.call),
        name="headway verdict",
        kind=Span.SPAN_KIND_INTERNAL,
        start_time_unix_nano=_unix_ns(call.started_wall_ms),
        end_time_unix_nano=_unix_ns(call.started_wall_ms, call.duration_ms),
        attributes=attributes(of_verdict(call, verdict)),
    )


def _caller_span(traceparent: str) -> bytes:
    return bytes.fromhex(traceparent[36:52]) if traceparent else b""


def _own_span(fact: SpanFact) -> Span | None:
    try:
        trace, span, parent = (bytes.fromhex(text) for text in (fact.trace, fact.span, fact.parent))
    except ValueError:
        return None
    if len(trace) != 16 or len(span) != 8 or len(parent) not in (0, 8):
        return None
    values: dict[str, Value] = {
        "headway.schema.version": SCHEMA_VERSION,
        "headway.call": fact.call,
        "headway.gateway": fact.gateway,
    }
    return Span(
        trace_id=trace,
        span_id=span,
        parent_span_id=parent,
        name=fact.name,
        kind=Span.SPAN_KIND_INTERNAL,
        start_time_unix_nano=fact.start_wall_us * _NS_PER_US,
        end_time_unix_nano=(fact.start_wall_us + max(0, fact.duration_us)) * _NS_PER_US,
        attributes=attributes(values),
        status=Status(code=Status.STATUS_CODE_ERROR) if fact.status == "error" else Status(),
    )


def _unix_ns(wall_ms: int, later_ms: float = 0.0) -> int:
    return max(0, wall_ms) * _NS_PER_MS + max(0, int(later_ms * _NS_PER_MS))


def _status(outcome: str, detail: str) -> Status:
    return Status() if outcome in _FINE else Status(code=Status.STATUS_CODE_ERROR, message=detail)


def _any(value: Value) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=clamped(value))
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, tuple):
        return AnyValue(array_value=ArrayValue(values=[AnyValue(string_value=each) for each in value]))
    return AnyValue(string_value=value or "")
