"""Facts as OpenTelemetry spans, after the GenAI semantic conventions (https://opentelemetry.io/docs/specs/semconv/gen-ai/).

A call is a SERVER span with what Headway knows of it (``headway.*``); each attempt is a CLIENT span below it that carries ``gen_ai.*``, usage included, so that
a backend that adds up usage counts it once. A call that came with a ``traceparent`` is a child in its caller's trace; one made on another's behalf is linked to it. Ids follow from the call's id: a span
that is sent twice is the same span.
"""

import hashlib
from collections.abc import Iterable, Mapping

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from headway.calls.model import Outcome
from headway.facts.model import AttemptFact, CallFact, Fact, SpanFact
from headway.facts.repair import clamped
from headway.kernel.money import NANO_PER_USD

Value = str | bool | int | float | tuple[str, ...] | None
_NS_PER_MS = 1_000_000
_NS_PER_US = 1_000
_S_PER_MS = 0.001
_FINE = frozenset({Outcome.DONE, Outcome.CLIENT_GONE, Outcome.REFUSED})
"""Outcomes that are nobody's error, or the caller's: no error status on a server's span."""
_PROVIDERS = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "google": "gcp.gemini",
    "vertex": "gcp.vertex_ai",
    "mistral": "mistral_ai",
    "xai": "x_ai",
}
"""Well-known names where a provider goes by another one here; all others stay as configured."""
_OPERATIONS = {"/embeddings": "embeddings", "/images": "generate_content", "/audio": "generate_content"}


def span_of(fact: Fact) -> Span | None:
    """The span of a fact; None for rows that are no stretch of time."""
    if isinstance(fact, CallFact):
        return _call_span(fact)
    if isinstance(fact, AttemptFact):
        return _attempt_span(fact)
    if isinstance(fact, SpanFact):
        return _foreign_span(fact)
    return None


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


def trace_id(call: str) -> bytes:
    """Sixteen bytes that follow from a call's id."""
    return hashlib.blake2b(call.encode(), digest_size=16, person=b"headway.trace").digest()


def span_id(*parts: object) -> bytes:
    """Eight bytes that follow from what the span is about."""
    return hashlib.blake2b("\n".join(map(str, parts)).encode(), digest_size=8, person=b"headway.span").digest()


def operation(path: str) -> str:
    """``gen_ai.operation.name`` from the path that was called."""
    return next((name for part, name in _OPERATIONS.items() if part in path), "chat")


def provider_name(provider: str) -> str:
    """``gen_ai.provider.name`` from the provider's name in the configuration."""
    return _PROVIDERS.get(provider, provider)


def _call_span(fact: CallFact) -> Span:
    provider, _, _ = fact.routed.partition("/")
    values: dict[str, Value] = {
        "gen_ai.operation.name": operation(fact.path),
        "gen_ai.provider.name": provider_name(provider),
        "gen_ai.request.model": fact.requested,
        "gen_ai.request.stream": fact.stream,
        "gen_ai.response.model": fact.answered,
        "url.path": fact.path,
        "http.response.status_code": fact.status or None,
        "error.type": _error_type(fact.outcome, fact.error_code),
        "headway.call": fact.call,
        "headway.gateway": fact.gateway,
        "headway.tenant": fact.tenant,
        "headway.principal": fact.principal,
        "headway.feature": fact.feature,
        "headway.class": fact.klass,
        "headway.origin": fact.origin,
        "headway.outcome": fact.outcome,
        "headway.dialect": fact.dialect,
        "headway.wire": fact.wire,
        "headway.routed": fact.routed,
        "headway.run": fact.run,
        "headway.step": fact.step,
        "headway.prompt": fact.prompt_ref,
        "headway.attempts": fact.attempts,
        "headway.queue_ms": fact.queue_ms,
        "headway.first_token_ms": fact.first_token_ms,
        "headway.input_tokens": fact.input_tokens,
        "headway.output_tokens": fact.output_tokens,
        "headway.usage_source": fact.usage_source,
        "headway.cost_usd": None if fact.cost_nano_usd is None else fact.cost_nano_usd / NANO_PER_USD,
        "headway.lost": fact.lost,
        "headway.config_generation": fact.config_generation,
    }
    return Span(
        trace_id=_trace_of(fact),
        span_id=span_id(fact.call),
        parent_span_id=_caller_span(fact.traceparent),
        links=[Span.Link(trace_id=trace_id(fact.parent_call), span_id=span_id(fact.parent_call))] if fact.parent_call else [],
        name=f"headway {operation(fact.path)} {fact.feature or fact.requested}".rstrip(),
        kind=Span.SPAN_KIND_SERVER if not fact.parent_call else Span.SPAN_KIND_INTERNAL,
        start_time_unix_nano=_unix_ns(fact.started_wall_ms),
        end_time_unix_nano=_unix_ns(fact.started_wall_ms, fact.duration_ms),
        attributes=attributes(values),
        status=_status(fact.outcome, fact.error_detail or fact.error_code),
    )


