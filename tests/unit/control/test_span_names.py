"""The contract of names: what leaves as OpenTelemetry, pinned whole. A renamed name breaks somebody's dashboard, so it must break this first."""

import importlib
from typing import Any

import msgspec
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.semconv._incubating.attributes import (
    error_attributes,
    http_attributes,
    network_attributes,
    openai_attributes,
    server_attributes,
    url_attributes,
)

from headway.calls.phases.model import Cause, Verdict
from headway.config.model import Provider, Settings
from headway.control.span_attributes import Host, hosts, operation
from headway.control.span_names import ATTEMPT, ATTRIBUTES, CALL, KNOWN, OTHER, RESOURCE, SCHEMA_VERSION, VERDICT
from headway.control.spans import span_of, span_told, together, verdict_span
from headway.facts.model import AttemptFact, CallFact, SpanFact

PINNED = """
gen_ai.operation.name gen_ai.provider.name
gen_ai.request.model gen_ai.request.stream gen_ai.request.max_tokens
gen_ai.response.model gen_ai.response.id gen_ai.response.finish_reasons gen_ai.response.time_to_first_chunk
gen_ai.usage.input_tokens gen_ai.usage.output_tokens gen_ai.usage.cache_read.input_tokens gen_ai.usage.cache_creation.input_tokens
gen_ai.usage.reasoning.output_tokens
gen_ai.conversation.id
openai.response.system_fingerprint openai.response.service_tier
server.address server.port network.peer.address network.peer.port
url.path http.response.status_code error.type
headway.schema.version
headway.call headway.gateway headway.origin headway.tenant headway.charged_to headway.principal headway.feature headway.class
headway.requested headway.routed headway.answered headway.stream headway.outcome headway.stream_fault headway.dialect headway.wire
headway.run headway.step headway.prompt headway.attempts headway.first_token_ms headway.input_tokens headway.output_tokens
headway.usage_source headway.cost_usd headway.lost headway.config_generation
headway.phase.attempts_ms headway.phase.queue_ms headway.phase.connect_ms headway.phase.provider_ms headway.phase.decode_ms
headway.phase.stall_ms headway.phase.reader_ms headway.phase.close_ms
headway.verdict headway.verdict.second headway.verdict.missing headway.verdict.expected_ms headway.verdict.excess_ms headway.verdict.explained_ms
headway.attempt headway.endpoint headway.region headway.edge headway.fingerprint headway.tier headway.upstream_request headway.upstream_ms
headway.queue_ms headway.connect_ms headway.head_ms headway.last_token_ms headway.chunks headway.engine.waiting headway.engine.running
"""
PARENT = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"
FULL_CALL = CallFact(
    call="call_1",
    started_wall_ms=1_764_000_000_000,
    duration_ms=1500.5,
    gateway="gw",
    charged_to="acme",
    tenant="acme",
    principal="p",
    klass="batch",
    run="run-7",
    step="s1",
    feature="search",
    prompt_ref="p@1",
    dialect="openai-chat",
    path="/v1/chat/completions",
    stream=True,
    requested="search",
    routed="prod/large",
    answered="large-2512",
    outcome="incomplete",
    error_code="cut",
    status=200,
    stop="tool_use",
    attempts=1,
    first_token_ms=300.0,
    queue_ms=20.0,
    input_tokens=12,
    output_tokens=5,
    cached_tokens=4,
    cache_write_tokens=3,
    usage_source="reported",
    cost_nano_usd=1_500_000,
    lost=("seed",),
    config_generation=3,
    traceparent=PARENT,
    stream_fault="loop",
    output_tokens_max=64,
)
FULL_ATTEMPT = AttemptFact(
    call="call_1",
    attempt=1,
    started_wall_ms=1_764_000_000_010,
    gateway="gw",
    provider="prod",
    endpoint="prod#0",
    upstream_model="large",
    answered="large-2512",
    fingerprint="fp",
    region="eu",
    upstream_request="req_1",
    status=200,
    outcome="incomplete",
    error_code="cut",
    queue_ms=20.0,
    connect_ms=30.0,
    head_ms=200.0,
    first_token_ms=270.0,
    last_token_ms=1400.0,
    duration_ms=1450.0,
    input_tokens=12,
    output_tokens=5,
    cached_tokens=4,
    chunks=9,
    traceparent=PARENT,
    start_ms=10.0,
    sent_ms=31.0,
    tier="default",
    edge="FRA",
    address="192.0.2.7:8443",
    upstream_ms=150.0,
    reasoning_tokens=2,
    stream_fault="loop",
    engine_waiting=1,
    engine_running=2,
    answer_id="chatcmpl-1",
)
WHY = Verdict(
    call="call_1",
    slow=True,
    cause=Cause.CANNOT_TELL,
    excess_ms=900.0,
    explained_ms=700.0,
    expected_ms=600,
    second=Cause.LONG_PROMPT,
    missing=("cached tokens",),
)
PROVIDERS = {"prod": Host("azure.ai.openai", "models.example", 443)}


