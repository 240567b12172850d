"""The way of a call through the real pipeline and codecs, over an upstream without sockets."""

import json

import msgspec
import pytest
from gateway_bench import JSON, STREAM, Bench, FakeExchange, FakeReply, chat, chat_stream, settings, sse, whole

from headway.config.model import Feature
from headway.gateway.upstream.port import UpstreamError, UpstreamPhase, UpstreamRequest
from headway.kernel.instants import mono_ns


def answers(parts: list[bytes], headers: tuple[tuple[str, str], ...] = STREAM, status: int = 200, cut_after: int | None = None):  # type: ignore[no-untyped-def]
    return lambda request: FakeExchange(status, headers, parts, cut_after)


async def test_a_whole_answer_passes_byte_for_byte_and_is_recorded() -> None:
    body = whole()
    bench = Bench(answers([body], JSON))
    reply = await bench.call(chat())
    assert (reply.status, reply.body, reply.ended) == (200, body, True)
    assert reply.headers[b"x-headway-answered"] == b"one/m1"
    assert reply.headers[b"x-headway-generation"] == b"7"
    assert reply.headers[b"x-request-id"] == b"req-1"
    assert b"set-cookie" not in reply.headers
    fact = bench.facts.call()
    assert fact.call == reply.headers[b"x-headway-call"].decode()
    assert (fact.requested, fact.routed, fact.answered, fact.tenant) == ("chat", "one/m1", "m1-real", "acme")
    assert (fact.outcome, fact.input_tokens, fact.output_tokens, fact.usage_source) == ("done", 11, 2, "reported")


async def test_only_the_model_changes_on_the_way_up() -> None:
    bench = Bench(answers([whole()], JSON))
    body = b'{ "messages" : [{"role":"user","content":"h\\u00e9 1.0e2"}],"model":"chat", "x_unknown": 1.50 }'
    await bench.call(body)
    assert bench.upstream.requests[0].body == body.replace(b'"chat"', b'"m1"')
    assert bench.upstream.requests[0].url == "http://one.test/v1/chat/completions"


async def test_the_callers_key_and_headway_headers_stay_here() -> None:
    bench = Bench(answers([whole()], JSON))
    await bench.call(chat(), x_headway_run="r1", cookie="secret", x_other="1")
    names = dict(bench.upstream.requests[0].headers)
    assert set(names) <= {"accept", "content-type", "user-agent"}
    assert bench.facts.call().run == "r1"


async def test_a_stream_passes_and_ends_once() -> None:
    parts = chat_stream()
    bench = Bench(answers(parts))
    reply = await bench.call(chat(stream=True, stream_options={"include_usage": True}))
    assert reply.body == b"".join(parts)
    assert reply.body.count(b"[DONE]") == 1
    fact = bench.facts.call()
    assert (fact.outcome, fact.input_tokens, fact.output_tokens, fact.stop) == ("done", 11, 2, "end")
    assert fact.first_token_ms is not None


async def test_usage_is_asked_for_and_kept_from_a_caller_who_did_not() -> None:
    bench = Bench(answers(chat_stream()))
    reply = await bench.call(chat(stream=True))
    assert json.loads(bench.upstream.requests[0].body)["stream_options"] == {"include_usage": True}
    assert b'"usage"' not in reply.body
    assert bench.facts.call().input_tokens == 11


@pytest.mark.parametrize("cut_after", range(1, 6))
async def test_a_cut_stream_ends_in_an_error_event_and_never_cleanly(cut_after: int) -> None:
    bench = Bench(answers(chat_stream(), cut_after=cut_after))
    reply = await bench.call(chat(stream=True))
    assert b"[DONE]" not in reply.body
    last = reply.body.strip().split(b"\n\n")[-1]
    assert b'"error"' in last
    fact = bench.facts.call()
    assert (fact.outcome, fact.committed) == ("incomplete", True)
    assert fact.usage_source in ("estimated", "reported")


async def test_a_stream_that_ends_without_its_terminator_is_not_called_done() -> None:
    bench = Bench(answers(chat_stream(usage=False, done=False)[:-1]))
    reply = await bench.call(chat(stream=True))
    assert b'"error"' in reply.body
    assert bench.facts.call().outcome == "incomplete"


