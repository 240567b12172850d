"""Metrics of the GenAI conventions as a collector decodes them."""

import importlib
from collections.abc import Iterator

import msgspec
import pytest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, HistogramDataPoint, Metric
from otlp_collector import Collector, plain, until

from headway.control import otlp
from headway.control.genai_metrics import INSTRUMENTS, GenAiMetrics
from headway.control.otlp import SpanExport
from headway.control.span_attributes import Host
from headway.control.spans import span_of, together
from headway.facts.model import AttemptFact, CallFact
from headway.facts.token_times import encode
from headway.kernel.limits import OTLP_SERIES_MAX

MS = 1_000_000
KNOWN = {"prod": Host("azure.ai.openai", "models.example", 443)}
CALL = CallFact(
    call="call_1",
    started_wall_ms=1_764_000_000_000,
    duration_ms=900.0,
    gateway="g",
    path="/v1/chat/completions",
    stream=True,
    attempts=1,
    outcome="done",
    routed="prod/large",
)
ATTEMPT = AttemptFact(
    call="call_1",
    attempt=1,
    started_wall_ms=1_764_000_000_000,
    gateway="g",
    provider="prod",
    upstream_model="large",
    answered="large-2512",
    status=200,
    queue_ms=20.0,
    first_token_ms=120.0,
    last_token_ms=880.0,
    duration_ms=900.0,
    input_tokens=1_500,
    output_tokens=9,
    token_times=encode(0, [int(at * MS) for at in (120, 150, 180, 880)]),
)
PINNED = {
    "gen_ai.client.token.usage": "{token}",
    "gen_ai.client.operation.duration": "s",
    "gen_ai.client.operation.time_to_first_chunk": "s",
    "gen_ai.client.operation.time_per_output_chunk": "s",
}


def counted(*facts: CallFact | AttemptFact, known: dict[str, Host] | None = None) -> dict[str, Metric]:
    metrics = GenAiMetrics(start_ns=7)
    metrics.learn(together(facts), KNOWN if known is None else known)
    return of(metrics)


def of(metrics: GenAiMetrics) -> dict[str, Metric]:
    request = metrics.request({"service.name": "headway"}, now_ns=9)
    (resource,) = request.resource_metrics
    (scope,) = resource.scope_metrics
    return {metric.name: metric for metric in scope.metrics}


def only(metric: Metric) -> HistogramDataPoint:
    (point,) = metric.histogram.data_points
    return point


def filled(point: HistogramDataPoint) -> dict[float, int]:
    bounds = [*point.explicit_bounds, float("inf")]
    return {bound: count for bound, count in zip(bounds, point.bucket_counts, strict=True) if count}


def test_names_and_units_are_the_conventions() -> None:
    module = importlib.import_module("opentelemetry.semconv._incubating.metrics.gen_ai_metrics")
    theirs = {value for name, value in vars(module).items() if name.startswith("GEN_AI_") and isinstance(value, str)}
    assert {each.name: each.unit for each in INSTRUMENTS} == PINNED
    assert set(PINNED) <= theirs


def test_an_attempt_is_counted_in_all_four() -> None:
    found = counted(CALL, ATTEMPT)
    assert set(found) == set(PINNED)
    duration = only(found["gen_ai.client.operation.duration"])
    assert filled(duration) == {1.28: 1}
    assert duration.sum == pytest.approx(0.88), "without our own queue"
    assert filled(only(found["gen_ai.client.operation.time_to_first_chunk"])) == {0.16: 1}
    assert filled(only(found["gen_ai.client.operation.time_per_output_chunk"])) == {0.04: 2, 1.28: 1}
    usage = {plain(point)["gen_ai.token.type"]: point for point in found["gen_ai.client.token.usage"].histogram.data_points}
    assert filled(usage["input"]) == {4096: 1}
    assert (usage["output"].sum, usage["input"].sum) == (9, 1_500)
    for metric in found.values():
        assert metric.histogram.aggregation_temporality == AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
        for point in metric.histogram.data_points:
            said = plain(point)
            assert said["gen_ai.operation.name"] == "chat"
            assert said["gen_ai.provider.name"] == "azure.ai.openai"
            assert (said["gen_ai.request.model"], said["gen_ai.response.model"]) == ("large", "large-2512")
            assert (said["server.address"], said["server.port"]) == ("models.example", 443)
            assert "error.type" not in said
            assert (point.start_time_unix_nano, point.time_unix_nano) == (7, 9)
            assert point.count == sum(point.bucket_counts)


