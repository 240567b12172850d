"""Each effect that a policy may ask for, through the real pipeline."""

import asyncio
import json
from collections.abc import Sequence

from gateway_bench import JSON, STREAM, Bench, FakeExchange, FakeReply, chat, chat_stream, whole
from gateway_policies import Scripted

from headway.calls.conversation import DialectName
from headway.calls.model import (
    Admit,
    Arrived,
    Ask,
    AttemptStarted,
    Chunk,
    Closed,
    Effect,
    Head,
    Hold,
    Origin,
    Refuse,
    Release,
    SubCall,
    SubCallSpec,
    Tick,
    Told,
    WaitUntil,
    Withdraw,
)
from headway.gateway.upstream.port import UpstreamRequest
from headway.kernel.instants import MonoNs, after_ms


def streaming(request: UpstreamRequest) -> FakeExchange:
    return FakeExchange(200, STREAM, chat_stream(["a", "b", "c"]))


async def test_a_policy_is_told_the_whole_story_in_order() -> None:
    policy = Scripted(lambda e, now: None)
    bench = Bench(streaming, policy=policy)
    await bench.call(chat(stream=True, text="x" * 3_000), x_headway_run="run-1", x_headway_deadline_ms="5000")
    kinds = [type(e) for e in policy.told]
    assert kinds[:3] == [Arrived, AttemptStarted, Head]
    assert kinds[-1] is Closed
    assert "".join(e.text for e in policy.told if isinstance(e, Chunk)) == "abc"
    arrived = policy.told[0]
    assert isinstance(arrived, Arrived)
    assert (arrived.tenant, arrived.run, arrived.feature, arrived.endpoint) == ("acme", "run-1", "chat", "one")
    assert arrived.prompt_tokens_estimate > 500
    assert arrived.deadline_remaining_ms is not None
    assert 0 < arrived.deadline_remaining_ms <= 5_000
    assert len(arrived.prefix_hashes) >= 2
    closed = policy.told[-1]
    assert isinstance(closed, Closed)
    assert closed.usage.input_tokens == 11


async def test_wait_until_ticks_and_then_admits() -> None:
    def on(event: Told, now: MonoNs) -> Sequence[Effect] | None:
        match event:
            case Arrived():
                return (WaitUntil(at=after_ms(now, 20), call=event.call),)
            case Tick():
                return (Admit(call=event.call),)
        return None

    bench = Bench(streaming, policy=Scripted(on))
    reply = await bench.call(chat(stream=True))
    assert reply.status == 200
    assert bench.facts.call().queue_ms >= 19


async def test_refuse_before_an_answer_carries_retry_after() -> None:
    policy = Scripted(
        lambda e, now: (
            (Refuse(call=e.call, reason="queue_full", message="wait", retry_after_ms=1_500),) if isinstance(e, Arrived) else None
        )
    )
    bench = Bench(streaming, policy=policy)
    reply = await bench.call(chat(stream=True))
    assert (reply.status, reply.headers[b"retry-after"], reply.headers[b"retry-after-ms"]) == (429, b"2", b"1500")
    assert json.loads(reply.body)["error"]["code"] == "queue_full"
    assert not bench.upstream.requests
    assert bench.facts.call().outcome == "refused"


async def test_refuse_after_the_first_byte_cuts_with_the_error_event() -> None:
    def on(event: Told, now: MonoNs) -> Sequence[Effect] | None:
        if isinstance(event, Chunk) and event.text == "b":
            return (Refuse(call=event.call, reason="overrun", message="budget overrun"),)
        return None

    bench = Bench(lambda r: FakeExchange(200, STREAM, chat_stream(["a", "b", "c"]), pause_s=0.005), policy=Scripted(on))
    reply = await bench.call(chat(stream=True))
    assert b'"error"' in reply.body
    assert b"[DONE]" not in reply.body
    assert bench.upstream.exchanges[0].closed
    assert bench.facts.call().outcome == "evicted"