async def test_failover_before_the_first_byte() -> None:
    def script(request: UpstreamRequest) -> FakeExchange | UpstreamError:
        if "one.test" in request.url:
            return FakeExchange(503, JSON, [b'{"error":{"message":"busy"}}'])
        return FakeExchange(200, STREAM, chat_stream(model="m2-real"))

    bench = Bench(script)
    reply = await bench.call(chat("pair", stream=True))
    assert reply.status == 200
    assert reply.headers[b"x-headway-answered"] == b"two/m2"
    fact = bench.facts.call()
    assert (fact.attempts, fact.routed, fact.answered, fact.outcome) == (2, "two/m2", "m2-real", "done")
    assert json.loads(bench.upstream.requests[1].body)["model"] == "m2"


async def test_an_error_event_before_any_text_fails_over() -> None:
    def script(request: UpstreamRequest) -> FakeExchange:
        if "one.test" in request.url:
            return FakeExchange(200, STREAM, sse('{"error":{"message":"overloaded","type":"server_error"}}'))
        return FakeExchange(200, STREAM, chat_stream())

    bench = Bench(script)
    reply = await bench.call(chat("pair", stream=True))
    assert b"overloaded" not in reply.body
    assert reply.headers[b"x-headway-answered"] == b"two/m2"


async def test_a_providers_error_event_after_text_passes_in_its_own_words() -> None:
    event = 'data: {"error":{"message":"overloaded","type":"overloaded_error","code":"busy","param":null}}'
    bench = Bench(answers([*chat_stream(done=False)[:2], event.encode() + b"\n\n", b"data: [DONE]\n\n"]))
    reply = await bench.call(chat(stream=True))
    assert reply.body.endswith(event.encode() + b"\n\n")
    assert reply.body.count(b'"error"') == 1
    assert b"[DONE]" not in reply.body
    assert reply.ended
    assert bench.facts.call().outcome == "incomplete"


async def test_no_failover_after_the_first_byte() -> None:
    def script(request: UpstreamRequest) -> FakeExchange:
        return FakeExchange(200, STREAM, chat_stream(), cut_after=2)

    bench = Bench(script)
    reply = await bench.call(chat("pair", stream=True))
    assert len(bench.upstream.requests) == 1
    assert b'"error"' in reply.body


async def test_an_upstreams_error_passes_unchanged_within_its_dialect() -> None:
    body = b'{"error":{"message":"bad tool","type":"invalid_request_error","param":"tools","code":"x"}}'
    bench = Bench(answers([body], JSON, status=400))
    reply = await bench.call(chat())
    assert (reply.status, reply.body) == (400, body)
    fact = bench.facts.call()
    assert (fact.outcome, fact.status, fact.error_code) == ("upstream_error", 400, "x")
    assert fact.cost_nano_usd is None


async def test_an_unreachable_upstream_is_a_502_that_says_so() -> None:
    bench = Bench(lambda r: UpstreamError("connection refused", phase=UpstreamPhase.CONNECT))
    reply = await bench.call(chat())
    assert reply.status == 502
    error = json.loads(reply.body)["error"]
    assert "one/m1" in error["message"]
    assert reply.headers[b"x-should-retry"] == b"false"


async def test_an_unknown_model_lists_what_is_near() -> None:
    bench = Bench(answers([whole()], JSON))
    reply = await bench.call(chat("chta"))
    error = json.loads(reply.body)["error"]
    assert (reply.status, error["code"]) == (404, "model_not_found")
    assert "chat" in error["message"]
    assert bench.facts.call().outcome == "refused"
    assert not bench.upstream.requests


async def test_a_wrong_key_is_told_nothing() -> None:
    bench = Bench(answers([whole()], JSON))
    reply = await bench.call(chat(), authorization="Bearer hw_nope")
    assert reply.status == 401
    assert b"nope" not in reply.body


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"model":1,"messages":[]}', b'{"messages":[]}', b'{"model":"chat","model":"other","messages":[]}']
)
async def test_bodies_that_cannot_be_used_are_refused_with_400(body: bytes) -> None:
    bench = Bench(answers([whole()], JSON))
    reply = await bench.call(body)
    assert reply.status == 400
    assert json.loads(reply.body)["error"]["message"]
    assert not bench.upstream.requests


async def test_another_dialect_upstream_is_translated_both_ways() -> None:
    answer = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "opus-real",
        "content": [{"type": "text", "text": "Bonjour"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 5, "output_tokens": 2, "cache_read_input_tokens": 3},
    }
    bench = Bench(answers([json.dumps(answer).encode()], JSON))
    reply = await bench.call(chat("abroad", text="salut"))
    sent = json.loads(bench.upstream.requests[0].body)
    assert bench.upstream.requests[0].url == "http://claude.test/v1/messages"
    assert sent["model"] == "opus"
    assert sent["max_tokens"] > 0
    got = json.loads(reply.body)
    assert got["choices"][0]["message"]["content"] == "Bonjour"
    assert got["usage"]["prompt_tokens"] == 8
    fact = bench.facts.call()
    assert (fact.wire, fact.answered, fact.input_tokens, fact.cached_tokens) == ("translated", "opus-real", 8, 3)


