"""Spans as a collector receives them, and a collector that misbehaves."""

import time
from collections.abc import Iterator

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from otlp_collector import Collector, plain, until

from headway.control import otlp
from headway.control.otlp import SpanExport
from headway.control.spans import span_id, span_of, trace_id
from headway.facts.model import AttemptFact, CallFact, FeedbackFact, SpanFact
from headway.kernel.errors import ConfigError
from headway.kernel.limits import SPAN_QUEUE_MAX, SPANS_PER_POST_MAX

CALL = CallFact(
    call="call_1",
    started_wall_ms=1_764_000_000_000,
    duration_ms=1500.5,
    gateway="gw",
    tenant="acme",
    feature="search",
    path="/v1/chat/completions",
    requested="search",
    routed="mistral/large",
    answered="mistral-large-2512",
    outcome="done",
    status=200,
    attempts=2,
    stream=True,
    lost=("logprobs", "seed"),
    cost_nano_usd=1_500_000,
)
ATTEMPT = AttemptFact(
    call="call_1",
    attempt=2,
    started_wall_ms=1_764_000_000_100,
    gateway="gw",
    provider="mistral",
    upstream_model="large",
    answered="mistral-large-2512",
    first_token_ms=250.0,
    input_tokens=12,
    output_tokens=0,
    cached_tokens=None,
    duration_ms=900.0,
    status=200,
)


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


def test_what_a_collector_receives(collector: Collector) -> None:
    export = SpanExport(collector.address, version="1.2", headers={"authorization": "Bearer x"})
    export.offer([CALL, ATTEMPT, FeedbackFact(call="call_1", kind="copied", at_wall_ms=1)])
    until(collector.spans)
    export.close()
    assert collector.paths == ["/v1/traces", "/v1/metrics"], "what was counted goes at the end"
    assert collector.heads[0]["content-type"] == "application/x-protobuf"
    assert collector.heads[0]["authorization"] == "Bearer x"
    resource = collector.requests[0].resource_spans[0].resource
    assert {each.key: each.value.string_value for each in resource.attributes} == {
        "service.name": "headway",
        "service.version": "1.2",
    }
    call, attempt = collector.spans()
    assert call.kind == Span.SPAN_KIND_SERVER
    assert attempt.kind == Span.SPAN_KIND_CLIENT
    assert call.trace_id == attempt.trace_id == trace_id("call_1")
    assert attempt.parent_span_id == call.span_id == span_id("call_1")
    assert attempt.span_id != call.span_id
    assert call.end_time_unix_nano - call.start_time_unix_nano == 1_500_500_000
    assert call.start_time_unix_nano == 1_764_000_000_000_000_000
    assert attempt.name == "chat large"
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "mistral_ai",
        "gen_ai.request.model": "large",
        "gen_ai.response.model": "mistral-large-2512",
        "gen_ai.response.time_to_first_chunk": 0.25,
        "gen_ai.usage.input_tokens": 12,
        "gen_ai.usage.output_tokens": 0,
        "http.response.status_code": 200,
        "headway.attempt": 2,
    }
    assert plain(attempt).items() >= expected.items()
    assert "gen_ai.usage.cache_read.input_tokens" not in plain(attempt), "not reported is not zero"
    assert "gen_ai.usage.input_tokens" not in plain(call), "usage is counted once"
    assert plain(call)["headway.lost"] == ["logprobs", "seed"]
    assert plain(call)["headway.cost_usd"] == pytest.approx(0.0015)
    assert "error.type" not in plain(call)
    assert (export.stats().sent, export.stats().shed, export.stats().problem) == (2, 0, "")


@pytest.mark.parametrize(
    ("outcome", "code"),
    [("done", Status.STATUS_CODE_UNSET), ("client_gone", Status.STATUS_CODE_UNSET), ("refused", Status.STATUS_CODE_UNSET)]
    + [(outcome, Status.STATUS_CODE_ERROR) for outcome in ("upstream_error", "incomplete", "timeout", "evicted", "internal")],
)
def test_status_of_an_outcome(outcome: str, code: int) -> None:
    span = span_of(CallFact(call="c", started_wall_ms=1, duration_ms=1.0, gateway="g", outcome=outcome, error_code="why"))
    assert span is not None
    assert span.status.code == code
    assert plain(span).get("error.type") == (None if outcome == "done" else "why")


