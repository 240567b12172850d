"""A call waits for a block that is on its way, and is refused the moment control has nothing to lend."""

import asyncio
import time

from gateway_bench import JSON, Bench, FakeExchange, chat, whole

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