async def test_a_subcall_is_cut_charged_and_waited_for() -> None:
    def on(event: Told, now: MonoNs) -> Sequence[Effect] | None:
        if isinstance(event, Arrived):
            spec = SubCallSpec(origin=Origin.PIECE, codec=DialectName.OPENAI_CHAT, upto_tokens=100, share="replica")
            return (SubCall(call=event.call, spec=spec, charge_to="acme"), Admit(call=event.call))
        return None

    policy = Scripted(on)
    bench = Bench(lambda r: FakeExchange(200, JSON, [whole()]), policy=policy)
    reply = await bench.call(chat(text="word " * 1_000))
    assert reply.status == 200
    piece, full = bench.upstream.requests
    cut = json.loads(piece.body)
    assert cut["max_tokens"] == 1
    assert len(cut["messages"][0]["content"]) < 1_000
    assert json.loads(full.body)["messages"][0]["content"] == "word " * 1_000
    assert piece.url == full.url
    pieces = [c for c in bench.facts.calls() if c.origin == "piece"]
    assert [(p.parent_call, p.charged_to, p.outcome) for p in pieces] == [(bench.facts.call().call, "acme", "done")]
    ends = [e for e in policy.told if isinstance(e, Closed) and e.parent_call]
    assert len(ends) == 1
    assert ends[0].usage.input_tokens == 11


async def test_hold_keeps_and_release_sends_in_order() -> None:
    reply = FakeReply()
    seen_at_release: list[int] = []

    def on(event: Told, now: MonoNs) -> Sequence[Effect] | None:
        match event:
            case Head():
                return (Hold(call=event.call),)
            case Chunk(text="b"):
                seen_at_release.append(len(reply.chunks))
                return (Release(call=event.call),)
        return None

    bench = Bench(lambda r: FakeExchange(200, STREAM, chat_stream(["a", "b", "c"]), pause_s=0.002), others=(Scripted(on),))
    await bench.call(chat(stream=True), reply=reply)
    assert seen_at_release == [0]
    text = [
        json.loads(line[6:])["choices"][0]["delta"].get("content", "")
        for line in reply.body.split(b"\n\n")
        if line.startswith(b"data: {")
    ]
    assert "".join(text) == "abc"
    assert reply.body.endswith(b"data: [DONE]\n\n")


async def test_release_from_a_tick_while_the_upstream_is_silent() -> None:
    reply = FakeReply()

    def on(event: Told, now: MonoNs) -> Sequence[Effect] | None:
        match event:
            case Head():
                return (Hold(call=event.call), WaitUntil(at=after_ms(now, 15), call=event.call))
            case Tick():
                return (Release(call=event.call, resume=False),)
        return None

    bench = Bench(lambda r: FakeExchange(200, STREAM, chat_stream(["a", "b"]), pause_s=0.01), others=(Scripted(on),))
    await bench.call(chat(stream=True), reply=reply)
    assert len(reply.chunks) >= 2
    assert reply.body.endswith(b"data: [DONE]\n\n")


async def test_what_is_held_at_the_end_goes_out() -> None:
    bench = Bench(streaming, others=(Scripted(lambda e, now: (Hold(call=e.call),) if isinstance(e, Head) else None),))
    reply = await bench.call(chat(stream=True))
    assert reply.body.endswith(b"data: [DONE]\n\n")
    assert reply.ended


async def test_withdraw_is_never_seen_and_ends_in_an_error() -> None:
    def on(event: Told, now: MonoNs) -> Sequence[Effect] | None:
        match event:
            case Head():
                return (Hold(call=event.call),)
            case Closed(last=False):
                return (Withdraw(call=event.call, reason="check failed"),)
        return None

    bench = Bench(streaming, others=(Scripted(on),))
    reply = await bench.call(chat(stream=True))
    assert reply.status == 502
    assert json.loads(reply.body)["error"]["code"] == "withdrawn"
    assert bench.facts.call().committed is False