def values(span: Span | None) -> dict[str, Any]:
    assert span is not None

    def plain(value: Any) -> Any:
        which = value.WhichOneof("value")
        return [plain(each) for each in value.array_value.values] if which == "array_value" else getattr(value, which)

    return {each.key: plain(each.value) for each in span.attributes}


def told() -> tuple[dict[str, Any], dict[str, Any]]:
    call, attempt = together([FULL_CALL, FULL_ATTEMPT])
    return values(span_told(call, PROVIDERS)), values(span_told(attempt, PROVIDERS))


def test_the_list_is_pinned() -> None:
    assert [each.name for each in ATTRIBUTES] == PINNED.split()
    assert len(KNOWN) == len(ATTRIBUTES)
    assert RESOURCE == ("service.name", "service.version")
    assert SCHEMA_VERSION == "1", "a name of ours that changes moves it, and this test"


def test_what_is_emitted_is_what_is_listed() -> None:
    call, attempt = told()
    own = values(span_of(SpanFact(trace="0" * 31 + "1", span="0" * 15 + "2", name="sql", call="call_1", gateway="gw")))
    why = values(verdict_span(FULL_CALL, WHY))
    for which, found in ((CALL, call), (ATTEMPT, attempt), (VERDICT, why), (OTHER, own)):
        assert set(found) == {each.name for each in ATTRIBUTES if which in each.spans}, which


def test_each_value_has_the_type_that_is_listed() -> None:
    kinds: dict[str, type | tuple[type, ...]] = {
        "text": str,
        "true/false": bool,
        "whole number": int,
        "number": (int, float),
        "seconds": float,
        "milliseconds": float,
        "list of texts": list,
    }
    by_name = {each.name: each.kind for each in ATTRIBUTES}
    for found in (*told(), values(verdict_span(FULL_CALL, WHY))):
        for name, value in found.items():
            assert isinstance(value, kinds[by_name[name]]), name


def test_names_of_genai_are_the_conventions() -> None:
    module = importlib.import_module("opentelemetry.semconv._incubating.attributes.gen_ai_attributes")
    genai = {value for name, value in vars(module).items() if name.startswith("GEN_AI_") and isinstance(value, str)}
    general: set[str] = set()
    for each in (error_attributes, http_attributes, network_attributes, openai_attributes, server_attributes, url_attributes):
        general |= {value for name, value in vars(each).items() if name.isupper() and isinstance(value, str)}
    theirs = {name for name in KNOWN if not name.startswith("headway.")}
    assert {name for name in theirs if name.startswith("gen_ai.")} <= genai
    assert {name for name in theirs if not name.startswith("gen_ai.")} <= general
    assert not any(name.startswith("gen_ai.system") for name in KNOWN), "no longer gen_ai.system"
    providers = {each.value for each in module.GenAiProviderNameValues}
    presets = hosts(
        Settings(
            providers={p: Provider(preset=p, region="x", base_url="http://h") for p in ("azure", "bedrock", "gemini", "mistral")}
        )
    )
    assert {server.name for server in presets.values()} <= providers
    operations = {each.value for each in module.GenAiOperationNameValues}
    paths = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/v1/embeddings", "/v1/images/generations")
    assert {operation(path) for path in paths} <= operations
    assert operation("/v1/completions") == "text_completion"
    assert operation("/v1/files/{id}") == ""