def test_a_call_made_for_another_links_to_it() -> None:
    span = span_of(CallFact(call="piece", parent_call="call_1", started_wall_ms=1, duration_ms=1.0, gateway="g"))
    assert span is not None
    (link,) = span.links
    assert (link.trace_id, link.span_id) == (trace_id("call_1"), span_id("call_1"))
    assert span.trace_id == trace_id("piece")


def test_spans_that_were_taken_in() -> None:
    good = span_of(SpanFact(trace="0" * 31 + "1", span="0" * 15 + "2", name="sql", start_wall_us=5, duration_us=7))
    assert good is not None
    assert (good.start_time_unix_nano, good.end_time_unix_nano) == (5_000, 12_000)
    assert span_of(SpanFact(trace="xyz", span="1")) is None
    assert span_of(SpanFact(trace="01", span="0" * 16)) is None


def test_collector_busy_then_well(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "_FIRST_PAUSE_S", 0.01)
    collector.answers = [(503, {}, b""), (429, {"retry-after": "0"}, b"")]
    export = SpanExport(collector.address)
    export.offer([CALL])
    until(collector.spans)
    until(lambda: export.stats().sent == 1)
    assert (export.stats().failures, export.stats().problem) == (2, "")
    export.close()
    assert len(collector.spans()) == 1


def test_refused_spans_are_dropped_and_counted(collector: Collector) -> None:
    partial = ExportTraceServiceResponse(partial_success=ExportTracePartialSuccess(rejected_spans=1))
    collector.answers = [(400, {}, b"bad"), (200, {}, partial.SerializeToString())]
    export = SpanExport(collector.address + "/v1/traces")
    export.offer([CALL])
    until(lambda: export.stats().refused == 1)
    assert "400" in export.stats().problem
    export.offer([CALL, ATTEMPT])
    until(lambda: export.stats().sent == 1)
    assert export.stats().refused == 2
    export.close()


def test_nobody_listens_and_nobody_minds() -> None:
    export = SpanExport("http://127.0.0.1:9")
    began = time.monotonic()
    for _ in range(3):
        export.offer([CALL] * SPAN_QUEUE_MAX)
    assert time.monotonic() - began < 1
    until(lambda: export.stats().failures)
    assert "cannot be reached" in export.stats().problem
    assert export.stats().queued <= SPAN_QUEUE_MAX + SPANS_PER_POST_MAX
    assert export.stats().shed >= SPAN_QUEUE_MAX
    began = time.monotonic()
    export.close()
    assert time.monotonic() - began < 3


def test_numbers_that_no_span_can_hold_cost_one_span(collector: Collector) -> None:
    export = SpanExport(collector.address)
    export.offer([CallFact(call="odd", started_wall_ms=2**63, duration_ms=1.0, gateway="g", status=2**64 - 1), CALL])
    until(lambda: export.stats().sent == 1)
    assert export.stats().refused == 1
    export.close()


@pytest.mark.parametrize("bad", ["", "collector:4318", "ftp://x", "http://"])
def test_addresses(bad: str) -> None:
    with pytest.raises(ConfigError, match="otlp_endpoint"):
        SpanExport(bad)


def test_a_call_with_a_traceparent_is_a_child_in_its_callers_trace() -> None:
    parent = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"
    call = span_of(CallFact(call="call_1", started_wall_ms=1, duration_ms=1.0, gateway="g", traceparent=parent))
    attempt = span_of(AttemptFact(call="call_1", attempt=1, started_wall_ms=1, gateway="g", traceparent=parent))
    assert call is not None
    assert attempt is not None
    assert call.trace_id == attempt.trace_id == b"\xab" * 16
    assert call.parent_span_id == b"\xcd" * 8
    assert attempt.parent_span_id == call.span_id