async def test_withdraw_with_retry_goes_to_the_next_target() -> None:
    def script(request: UpstreamRequest) -> FakeExchange:
        return FakeExchange(200, STREAM, chat_stream(["bad" if "one.test" in request.url else "good"]), pause_s=0.002)

    def on(event: Told, now: MonoNs) -> Sequence[Effect] | None:
        match event:
            case Head(endpoint="one"):
                return (Hold(call=event.call),)
            case Chunk(text="bad"):
                return (Withdraw(call=event.call, reason="check failed", retry=True),)
        return None

    bench = Bench(script, others=(Scripted(on),))
    reply = await bench.call(chat("pair", stream=True))
    assert b"good" in reply.body
    assert b"bad" not in reply.body
    assert reply.body.endswith(b"data: [DONE]\n\n")
    assert bench.facts.call().attempts == 2


async def test_ask_replaces_the_answer_with_a_question() -> None:
    def on(event: Told, now: MonoNs) -> Sequence[Effect] | None:
        return (Ask(call=event.call, question="Which account?"),) if isinstance(event, Head) else None

    for stream in (True, False):
        bench = Bench(lambda r: FakeExchange(200, STREAM, chat_stream(), pause_s=0.01), others=(Scripted(on),))
        reply = await bench.call(chat(stream=stream))
        assert reply.status == 200
        assert b"Which account?" in reply.body
        assert b"Hel" not in reply.body


async def test_a_policy_that_fails_does_not_stop_traffic() -> None:
    def on(event: Told, now: MonoNs) -> Sequence[Effect] | None:
        raise RuntimeError("bug")

    bench = Bench(streaming, policy=Scripted(on))
    reply = await bench.call(chat(stream=True))
    assert reply.body.endswith(b"data: [DONE]\n\n")
    assert bench.services.desk.errors > 0


async def test_timers_of_a_call_end_with_it() -> None:
    def on(event: Told, now: MonoNs) -> Sequence[Effect] | None:
        return (
            (Admit(call=event.call), WaitUntil(at=after_ms(now, 60_000), call=event.call)) if isinstance(event, Arrived) else None
        )

    bench = Bench(streaming, policy=Scripted(on))
    await bench.call(chat(stream=True))
    await asyncio.sleep(0)
    assert not bench.services.desk._ticks
    assert not bench.services.desk.flows


async def test_nothing_is_written_after_the_end_while_a_release_waits_for_a_slow_reader() -> None:
    """A drain that hangs on the caller must not wake up behind the error that ended the answer."""
    reply = FakeReply()
    unblock = asyncio.Event()
    send = reply.send

    async def slow_send(data: bytes) -> None:
        await unblock.wait()
        await send(data)

    reply.send = slow_send  # type: ignore[method-assign]

    def on(event: Told, now: MonoNs) -> Sequence[Effect] | None:
        match event:
            case Head():
                return (Hold(call=event.call),)
            case Chunk(text="b"):
                return (Release(call=event.call, chunks=1, resume=False), WaitUntil(at=after_ms(now, 10), call=event.call))
            case Tick():
                unblocking.append(asyncio.get_running_loop().call_later(0.02, unblock.set))
                return (Withdraw(call=event.call, reason="check failed"),)
        return None

    unblocking: list[asyncio.TimerHandle] = []
    bench = Bench(lambda r: FakeExchange(200, STREAM, chat_stream(["a", "b", "c"]), pause_s=0.02), others=(Scripted(on),))
    await bench.call(chat(stream=True), reply=reply)
    await asyncio.sleep(0.05)
    assert reply.ended
    assert b"[DONE]" not in reply.body
    assert b'"error"' in reply.body
    assert bench.facts.call().outcome == "evicted"


async def test_a_question_that_the_dialect_cannot_put_is_an_error_and_one_fact() -> None:
    """The body passes as it is, but cannot be decoded, which a question needs."""
    body = json.dumps({"model": "chat", "messages": [{"role": "user", "content": [{"type": "text"}]}]}).encode()

    def on(event: Told, now: MonoNs) -> Sequence[Effect] | None:
        return (Ask(call=event.call, question="Which?"),) if isinstance(event, Head) else None

    bench = Bench(lambda r: FakeExchange(200, JSON, [whole()], pause_s=0.01), others=(Scripted(on),))
    reply = await bench.call(body)
    assert reply.status == 400
    assert bench.facts.call().error_code == "bad_request"
