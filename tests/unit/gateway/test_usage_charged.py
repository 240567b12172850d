"""What a call used, how we know, and what its budgets are charged: reported, estimated or unknown, and never silently nothing."""

import asyncio
import json

import msgspec
import pytest
from gateway_bench import JSON, STREAM, Bench, FakeExchange, FakeReply, chat, chat_stream, settings, whole
from gateway_policies import Scripted

from headway.calls.model import Arrived, Chunk, Head, Hold, Refuse, Withdraw
from headway.calls.pricing import PriceRow
from headway.config.model import Feature, Provider
from headway.gateway.upstream.port import UpstreamError, UpstreamPhase, UpstreamRequest
from headway.kernel.instants import mono_ns
from headway.ledger.model import BudgetUnit, Lease
from headway.link.messages import BudgetScope

BUDGETS = (
    BudgetScope(budget="money", scope="tenant:acme", unit=BudgetUnit.NANO_USD, block=10**12, cap=10**13),
    BudgetScope(budget="tokens", scope="tenant:acme", unit=BudgetUnit.TOKENS, block=10**8, cap=10**9),
)
PRICES = (
    PriceRow(provider="p", model="m1", input_pico=1_000_000, output_pico=2_000_000),
    PriceRow(provider="p", model="m2", input_pico=10_000_000, output_pico=20_000_000),
    PriceRow(provider="p", model="opus", input_pico=3_000_000, output_pico=4_000_000),
)
"""1,000 and 2,000 nano-dollars a token."""


def config(**features: Feature):  # type: ignore[no-untyped-def]
    base = settings(**features)
    return msgspec.structs.replace(
        base, providers={name: msgspec.structs.replace(p, price_as="p") for name, p in base.providers.items()}
    )


def bench(script, **how):  # type: ignore[no-untyped-def]
    made = Bench(script, config=how.pop("config", config()), budgets=BUDGETS, prices=PRICES, **how)
    for scope in BUDGETS:
        lease = Lease(
            id=f"lea_{scope.budget}", budget=scope.budget, scope=scope.scope, unit=scope.unit, amount=scope.block, ttl_ms=60_000
        )
        made.services.book.granted(lease, mono_ns())
    return made


def drawn(b: Bench) -> tuple[int, int]:
    """What both blocks have spent; nothing stays reserved."""
    purses = [b.services.book.purse(s.budget) for s in BUDGETS]
    (money,), (tokens,) = (p.blocks for p in purses if p is not None)
    assert money.reserved == tokens.reserved == money.holds == tokens.holds == 0
    return money.spent, tokens.spent


def answer(parts, headers=STREAM, status=200, **how):  # type: ignore[no-untyped-def]
    return lambda request: FakeExchange(status, headers, parts, **how)


async def test_a_reported_usage_is_priced_and_charged_as_it_is() -> None:
    b = bench(answer([whole()], JSON))
    await b.call(chat())
    fact = b.facts.call()
    assert (fact.usage_source, fact.cost_nano_usd, fact.cost_source) == ("reported", 11 * 1000 + 2 * 2000, "table")
    assert (fact.charged_nano_usd, fact.charged_tokens) == (15_000, 13)
    assert dict(zip(fact.leases, fact.lease_charges, strict=True)) == {"lea_money": 15_000, "lea_tokens": 13}
    assert drawn(b) == (15_000, 13)


@pytest.mark.parametrize(("kept", "charged"), [(0, (15_000, 0)), (1, (0, 13))])
async def test_a_call_is_charged_in_the_units_of_its_budgets_alone(kept: int, charged: tuple[int, int]) -> None:
    b = bench(answer([whole()], JSON))
    b.services.book.install(BUDGETS[kept : kept + 1])
    await b.call(chat())
    fact = b.facts.call()
    assert (fact.charged_nano_usd, fact.charged_tokens) == charged
    assert fact.lease_charges == (sum(charged),)
    assert fact.cost_nano_usd == 15_000


