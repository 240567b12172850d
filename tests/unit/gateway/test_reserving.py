"""A call waits for a block that is on its way, and is refused the moment control has nothing to lend; what is reserved holds upstream too."""

import asyncio
import json
import time
from typing import Any

import pytest
from gateway_bench import JSON, Bench, FakeExchange, chat, settings, whole

from headway.config.model import Feature
from headway.gateway.reserving import OUTPUT_TOKENS_UNSTATED
from headway.kernel.instants import mono_ns
from headway.ledger.model import BudgetUnit, Lease
from headway.link.messages import BudgetScope

SCOPE = BudgetScope(budget="b1", scope="tenant:acme", unit=BudgetUnit.TOKENS, block=15, cap=300)


def bench() -> Bench:
    return Bench(lambda r: FakeExchange(200, JSON, [whole()]), budgets=(SCOPE,))


def lease(number: int, amount: int) -> Lease:
    return Lease(id=f"l{number}", budget="b1", scope="tenant:acme", unit=BudgetUnit.TOKENS, amount=amount, ttl_ms=60_000)


async def test_a_partial_grant_and_then_a_refusal_end_the_wait_at_once() -> None:
    made = bench()
    call = asyncio.create_task(made.call(chat(max_tokens=50)))
    await asyncio.sleep(0.02)
    book = made.services.book
    assert book.to_ask.popleft()[1] > 50
    book.granted(lease(1, 20), mono_ns())
    await asyncio.sleep(0.05)
    assert book.to_ask, "what is still missing is asked for"
    started = time.monotonic()
    book.refused("b1", "nothing is left", 1_000)
    reply = await call
    assert time.monotonic() - started < 0.3
    assert reply.status == 429
    assert b"nothing is left" in reply.body
    assert reply.headers[b"x-should-retry"] == b"false"


async def test_an_old_refusal_does_not_stand_for_a_new_wish() -> None:
    made = bench()
    made.services.book.refused("b1", "nothing was left", None)
    call = asyncio.create_task(made.call(chat(max_tokens=50)))
    await asyncio.sleep(0.03)
    assert not call.done()
    made.services.book.granted(lease(2, 1_000), mono_ns())
    assert (await call).status == 200


# --- A call that names no maximum ----------------------------------------------------------------------------------------

MONEY = BudgetScope(budget="b1", scope="tenant:acme", unit=BudgetUnit.NANO_USD, block=10**9, cap=10**9)
TOKENS = BudgetScope(budget="b1", scope="tenant:acme", unit=BudgetUnit.TOKENS, block=50_000, cap=50_000)
SPOKEN: dict[str, tuple[str, dict[str, Any], str]] = {
    "openai-chat": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]}, "max_tokens"),
    "openai-responses": ("/v1/responses", {"input": "hi"}, "max_output_tokens"),
    "anthropic": ("/v1/messages", {"messages": [{"role": "user", "content": "hi"}]}, "max_tokens"),
}
ANTHROPIC = json.dumps(
    {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": "opus",
        "content": [{"type": "text", "text": "Hello"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 3, "output_tokens": 1},
    }
).encode()


def lent(scope: BudgetScope | None, **how: Any) -> Bench:
    """A bench whose tenant has the whole of its budget at hand."""
    made = Bench(
        lambda r: FakeExchange(200, JSON, [ANTHROPIC if "claude" in r.url else whole()]), budgets=(scope,) if scope else (), **how
    )
    if scope:
        made.services.book.granted(
            Lease(id="l1", budget="b1", scope=scope.scope, unit=scope.unit, amount=scope.cap, ttl_ms=60_000), mono_ns()
        )
    return made


async def sent(made: Bench, model: str, dialect: str = "openai-chat", **more: object) -> dict[str, Any]:
    path, body, _ = SPOKEN[dialect]
    reply = await made.call(json.dumps({"model": model, **body, **more}).encode(), path=path, dialect=dialect)
    assert reply.status == 200, reply.body
    seen: dict[str, Any] = json.loads(made.upstream.requests[-1].body)
    return seen


@pytest.mark.parametrize(
    ("dialect", "target", "key"),
    [
        ("openai-chat", "one/m1", "max_tokens"),
        ("openai-responses", "one/m1", "max_output_tokens"),
        ("anthropic", "claude/opus", "max_tokens"),
        ("openai-responses", "claude/opus", "max_tokens"),
    ],
)
async def test_what_is_reserved_for_the_answer_is_what_it_may_be(dialect: str, target: str, key: str) -> None:
    made = lent(TOKENS, config=settings(any=Feature(targets=(target,))))
    assert (await sent(made, "any", dialect))[key] == OUTPUT_TOKENS_UNSTATED
    assert (await sent(made, "any", dialect, **{SPOKEN[dialect][2]: 77}))[key] == 77


async def test_a_features_own_maximum_goes_before_the_default_and_without_a_budget_too() -> None:
    config = settings(short=Feature(targets=("one/m1",), max_output_tokens=9))
    assert (await sent(lent(TOKENS, config=config), "short"))["max_tokens"] == 9
    assert (await sent(lent(None, config=config), "short"))["max_tokens"] == 9


async def test_no_maximum_is_sent_where_no_budget_is_drawn_on() -> None:
    assert "max_tokens" not in await sent(lent(None), "chat")
    assert "max_tokens" not in await sent(lent(MONEY), "chat"), "a model of one's own takes nothing from a budget in money"


@pytest.mark.parametrize(("scope", "maximum"), [(TOKENS, {"max_tokens": 16}), (None, {})])
async def test_the_old_completions_route_is_sent_the_maximum_that_is_reserved(
    scope: BudgetScope | None, maximum: dict[str, int]
) -> None:
    made = lent(scope)
    await made.call(json.dumps({"model": "chat", "prompt": "hi"}).encode(), path="/v1/completions", unread=True)
    assert json.loads(made.upstream.requests[-1].body) == {"model": "m1", "prompt": "hi", **maximum}
