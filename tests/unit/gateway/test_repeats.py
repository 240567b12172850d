"""One call under one name: refused while it runs, given again afterwards, never kept beyond its bounds."""

import asyncio
import json
from collections.abc import Callable

import pytest
from gateway_bench import JSON, STREAM, Bench, FakeExchange, FakeReply, chat, chat_stream, whole

from headway.calls.model import Outcome
from headway.gateway import repeats
from headway.gateway.upstream.port import UpstreamError, UpstreamPhase, UpstreamRequest

NAME = "order-7"


def bench(*answers: Callable[[UpstreamRequest], FakeExchange | UpstreamError]) -> Bench:
    """Answers in turn, the last of them again and again."""
    left = list(answers)
    return Bench(lambda request: (left.pop(0) if len(left) > 1 else left[0])(request))


def good(request: UpstreamRequest) -> FakeExchange:
    return FakeExchange(200, JSON, [whole("Hello")])


async def ask(made: Bench, body: bytes, name: str = NAME, **how: object) -> FakeReply:
    return await made.call(body, x_headway_idempotency_key=name, **how)  # type: ignore[arg-type]


def code(reply: FakeReply) -> str:
    return str(json.loads(reply.body)["error"]["code"])


async def test_the_same_request_again_gets_the_same_answer_and_costs_nothing() -> None:
    made = bench(good)
    first = await ask(made, chat())
    again = await ask(made, chat())
    assert len(made.upstream.requests) == 1
    assert (again.status, again.body) == (200, first.body)
    assert again.headers[b"content-type"] == b"application/json"
    assert again.headers[b"x-headway-replayed"] == b"true"
    assert again.headers[b"x-headway-replay-of"] == first.headers[b"x-headway-call"] != again.headers[b"x-headway-call"]
    assert again.headers[b"x-headway-answered"] == b"one/m1"
    assert b"x-headway-replayed" not in first.headers
    fact = made.facts.calls()[-1]
    assert (fact.outcome, fact.attempts, fact.cost_nano_usd, fact.cost_source) == ("done", 0, 0, "replayed")
    assert fact.replay_of == made.facts.calls()[0].call


async def test_while_the_first_runs_a_second_is_told_to_come_back() -> None:
    made = bench(lambda r: FakeExchange(200, JSON, [whole()], pause_s=0.1))
    first = asyncio.create_task(ask(made, chat()))
    await asyncio.sleep(0.03)
    second = await ask(made, chat())
    assert (second.status, code(second)) == (409, "idempotency_in_flight")
    assert second.headers[b"retry-after"] == b"1"
    assert second.headers[b"x-should-retry"] == b"true"
    assert (await first).status == 200
    assert (await ask(made, chat())).headers[b"x-headway-replayed"] == b"true", "the refused one has not taken the name away"
    assert len(made.upstream.requests) == 1


@pytest.mark.parametrize("running", [True, False])
async def test_another_request_under_the_name_is_refused(running: bool) -> None:
    made = bench(lambda r: FakeExchange(200, JSON, [whole()], pause_s=0.05))
    first = asyncio.create_task(ask(made, chat()))
    await asyncio.sleep(0.02 if running else 0.1)
    other = await ask(made, chat(text="something else"))
    assert (other.status, code(other)) == (422, "idempotency_mismatch")
    await first


async def test_a_streamed_answer_is_named_and_not_given_again() -> None:
    made = bench(lambda r: FakeExchange(200, STREAM, chat_stream()))
    first = await ask(made, chat(stream=True))
    again = await ask(made, chat(stream=True))
    assert (again.status, code(again)) == (409, "idempotency_streamed")
    assert first.headers[b"x-headway-call"] in again.body
    assert again.headers[b"x-should-retry"] == b"false"


async def test_an_answer_too_large_to_keep_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "IDEMPOTENCY_ANSWER_BYTES_MAX", 100)
    made = bench(good)
    first = await ask(made, chat())
    again = await ask(made, chat())
    assert (again.status, code(again)) == (409, "idempotency_not_kept")
    assert first.headers[b"x-headway-call"] in again.body


@pytest.mark.parametrize(
    "failing",
    [
        lambda r: FakeExchange(400, JSON, [b'{"error":{"message":"no"}}']),
        lambda r: UpstreamError("nobody there", phase=UpstreamPhase.CONNECT),
        lambda r: FakeExchange(200, STREAM, chat_stream(), cut_after=2),
    ],
)
async def test_a_call_without_an_answer_leaves_its_name_free(failing: Callable[[UpstreamRequest], FakeExchange]) -> None:
    made = bench(failing)
    body = chat(stream=True)
    await ask(made, body)
    made.upstream.script = lambda r: FakeExchange(200, STREAM, chat_stream())
    again = await ask(made, body)
    assert again.status == 200
    assert b"[DONE]" in again.body


async def test_a_caller_that_went_before_the_answer_finds_its_name_free() -> None:
    made = bench(lambda r: FakeExchange(200, JSON, [whole()], pause_s=5), good)
    gone = asyncio.create_task(ask(made, chat()))
    await asyncio.sleep(0.02)
    next(iter(made.services.in_flight.values())).interrupt("gone")
    await gone
    assert made.facts.calls()[-1].outcome == Outcome.CLIENT_GONE
    assert (await ask(made, chat())).status == 200


async def test_a_caller_that_lost_its_connection_at_the_very_end_gets_the_answer() -> None:
    class Lost(FakeReply):
        async def end(self, data: bytes = b"") -> None:
            next(iter(made.services.in_flight.values())).interrupt("gone")
            await asyncio.sleep(5)

    made = bench(good)
    await ask(made, chat(), reply=Lost())
    assert made.facts.calls()[-1].outcome == Outcome.CLIENT_GONE
    again = await ask(made, chat())
    assert again.headers[b"x-headway-replayed"] == b"true"
    assert len(made.upstream.requests) == 1


async def test_what_passes_unread_goes_the_same_way() -> None:
    made = bench(lambda r: FakeExchange(200, JSON, [b'{"data":[],"model":"m1"}']))
    body = json.dumps({"model": "chat", "input": "x"}).encode()
    await ask(made, body, path="/v1/embeddings", unread=True)
    again = await ask(made, body, path="/v1/embeddings", unread=True)
    assert again.headers[b"x-headway-replayed"] == b"true"
    assert (await ask(made, body, path="/v1/moderations", unread=True)).status == 422, "another path is another request"


async def test_what_is_kept_is_bounded_in_entries_bytes_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    made = bench(good)
    monkeypatch.setattr(repeats, "IDEMPOTENCY_ENTRIES_MAX", 3)
    for i in range(10):
        await ask(made, chat(), f"n{i}")
    assert len(made.services.repeats) == 3
    assert b"x-headway-replayed" in (await ask(made, chat(), "n9")).headers
    assert b"x-headway-replayed" not in (await ask(made, chat(), "n0")).headers, "the oldest was forgotten"
    monkeypatch.setattr(repeats, "IDEMPOTENCY_BYTES_MAX", 2 * len(whole("Hello")))
    await ask(made, chat(), "more")
    assert len(made.services.repeats) == 2
    monkeypatch.setattr(repeats, "mono_ns", lambda: 2**62)
    assert b"x-headway-replayed" not in (await ask(made, chat(), "more")).headers, "its time is over"
    assert len(made.services.repeats) == 1


async def test_calls_without_the_name_are_not_listened_to() -> None:
    made = bench(good)
    await made.call(chat())
    await made.call(chat())
    assert len(made.upstream.requests) == 2
    assert len(made.services.repeats) == 0