def _attempt_span(fact: AttemptFact) -> Span:
    values: dict[str, Value] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": provider_name(fact.provider),
        "gen_ai.request.model": fact.upstream_model,
        "gen_ai.response.model": fact.answered,
        "gen_ai.response.time_to_first_chunk": None if fact.first_token_ms is None else fact.first_token_ms * _S_PER_MS,
        "gen_ai.usage.input_tokens": fact.input_tokens,
        "gen_ai.usage.output_tokens": fact.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": fact.cached_tokens,
        "http.response.status_code": fact.status or None,
        "error.type": _error_type(fact.outcome, fact.error_code),
        "headway.call": fact.call,
        "headway.gateway": fact.gateway,
        "headway.attempt": fact.attempt,
        "headway.endpoint": fact.endpoint,
        "headway.region": fact.region,
        "headway.fingerprint": fact.fingerprint,
        "headway.upstream_request": fact.upstream_request,
        "headway.outcome": fact.outcome,
        "headway.queue_ms": fact.queue_ms,
        "headway.connect_ms": fact.connect_ms,
        "headway.head_ms": fact.head_ms,
        "headway.last_token_ms": fact.last_token_ms,
        "headway.chunks": fact.chunks,
    }
    return Span(
        trace_id=_trace_of(fact),
        span_id=span_id(fact.call, fact.attempt),
        parent_span_id=span_id(fact.call),
        name=f"chat {fact.upstream_model}".rstrip(),
        kind=Span.SPAN_KIND_CLIENT,
        start_time_unix_nano=_unix_ns(fact.started_wall_ms),
        end_time_unix_nano=_unix_ns(fact.started_wall_ms, fact.duration_ms),
        attributes=attributes(values),
        status=_status(fact.outcome, fact.error_detail or fact.error_code),
    )


def _trace_of(fact: CallFact | AttemptFact) -> bytes:
    """The caller's trace where it named one, else one that follows from the call."""
    return bytes.fromhex(fact.traceparent[3:35]) if fact.traceparent else trace_id(fact.call)


def _caller_span(traceparent: str) -> bytes:
    return bytes.fromhex(traceparent[36:52]) if traceparent else b""


def _foreign_span(fact: SpanFact) -> Span | None:
    try:
        trace, span, parent = (bytes.fromhex(text) for text in (fact.trace, fact.span, fact.parent))
    except ValueError:
        return None
    if len(trace) != 16 or len(span) != 8 or len(parent) not in (0, 8):
        return None
    return Span(
        trace_id=trace,
        span_id=span,
        parent_span_id=parent,
        name=fact.name,
        kind=Span.SPAN_KIND_INTERNAL,
        start_time_unix_nano=fact.start_wall_us * _NS_PER_US,
        end_time_unix_nano=(fact.start_wall_us + max(0, fact.duration_us)) * _NS_PER_US,
        attributes=attributes({"headway.call": fact.call, "headway.gateway": fact.gateway}),
        status=Status(code=Status.STATUS_CODE_ERROR) if fact.status == "error" else Status(),
    )


def _unix_ns(wall_ms: int, later_ms: float = 0.0) -> int:
    return max(0, wall_ms) * _NS_PER_MS + max(0, int(later_ms * _NS_PER_MS))


def _error_type(outcome: str, code: str) -> str:
    return "" if outcome == Outcome.DONE else code or outcome


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