async def test_a_stream_cut_without_a_report_is_estimated_from_what_was_seen() -> None:
    b = bench(answer(chat_stream(["x" * 40, "y" * 40], usage=False), cut_after=3))
    await b.call(chat(stream=True, text="q" * 4_000))
    fact = b.facts.call()
    assert (fact.outcome, fact.usage_source, fact.cost_source) == ("incomplete", "estimated", "estimated")
    assert fact.input_tokens == fact.prompt_tokens_estimate
    assert fact.output_tokens is not None
    assert 20 <= fact.output_tokens <= 40
    assert fact.charged_tokens == fact.input_tokens + fact.output_tokens
    assert fact.charged_nano_usd == fact.cost_nano_usd == fact.input_tokens * 1000 + fact.output_tokens * 2000
    assert drawn(b) == (fact.charged_nano_usd, fact.charged_tokens)


def anthropic_stream(words: list[str]) -> list[bytes]:
    events: list[tuple[str, dict]] = [
        (
            "message_start",
            {
                "message": {
                    "id": "m",
                    "type": "message",
                    "role": "assistant",
                    "model": "opus",
                    "content": [],
                    "stop_reason": None,
                    "stop_sequence": None,
                    "usage": {"input_tokens": 70, "output_tokens": 1},
                }
            },
        ),
        ("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}),
        *(("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": w}}) for w in words),
        ("content_block_stop", {"index": 0}),
        ("message_delta", {"delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": 50}}),
        ("message_stop", {}),
    ]
    return [f"event: {name}\ndata: {json.dumps({'type': name} | data)}\n\n".encode() for name, data in events]


@pytest.mark.parametrize("dialect", ["anthropic", "openai-chat"])
async def test_a_report_from_the_beginning_of_a_stream_is_not_taken_for_the_whole(dialect: str) -> None:
    """Anthropic reports one output token at the start; a cut after 400 characters is not one token."""
    body = {"model": "abroad", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 100, "stream": True}
    path = "/v1/messages" if dialect == "anthropic" else "/v1/chat/completions"
    b = bench(answer(anthropic_stream(["z" * 200, "z" * 200]), cut_after=4))
    await b.call(json.dumps(body).encode(), dialect=dialect, path=path)
    fact = b.facts.call()
    assert (fact.outcome, fact.usage_source, fact.input_tokens) == ("incomplete", "estimated", 70)
    assert fact.output_tokens is not None
    assert fact.output_tokens >= 90
    whole_stream = bench(answer(anthropic_stream(["z" * 200])))
    await whole_stream.call(json.dumps(body).encode(), dialect=dialect, path=path)
    fact = whole_stream.facts.call()
    assert (fact.usage_source, fact.input_tokens, fact.output_tokens) == ("reported", 70, 50)


@pytest.mark.parametrize("status", [400, 401, 429, 500, 503, 302])
async def test_what_an_upstream_refused_costs_nothing(status: int) -> None:
    b = bench(answer([b'{"error":{"message":"no"}}'], JSON, status=status), config=one_try())
    await b.call(chat())
    fact = b.facts.call()
    assert (fact.outcome, fact.usage_source, fact.cost_nano_usd) == ("upstream_error", "unknown", None)
    assert drawn(b) == (0, 0)


def one_try():  # type: ignore[no-untyped-def]
    base = config()
    return msgspec.structs.replace(
        base, providers={name: msgspec.structs.replace(p, retries_max=0) for name, p in base.providers.items()}
    )


