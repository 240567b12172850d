"""What comes before the first token is kept back a moment where another target could take the call, and nowhere else; no token waits."""

import asyncio
import json
from collections.abc import Callable

import pytest
from gateway_bench import STREAM, Bench, FakeExchange, FakeReply, chat, chat_stream, settings, sse

from headway.config.model import Feature
from headway.gateway import opening
from headway.gateway.upstream.port import UpstreamRequest

CHAT_ERROR = sse('{"error":{"message":"overloaded","type":"server_error"}}')
CHAT_OPENING = chat_stream(())[:1]
CLAUDE_OPENING = [
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"m","type":"message","role":"assistant","model":"opus",'
    b'"content":[],"usage":{"input_tokens":3,"output_tokens":0}}}\n\n',
    b'event: ping\ndata: {"type":"ping"}\n\n',
]
CLAUDE_ERROR = [b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"overloaded"}}\n\n']
RESPONSES_OPENING = [
    b'event: response.created\ndata: {"type":"response.created","response":{"id":"r","model":"m","status":"in_progress","output":[]}}\n\n'
]
RESPONSES_ERROR = [b'event: error\ndata: {"type":"error","code":"server_error","message":"overloaded"}\n\n']


def pair(first: Callable[[], FakeExchange], second: Callable[[], FakeExchange] | None = None) -> Bench:
    """Feature ``two`` asks ``first`` and then ``second``."""

    def script(request: UpstreamRequest) -> FakeExchange:
        if "one.test" in request.url or "claude.test" in request.url:
            return first()
        return second() if second else FakeExchange(200, STREAM, chat_stream(model="m2-real"))

    return Bench(script, config=settings(two=Feature(targets=("one/m1", "two/m2")), far=Feature(targets=("claude/opus", "two/m2"))))


@pytest.mark.parametrize("cut", [False, True])
async def test_an_overload_right_after_the_opening_fails_over(cut: bool) -> None:
    parts = CHAT_OPENING if cut else CHAT_OPENING + CHAT_ERROR
    made = pair(lambda: FakeExchange(200, STREAM, parts, cut_after=len(parts) if cut else None))
    reply = await made.call(chat("two", stream=True, stream_options={"include_usage": True}))
    assert reply.body == b"".join(chat_stream(model="m2-real"))
    assert reply.headers[b"x-headway-answered"] == b"two/m2"
    assert (made.facts.call().attempts, made.facts.call().outcome) == (2, "done")


async def test_between_dialects_it_fails_over_too() -> None:
    made = pair(lambda: FakeExchange(200, STREAM, CLAUDE_OPENING + CLAUDE_ERROR))
    reply = await made.call(chat("far", stream=True))
    assert b"[DONE]" in reply.body
    assert reply.headers[b"x-headway-answered"] == b"two/m2"
    assert b"overloaded" not in reply.body


async def test_a_stream_of_responses_fails_over_too() -> None:
    good = b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"Hi"}\n\n'
    done = b'event: response.completed\ndata: {"type":"response.completed","response":{"id":"r2","status":"completed","output":[]}}\n\n'
    made = pair(
        lambda: FakeExchange(200, STREAM, RESPONSES_OPENING + RESPONSES_ERROR),
        lambda: FakeExchange(200, STREAM, [*RESPONSES_OPENING, good, done]),
    )
    body = json.dumps({"model": "two", "input": "hi", "stream": True}).encode()
    reply = await made.call(body, path="/v1/responses", dialect="openai-responses")
    assert reply.body == b"".join([*RESPONSES_OPENING, good, done])


async def test_no_token_waits_and_nothing_changes_its_order() -> None:
    parts = chat_stream(("a", "b"))
    first_at: list[int] = []
    reply = FakeReply()
    made = pair(lambda: exchange)
    exchange = FakeExchange(200, STREAM, parts)
    reply.on_send = lambda data: first_at.append(len(reply.chunks))
    await made.call(chat("two", stream=True, stream_options={"include_usage": True}), reply=reply)
    assert reply.body == b"".join(parts)
    assert reply.chunks[0] == parts[0] + parts[1], "the opening goes with the first token, at once"
    assert reply.chunks[1] == parts[2]