def test_the_client_span_says_what_the_convention_asks() -> None:
    _, attempt = told()
    span = span_of(FULL_ATTEMPT, call=FULL_CALL, known=PROVIDERS)
    assert span is not None
    assert (span.name, span.kind) == ("chat large", Span.SPAN_KIND_CLIENT)
    assert span.trace_id == b"\xab" * 16
    assert attempt["gen_ai.provider.name"] == "azure.ai.openai"
    assert attempt["gen_ai.conversation.id"] == "run-7"
    assert attempt["gen_ai.response.finish_reasons"] == ["tool_calls"]
    assert attempt["gen_ai.response.time_to_first_chunk"] == pytest.approx(0.25), "without our own queue"
    assert (attempt["server.address"], attempt["server.port"]) == ("models.example", 443)
    assert (attempt["network.peer.address"], attempt["network.peer.port"]) == ("192.0.2.7", 8443)
    unknown = values(span_of(FULL_ATTEMPT))
    assert (unknown["gen_ai.provider.name"], unknown["server.address"]) == ("prod", "192.0.2.7")
    assert attempt["error.type"] == "cut"


def test_phases_sum_to_the_call_and_are_told_only_whole() -> None:
    call, _ = told()
    parts = {name: value for name, value in call.items() if name.startswith("headway.phase.")}
    assert sum(parts.values()) == FULL_CALL.duration_ms
    assert parts["headway.phase.queue_ms"] == pytest.approx(31, abs=1), "20 ms queued, 10 before the attempt, 1 to send"
    assert not [name for name in values(span_of(FULL_CALL)) if "phase" in name], "its attempt came in another segment"
    refused = CallFact(call="c", started_wall_ms=1, duration_ms=2.0, gateway="g", outcome="refused", error_code="forbidden")
    assert values(span_of(refused))["headway.phase.queue_ms"] == 2.0


def test_a_verdict_is_a_child_of_its_call() -> None:
    span, call = verdict_span(FULL_CALL, WHY), span_of(FULL_CALL)
    assert call is not None
    assert (span.trace_id, span.parent_span_id) == (call.trace_id, call.span_id)
    assert span.span_id not in (call.span_id, b"")
    assert values(span)["headway.verdict"] == "cannot_tell"
    assert values(span)["headway.verdict.missing"] == ["cached tokens"]


def test_a_stream_of_nobodys_tokens_has_no_first_chunk() -> None:
    whole = msgspec.structs.replace(FULL_CALL, stream=False)
    found = values(span_of(FULL_ATTEMPT, call=whole))
    assert "gen_ai.response.time_to_first_chunk" not in found
    assert found["gen_ai.request.stream"] is False


def test_anthropics_tier_is_not_openais() -> None:
    found = values(span_of(FULL_ATTEMPT, call=FULL_CALL, known={"prod": Host("anthropic")}))
    assert not [name for name in found if name.startswith("openai.")]
    assert found["headway.tier"] == "default"


def test_only_the_attempt_that_answered_says_why_it_stopped() -> None:
    first = msgspec.structs.replace(FULL_ATTEMPT, attempt=1)
    call = msgspec.structs.replace(FULL_CALL, attempts=2)
    found = values(span_of(first, call=call))
    assert "gen_ai.response.finish_reasons" not in found
    assert "gen_ai.usage.cache_creation.input_tokens" not in found


def test_spans_of_others_are_not_sent_on() -> None:
    assert span_of(SpanFact(trace="0" * 31 + "1", span="0" * 15 + "2", name="sql", service="shop")) is None


def test_servers_of_the_settings() -> None:
    found = hosts(
        Settings(
            providers={
                "one": Provider(preset="openai", base_url="https://models.example/v1"),
                "own": Provider(preset="vllm", base_url="http://127.0.0.1:8001"),
                "many": Provider(preset="vllm", base_urls=("http://a:1", "http://b:1")),
            }
        )
    )
    assert found == {
        "one": Host("openai", "models.example", 443),
        "own": Host("vllm", "127.0.0.1", 8001),
        "many": Host("vllm", "", None),
    }