@pytest.mark.parametrize(
    ("phase", "timed_out", "outcome", "charged"),
    [
        (UpstreamPhase.CONNECT, False, "upstream_error", False),
        (UpstreamPhase.CONNECT, True, "timeout", False),
        (UpstreamPhase.SEND, False, "upstream_error", False),
        (UpstreamPhase.FIRST_BYTE, False, "upstream_error", False),
        (UpstreamPhase.FIRST_BYTE, True, "timeout", True),
    ],
)
async def test_a_timeout_after_sending_charges_the_reservation(
    phase: UpstreamPhase, timed_out: bool, outcome: str, charged: bool
) -> None:
    b = bench(lambda r: UpstreamError("x", phase=phase, timed_out=timed_out), config=one_try())
    reply = await b.call(chat(max_tokens=100))
    fact = b.facts.call()
    assert reply.status == (504 if timed_out else 502)
    assert (fact.outcome, fact.usage_source, fact.cost_nano_usd, fact.input_tokens) == (outcome, "unknown", None, None)
    money, tokens = drawn(b)
    if charged:
        assert tokens >= 100
        assert money >= 100 * 2000
        assert (fact.charged_nano_usd, fact.charged_tokens) == (money, tokens)
    else:
        assert (money, tokens) == (0, 0)


async def test_a_caller_gone_before_the_first_byte_is_charged_the_reservation() -> None:
    b = bench(answer([whole()], JSON, pause_s=5))
    b.upstream.exchange = lambda r: asyncio.sleep(5)  # type: ignore[method-assign,assignment,return-value]
    call = asyncio.create_task(b.call(chat(max_tokens=100)))
    await asyncio.sleep(0.02)
    for flow in list(b.services.in_flight.values()):
        flow.interrupt("gone")
    await call
    fact = b.facts.call()
    assert (fact.outcome, fact.usage_source) == ("client_gone", "unknown")
    assert drawn(b)[1] >= 100


async def test_a_call_that_never_left_the_queue_uses_nothing() -> None:
    policy = Scripted(
        lambda e, now: (Refuse(call=e.call, reason="queue_full", message="wait"),) if isinstance(e, Arrived) else None
    )
    b = bench(answer([whole()], JSON), policy=policy)
    await b.call(chat())
    fact = b.facts.call()
    assert (fact.outcome, fact.usage_source, fact.input_tokens, fact.charged_tokens) == ("refused", "unknown", None, 0)
    assert drawn(b) == (0, 0)
    waiting = bench(answer([whole()], JSON), policy=Scripted(lambda e, now: ()))
    call = asyncio.create_task(waiting.call(chat()))
    await asyncio.sleep(0.02)
    for flow in list(waiting.services.in_flight.values()):
        flow.interrupt("gone")
    await call
    assert waiting.facts.call().outcome == "client_gone"
    assert drawn(waiting) == (0, 0)


async def test_a_deadline_in_the_queue_is_a_refusal_that_used_nothing() -> None:
    b = bench(answer([whole()], JSON), policy=Scripted(lambda e, now: ()))
    reply = await b.call(chat(), x_headway_deadline_ms="30")
    assert (reply.status, b.facts.call().outcome) == (504, "refused")
    assert drawn(b) == (0, 0)


async def test_the_wait_for_admission_counts_against_the_deadline() -> None:
    from headway.calls.model import Admit, Tick, WaitUntil
    from headway.kernel.instants import after_ms

    def on(event, now):  # type: ignore[no-untyped-def]
        if isinstance(event, Arrived):
            return (WaitUntil(at=after_ms(now, 60), call=event.call),)
        return (Admit(call=event.call),) if isinstance(event, Tick) else None

    b = bench(answer([whole()], JSON), policy=Scripted(on))
    await b.call(chat(), x_headway_deadline_ms="1000")
    remaining = b.upstream.requests[0].remaining_ms
    assert remaining is not None
    assert remaining <= 945