def test_exemplars_lead_to_the_span() -> None:
    span = span_of(ATTEMPT, call=CALL)
    assert span is not None
    point = only(counted(CALL, ATTEMPT)["gen_ai.client.operation.duration"])
    (exemplar,) = point.exemplars
    assert (exemplar.trace_id, exemplar.span_id) == (span.trace_id, span.span_id)
    assert exemplar.as_double == pytest.approx(0.88)


def test_failures_whole_answers_probes_and_files() -> None:
    failed = msgspec.structs.replace(
        ATTEMPT, outcome="timeout", error_code="first_byte_timeout", input_tokens=None, output_tokens=None
    )
    found = counted(CALL, failed)
    assert plain(only(found["gen_ai.client.operation.duration"]))["error.type"] == "first_byte_timeout"
    assert "gen_ai.client.token.usage" not in found, "not reported is not zero"
    whole = counted(msgspec.structs.replace(CALL, stream=False), ATTEMPT)
    assert set(whole) == {"gen_ai.client.token.usage", "gen_ai.client.operation.duration"}
    assert counted(msgspec.structs.replace(CALL, origin="probe"), ATTEMPT) == {}
    assert counted(msgspec.structs.replace(CALL, path="/v1/files/{id}"), ATTEMPT) == {}


def test_it_adds_up_over_batches() -> None:
    metrics = GenAiMetrics(start_ns=1)
    for _ in range(3):
        metrics.learn(together([CALL, ATTEMPT]), KNOWN)
    assert metrics.changed
    first = of(metrics)
    assert not metrics.changed
    assert only(first["gen_ai.client.operation.duration"]).count == 3
    metrics.learn(together([CALL, ATTEMPT]), KNOWN)
    assert only(of(metrics)["gen_ai.client.operation.duration"]).count == 4


def test_series_have_a_bound_and_nothing_is_lost() -> None:
    metrics = GenAiMetrics(start_ns=1)
    models = [msgspec.structs.replace(ATTEMPT, upstream_model=f"m{i}") for i in range(OTLP_SERIES_MAX + 50)]
    for attempt in models:
        metrics.learn(together([CALL, attempt]), KNOWN)
    found = of(metrics)
    points = [point for metric in found.values() for point in metric.histogram.data_points]
    assert len(points) <= OTLP_SERIES_MAX
    duration = found["gen_ai.client.operation.duration"].histogram.data_points
    assert sum(point.count for point in duration) == len(models)
    assert sum(plain(point).get("otel.metric.overflow", False) for point in duration) == 1


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


def test_a_collector_gets_them_once_a_minute_and_at_the_end(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "_IDLE_S", 0.02)
    monkeypatch.setattr("headway.kernel.limits.OTLP_METRICS_EVERY_MS", 50)
    export = SpanExport(collector.address + "/v1/traces", known=lambda: KNOWN)
    export.offer([CALL, ATTEMPT])
    until(lambda: collector.metrics)
    assert collector.paths == ["/v1/traces", "/v1/metrics"]
    monkeypatch.setattr("headway.kernel.limits.OTLP_METRICS_EVERY_MS", 60_000)
    export.offer([CALL, ATTEMPT])
    until(lambda: export.stats().sent == 4)
    export.close()
    last = collector.metrics[-1].resource_metrics[0].scope_metrics[0].metrics
    assert {metric.name: metric.histogram.data_points[0].count for metric in last}["gen_ai.client.operation.duration"] == 2


def test_a_collector_without_a_place_for_them_is_asked_once(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "_IDLE_S", 0.02)
    monkeypatch.setattr("headway.kernel.limits.OTLP_METRICS_EVERY_MS", 20)
    collector.answers = [(200, {}, b""), (404, {}, b"")]
    export = SpanExport(collector.address)
    export.offer([CALL, ATTEMPT])
    until(lambda: len(collector.paths) == 2)
    export.offer([CALL, ATTEMPT])
    until(lambda: export.stats().sent == 4)
    export.close()
    assert collector.paths == ["/v1/traces", "/v1/metrics", "/v1/traces"]
    assert export.stats().problem == "", "spans arrive"
