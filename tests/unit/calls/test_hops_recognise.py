"""Which attributes say whose time a span is, span by span and over whole traces."""

import pytest

from headway.calls.hops.clean import clean
from headway.calls.hops.critical_path import exclusive_us
from headway.calls.hops.recognise import RULES, WANTED, recognise
from headway.calls.hops.seen import SeenSpan, hop_spans, labels
from headway.kernel.limits import TRACE_DATA_VALUES_MAX


@pytest.mark.parametrize(
    ("name", "kind", "attributes", "role", "hop"),
    [
        ("chat m", "client", {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}, "model", "model m"),
        ("llm", "", {"gen_ai.operation.name": "text_completion", "gen_ai.response.model": "m-2"}, "model", "model m-2"),
        ("llm_request", "server", {"gen_ai.request.model": "own"}, "model", "model own"),
        ("ChatOpenAI", "internal", {"openinference.span.kind": "LLM", "llm.model_name": "x"}, "model", "model x"),
        ("x", "client", {"llm.request.type": "chat", "gen_ai.request.model": "y"}, "model", "model y"),
        ("embed", "client", {"gen_ai.operation.name": "embeddings", "gen_ai.request.model": "e"}, "embeddings", "embeddings e"),
        ("invoke_agent a", "", {"gen_ai.operation.name": "invoke_agent", "gen_ai.request.model": "m"}, "", ""),
        ("execute_tool find", "internal", {"gen_ai.operation.name": "execute_tool"}, "tool", "tool find"),
        ("call", "client", {"gen_ai.tool.name": "find"}, "tool", "tool find"),
        ("tools/call", "server", {"gen_ai.tool.name": "find"}, "", ""),
        ("retrieval docs", "client", {"gen_ai.operation.name": "retrieval"}, "retrieval", "retrieval docs"),
        ("SELECT", "client", {"db.system.name": "postgresql", "db.namespace": "shop"}, "db", "db postgresql/shop"),
        ("SELECT", "client", {"db.system": "redis"}, "db", "db redis"),
        ("SEARCH", "server", {"db.system.name": "qdrant"}, "", ""),
        ("send", "producer", {"messaging.system": "kafka", "messaging.destination.name": "o"}, "queue", "queue o"),
        ("wait", "", {"headway.hop.kind": "person"}, "person", "person"),
        ("wait", "", {"headway.hop.kind": "person", "headway.hop": "reviewers"}, "person", "reviewers"),
        ("x", "client", {"headway.hop": "cache"}, "", "cache"),
        ("x", "client", {"http.request.method": "GET"}, "", ""),
        ("x", "client", {}, "", ""),
    ],
)
def test_the_table(name: str, kind: str, attributes: dict[str, str], role: str, hop: str) -> None:
    told = recognise(name, kind, attributes)
    assert (told.role, told.hop) == (role, hop)


def test_every_key_that_a_rule_reads_is_read() -> None:
    assert {rule.key for rule in RULES} <= WANTED


@pytest.mark.parametrize(
    ("attributes", "peer"),
    [
        ({"peer.service": "pay", "server.address": "10.0.0.1"}, "pay"),
        ({"server.address": "api.stripe.test"}, "api.stripe.test"),
        ({"server.address": "10.0.0.1"}, ""),
        ({"server.address": "[::1]"}, ""),
        ({"net.peer.name": "localhost"}, ""),
    ],
)
def test_peers_are_names(attributes: dict[str, str], peer: str) -> None:
    assert recognise("x", "client", attributes).peer == peer
    assert recognise("x", "server", attributes).peer == ""


def test_data_is_hashed_value_by_value() -> None:
    def tool(key: str, text: str) -> dict[str, str]:
        return {"gen_ai.operation.name": "execute_tool", key: text}

    gave = recognise("t", "", tool("gen_ai.tool.call.result", '{"hits": [{"id": "doc-17", "ok": true, "n": 3}]}')).outputs
    given = recognise("t", "", tool("gen_ai.tool.call.arguments", '{"document": "doc-17"}')).inputs
    other = recognise("t", "", tool("gen_ai.tool.call.arguments", '{"document": "doc-18"}')).inputs
    assert set(gave) & set(given)
    assert not set(gave) & set(other)
    assert "doc-17" not in "".join(gave)
    many = recognise("t", "", tool("gen_ai.tool.call.result", str([f'"{i:05}"' for i in range(1_000)]).replace("'", "")))
    assert len(many.outputs) == TRACE_DATA_VALUES_MAX


def span(own: str, parent: str, service: str, start: int, took: int, **more: object) -> SeenSpan:
    return SeenSpan(trace="t", span=own, parent=parent, service=service, start_us=start, duration_us=took, **more)  # type: ignore[arg-type]


def owned(*spans: SeenSpan) -> dict[str, int]:
    (trace,) = clean(hop_spans(spans)).traces
    return exclusive_us(trace)


def test_the_innermost_call_of_a_model_is_the_model() -> None:
    """An application's span, a proxy, Headway's call and its attempt: only the attempt is the model, and what the others add is theirs."""
    spans = (
        span("a", "", "app", 0, 1_000, role="model", hop="model m", kind="client"),
        span("b", "a", "headway", 100, 800, kind="server"),
        span("c", "b", "headway", 200, 600, role="model", hop="model m", kind="client"),
    )
    assert owned(*spans) == {"app": 200, "headway": 200, "model m": 600}
    assert [each.is_model for each in hop_spans(spans)] == [False, False, True]


def test_a_models_request_is_the_models_time() -> None:
    assert owned(
        span("a", "", "app", 0, 1_000),
        span("b", "a", "app", 100, 800, role="model", hop="model m"),
        span("c", "b", "app", 150, 700, kind="client", peer="api.test"),
        span("d", "c", "proxy", 200, 100),
    ) == {"app": 200, "model m": 700, "proxy": 100}


def test_a_clients_leaf_is_its_peers_time_and_else_the_callers() -> None:
    leaf = span("b", "a", "app", 10, 80, kind="client", peer="stripe")
    assert owned(span("a", "", "app", 0, 100), leaf) == {"app": 20, "stripe": 80}
    assert owned(span("a", "", "app", 0, 100), leaf, span("c", "b", "pay", 20, 60)) == {"app": 40, "pay": 60}


def test_a_consumer_under_a_producer_is_not_awaited() -> None:
    spans = (
        span("a", "", "app", 0, 100),
        span("b", "a", "app", 10, 20, kind="producer", role="queue", hop="queue q"),
        span("c", "b", "worker", 15, 5, kind="consumer"),
    )
    assert [each.awaited for each in hop_spans(spans)] == [True, True, False]


def test_cycles_and_self_parents_end() -> None:
    ring = (
        span("a", "c", "x", 0, 10, role="model", hop="model m"),
        span("b", "a", "x", 1, 5, role="model", hop="model m"),
        span("c", "b", "x", 2, 3),
        span("d", "d", "y", 2, 3, role="model", hop="model n"),
    )
    assert len(hop_spans(ring)) == 4


def test_labels_of_a_trace() -> None:
    told = labels(
        [
            span("a", "", "x", 0, 1, tenant="acme"),
            span("b", "a", "x", 0, 1, role="model", input_tokens=10, cached_tokens=0),
            span("c", "a", "x", 0, 1, role="model", input_tokens=900),
            span("d", "a", "x", 0, 1, role="tool", input_tokens=10_000, tenant="other"),
        ]
    )
    assert (told.tenant, told.cache_hit, told.input_tokens) == ("acme", False, 900)
    assert labels([span("a", "", "x", 0, 1)]).cache_hit is None