async def test_what_a_withdrawn_attempt_reported_is_on_the_bill_of_the_call() -> None:
    def script(request: UpstreamRequest) -> FakeExchange:
        return FakeExchange(200, STREAM, chat_stream(["bad" if "one.test" in request.url else "good"]), pause_s=0.002)

    def on(event, now):  # type: ignore[no-untyped-def]
        match event:
            case Head(endpoint="one"):
                return (Hold(call=event.call),)
            case Chunk(usage=usage) if usage is not None and event.call and withdraw:
                withdraw.clear()
                return (Withdraw(call=event.call, reason="check", retry=True),)
        return None

    withdraw = [True]
    b = bench(script, others=(Scripted(on),))
    await b.call(chat("pair", stream=True))
    fact = b.facts.call()
    assert (fact.attempts, fact.input_tokens, fact.output_tokens) == (2, 11, 2)
    first, second = 11 * 1_000 + 2 * 2_000, 11 * 10_000 + 2 * 20_000
    assert fact.cost_nano_usd == first + second
    assert drawn(b) == (first + second, 26)


async def test_usage_of_one_attempt_never_passes_for_that_of_the_next() -> None:
    def script(request: UpstreamRequest) -> FakeExchange:
        first = "one.test" in request.url
        return FakeExchange(200, STREAM, chat_stream(["x" * 40], usage=first), pause_s=0.002)

    def on(event, now):  # type: ignore[no-untyped-def]
        match event:
            case Head(endpoint="one"):
                return (Hold(call=event.call),)
            case Chunk(usage=usage) if usage is not None:
                return (Withdraw(call=event.call, reason="check", retry=True),)
        return None

    b = bench(script, others=(Scripted(on),))
    await b.call(chat("pair", stream=True, text="q" * 4_000))
    fact = b.facts.call()
    assert (fact.attempts, fact.usage_source) == (2, "estimated")
    assert fact.input_tokens == fact.prompt_tokens_estimate
    assert fact.output_tokens is not None
    assert fact.cost_nano_usd == 15_000 + fact.input_tokens * 10_000 + fact.output_tokens * 20_000


async def test_choices_multiply_what_is_reserved() -> None:
    b = bench(answer([whole()], JSON))
    seen: list[int] = []
    reserve = b.services.book.reserve

    def spy(scopes, nano, tokens, now):  # type: ignore[no-untyped-def]
        seen.append(tokens)
        return reserve(scopes, nano, tokens, now)

    b.services.book.reserve = spy  # type: ignore[method-assign]
    await b.call(chat(max_tokens=100))
    await b.call(chat(max_tokens=100, n=8))
    assert seen[1] - seen[0] in range(700, 720), "n: 8 may answer eight times the maximum"


async def test_a_maximum_below_zero_cannot_buy_room() -> None:
    b = bench(answer([whole()], JSON))
    reply = await b.call(chat(max_tokens=-100_000))
    assert reply.status == 400
    assert drawn(b) == (0, 0)


async def test_a_price_that_is_not_known_is_refused_under_a_budget_in_money() -> None:
    b = bench(answer([whole()], JSON), config=config(dear=Feature(targets=("one/unpriced",))))
    reply = await b.call(chat("dear"))
    assert (reply.status, json.loads(reply.body)["error"]["code"]) == (403, "price_unknown")
    assert not b.upstream.requests


async def test_a_deadline_ends_the_wait_for_a_block() -> None:
    b = Bench(answer([whole()], JSON), config=config(), budgets=BUDGETS, prices=PRICES)
    start = mono_ns()
    reply = await b.call(chat(), x_headway_deadline_ms="50")
    assert reply.status == 504
    assert (mono_ns() - start) / 1e6 < 500


async def test_a_reply_that_breaks_while_refusing_is_still_one_fact() -> None:
    b = bench(answer([whole()], JSON))
    reply = FakeReply()

    async def broken(status: int, headers: object) -> None:
        raise ConnectionError

    reply.start = broken  # type: ignore[method-assign,assignment]
    await b.call(chat("nope"), reply=reply)
    assert b.facts.call().outcome == "client_gone"


def test_providers_of_the_bench_are_priced() -> None:
    assert all(isinstance(p, Provider) and p.price_as == "p" for p in config().providers.values())