async def test_an_answer_without_any_token_is_given() -> None:
    parts = chat_stream(())
    made = pair(lambda: FakeExchange(200, STREAM, parts))
    reply = await made.call(chat("two", stream=True, stream_options={"include_usage": True}))
    assert reply.body == b"".join(parts)
    assert made.facts.call().attempts == 1


@pytest.mark.parametrize("feature", ["chat", "two"])
async def test_where_no_other_target_is_left_the_opening_goes_at_once(feature: str) -> None:
    """``chat`` has one target; of ``two`` the first is refused, and the second is the last."""
    gone = asyncio.Event()

    async def slowly(reply: FakeReply) -> None:
        await asyncio.wait_for(gone.wait(), 1)
        assert reply.chunks == CHAT_OPENING

    def answer() -> FakeExchange:
        return FakeExchange(200, STREAM, chat_stream(), pause_s=0.15)

    made = pair((lambda: FakeExchange(503, STREAM, [b"{}"])) if feature == "two" else answer, answer)
    reply = FakeReply()
    reply.on_send = lambda data: gone.set()
    watching = asyncio.create_task(slowly(reply))
    await made.call(chat(feature, stream=True, stream_options={"include_usage": True}), reply=reply)
    await watching
    assert reply.body == b"".join(chat_stream())


async def test_after_its_time_the_opening_goes_out_and_the_answer_is_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "OPENING_HOLD_MS", 20)
    parts = CHAT_OPENING + sse("{}") + CHAT_ERROR
    made = pair(lambda: FakeExchange(200, STREAM, parts, pause_s=0.1))
    reply = FakeReply()
    sent: list[bytes] = []
    reply.on_send = sent.append
    await made.call(chat("two", stream=True, stream_options={"include_usage": True}), reply=reply)
    assert sent[0] == CHAT_OPENING[0], "a ping, or a role, is not kept for longer"
    assert reply.body == b"".join(parts), "in order, with the provider's own words at the end"
    assert (made.facts.call().attempts, made.facts.call().outcome) == (1, "incomplete")


async def test_a_slow_reader_of_the_opening_gets_everything_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "OPENING_HOLD_MS", 10)

    class Slow(FakeReply):
        async def send(self, data: bytes) -> None:
            if not self.chunks:
                await asyncio.sleep(0.1)
            await super().send(data)

    parts = chat_stream(("a", "b"))
    made = pair(lambda: FakeExchange(200, STREAM, parts, pause_s=0.03))
    reply = await made.call(chat("two", stream=True, stream_options={"include_usage": True}), reply=Slow())
    assert reply.body == b"".join(parts)


async def test_a_caller_that_goes_while_the_opening_is_sent_ends_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "OPENING_HOLD_MS", 10)

    class Stuck(FakeReply):
        async def send(self, data: bytes) -> None:
            next(iter(made.services.in_flight.values())).interrupt("gone")
            await asyncio.sleep(10)

    made = pair(lambda: FakeExchange(200, STREAM, chat_stream(), pause_s=0.05))
    await asyncio.wait_for(made.call(chat("two", stream=True), reply=Stuck()), 2)
    assert made.facts.call().outcome == "client_gone"
    assert len(asyncio.all_tasks()) == 1


async def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "HOLD_BYTES_MAX", 2_000)
    parts = [b": " + b"x" * 900 + b"\n\n"] * 4 + CHAT_ERROR
    made = pair(lambda: FakeExchange(200, STREAM, parts))
    reply = await made.call(chat("two", stream=True))
    assert reply.body.startswith(b"".join(parts[:4]))
    assert made.facts.call().attempts == 1
