"""What the facts of a call tell of its time outside the gateway: what the caller still sent, and when the provider's last byte was there."""

from types import SimpleNamespace
from typing import Any, cast

from gateway_bench import JSON, Bench, FakeExchange, chat, chat_stream, whole

from headway.facts.model import AttemptFact
from headway.gateway.app import GatewayApp, _read
from headway.gateway.listener.cycle import Cycle
from headway.gateway.state import GatewayState

HEAD = [("content-type", "text/event-stream")]


def attempts(bench: Bench) -> list[AttemptFact]:
    return [row for row in bench.facts.rows if isinstance(row, AttemptFact)]


async def test_the_last_byte_of_a_whole_answer_and_of_a_stream() -> None:
    for exchange, body in (
        (lambda: FakeExchange(200, JSON, [whole()], pause_s=0.03), chat()),
        (lambda: FakeExchange(200, HEAD, chat_stream(["a"]), pause_s=0.01), chat(stream=True)),
    ):
        bench = Bench(lambda _, make=exchange: make())
        await bench.call(body)
        (attempt,) = attempts(bench)
        assert attempt.sent_ms is not None
        assert attempt.answered_ms is not None
        assert attempt.head_ms is not None
        assert attempt.answered_ms >= attempt.head_ms + 25
        assert attempt.answered_ms <= attempt.duration_ms


async def test_an_answer_that_breaks_off_has_no_last_byte() -> None:
    bench = Bench(lambda _: FakeExchange(200, HEAD, chat_stream(["a", "b"]), cut_after=2))
    await bench.call(chat(stream=True))
    assert [attempt.answered_ms for attempt in attempts(bench)] == [None] * len(attempts(bench))
    assert attempts(bench)


async def test_what_passes_unread_tells_it_too() -> None:
    bench = Bench(lambda _: FakeExchange(200, JSON, [b'{"data":[],"model":"m1"}'], pause_s=0.02))
    await bench.call(b'{"model":"chat","input":"a"}', path="/v1/embeddings", unread=True)
    (attempt,) = attempts(bench)
    assert attempt.answered_ms is not None
    assert 15 < attempt.answered_ms <= attempt.duration_ms


async def test_a_call_begins_when_its_head_was_read_and_is_whole_with_its_last_read() -> None:
    async def nothing() -> Any:
        raise AssertionError("all of it is here")

    app = GatewayApp(Bench(lambda _: FakeExchange(200, JSON, [])).services, cast(GatewayState, None))
    cycle = SimpleNamespace(arrived_at=17, whole_at=2_000_017, more_body=False, disconnected=False, body=bytearray(b"{}"))
    inbound = app._inbound({"method": "POST", "headers": []}, "/v1/chat/completions", cast(Cycle, cycle))
    assert inbound.started == 17
    inbound = await _read(inbound, nothing, 100, cast(Cycle, cycle))
    assert (inbound.body, inbound.whole) == (b"{}", 2_000_017)


async def test_what_the_caller_still_sent_is_told() -> None:
    bench = Bench(lambda _: FakeExchange(200, JSON, [whole()]))
    handle = bench.pipeline.handle

    async def slowly_sent(inbound: Any, *rest: Any) -> None:
        inbound.whole = inbound.started + 7_000_000
        await handle(inbound, *rest)

    bench.pipeline.handle = slowly_sent
    await bench.call(chat())
    assert bench.facts.call().received_ms == 7.0