async def test_what_cannot_be_carried_is_named_or_refused() -> None:
    answer = b'{"id":"m","type":"message","role":"assistant","model":"o","content":[],"stop_reason":"end_turn","usage":{"input_tokens":1,"output_tokens":1}}'
    bench = Bench(answers([answer], JSON))
    reply = await bench.call(chat("abroad", logit_bias={"1": 2}))
    assert b"logit_bias" in reply.headers[b"x-headway-lost"]
    strict = Bench(answers([answer], JSON), config=settings(exact=Feature(targets=("claude/opus",), strict=True)))
    refused = await strict.call(chat("exact", logit_bias={"1": 2}))
    assert refused.status == 422
    assert b"logit_bias" in refused.body
    assert not strict.upstream.requests


async def test_a_caller_that_asked_to_stream_gets_a_stream_even_if_the_upstream_did_not() -> None:
    bench = Bench(answers([whole("All at once")], JSON))
    reply = await bench.call(chat(stream=True))
    assert reply.headers[b"content-type"].startswith(b"text/event-stream")
    assert b"All at once" in reply.body
    assert reply.body.endswith(b"data: [DONE]\n\n")


async def test_the_callers_going_closes_the_upstream_and_is_recorded() -> None:
    import asyncio

    bench = Bench(lambda r: FakeExchange(200, STREAM, chat_stream(["w"] * 100), pause_s=0.01))
    reply = FakeReply()

    def gone(data: bytes) -> None:
        if len(reply.chunks) == 3:
            for flow in list(bench.services.in_flight.values()):
                flow.interrupt("gone")

    reply.on_send = gone
    await bench.call(chat(stream=True), reply=reply)
    await asyncio.sleep(0)
    assert bench.upstream.exchanges[0].closed
    fact = bench.facts.call()
    assert (fact.outcome, fact.usage_source) == ("client_gone", "estimated")
    assert fact.output_tokens


async def test_every_call_is_one_fact_and_nothing_is_in_flight_after() -> None:
    bench = Bench(answers([whole()], JSON))
    for body in (chat(), chat("nope"), b"{"):
        await bench.call(body)
    assert len(bench.facts.calls()) == 3
    assert not bench.services.in_flight
    assert "headway_calls_lost 0" in bench.services.metrics.render()


async def test_trace_context_and_idempotency_key_are_noted_and_stay_here() -> None:
    bench = Bench(answers([whole()], JSON))
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    await bench.call(chat(), traceparent=parent, x_headway_idempotency_key="order-7")
    fact = bench.facts.call()
    assert (fact.traceparent, fact.idempotency_key) == (parent, "order-7")
    assert "traceparent" not in dict(bench.upstream.requests[0].headers)


@pytest.mark.parametrize(
    "bad", ["nonsense", "00-" + "0" * 32 + "-" + "1" * 16 + "-01", "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"]
)
async def test_a_traceparent_that_is_none_is_ignored(bad: str) -> None:
    bench = Bench(answers([whole()], JSON))
    reply = await bench.call(chat(), traceparent=bad)
    assert reply.status == 200
    assert bench.facts.call().traceparent == ""


@pytest.mark.parametrize(
    ("retries_max", "headers", "said"),
    [
        (2, (), b"false"),
        (2, (("x-should-retry", "true"),), b"false"),
        (0, (), None),
        (0, (("x-should-retry", "true"),), b"true"),
        (2, (("retry-after", "30"),), None),
    ],
    ids=["ours are spent", "against the provider's word", "none here", "none here, provider asks", "a pause too long for us"],
)
async def test_a_client_is_told_not_to_multiply_our_retries(
    retries_max: int, headers: tuple[tuple[str, str], ...], said: bytes | None
) -> None:
    base = settings()
    providers = {n: msgspec.structs.replace(p, retries_max=retries_max) for n, p in base.providers.items()}
    for spent in (False, True):
        bench = Bench(
            answers([b'{"error":{"message":"busy"}}'], (*JSON, *headers), status=503),
            config=msgspec.structs.replace(base, providers=providers),
        )
        while spent and bench.services.retry_budget.spend(mono_ns()):
            pass
        reply = await bench.call(chat())
        assert (reply.status, reply.headers.get(b"x-should-retry")) == (503, said)
