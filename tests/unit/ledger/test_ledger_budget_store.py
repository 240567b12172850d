"""Budgets and leases in the store: what is lent, taken back, expired and reconciled, by one control and by two."""

import asyncio
import random

import pytest

from headway.kernel.instants import WallMs
from headway.kernel.limits import LEASE_TTL_S, LEASES_KEPT_DAYS
from headway.ledger import budgets as rules
from headway.ledger.model import BudgetSpec, BudgetState, BudgetUnit, LeaseState
from headway.ledger.port import LeaseAt
from headway.ledger.store import Ledger, open_ledger

DAY_MS = 86_400_000
EXPIRY_MS = LEASE_TTL_S * 1000 + rules.EXPIRY_SLACK_MS


def spec(cap: int, scope: str = "tenant:t", unit: BudgetUnit = BudgetUnit.NANO_USD, period: str = "day") -> BudgetSpec:
    return BudgetSpec(scope=scope, unit=unit, period=period, cap=cap)


async def state(ledger: Ledger, now: WallMs, budget: str = "tenant:t:nano_usd:day") -> BudgetState:
    return next(s for s in await ledger.budgets.states(now) if s.id == budget)


def figures(found: BudgetState) -> tuple[int, int, int, int]:
    return found.cap, found.spent, found.leased, found.overrun


async def lend(ledger: Ledger, amount: int, now: WallMs, *, request: str = "r", gateway: str = "g") -> str:
    granted = await ledger.budgets.grant(spec(0).id, amount, gateway=gateway, request=request, now=now)
    assert granted.lease is not None, granted.reason
    return granted.lease.id


async def test_a_generation_states_the_budgets_and_ends_those_it_does_not_name(ledger: Ledger, noon: WallMs) -> None:
    both = [spec(100), spec(7, unit=BudgetUnit.TOKENS, period="month")]
    assert list(await ledger.budgets.sync(both, noon)) == []
    assert [s.id for s in await ledger.budgets.states(noon)] == ["tenant:t:nano_usd:day", "tenant:t:tokens:month"]
    await ledger.budgets.set_one(spec(9, scope="key:key_1"), actor="ann", now=noon)
    lease = await lend(ledger, 40, noon)
    assert list(await ledger.budgets.sync([both[1]], noon)) == [LeaseAt("g", lease)]
    assert [s.id for s in await ledger.budgets.states(noon)] == ["key:key_1:nano_usd:day", "tenant:t:tokens:month"]
    refused = await ledger.budgets.grant(spec(0).id, 1, gateway="g", request="r2", now=noon)
    assert (refused.lease, refused.reason) == (None, "there is no such budget any more")
    await ledger.budgets.give_back(lease, 30, final=True, now=noon)
    await ledger.budgets.sync(both, noon)
    assert figures(await state(ledger, noon)) == (100, 30, 0, 0), "named again, it remembers what was spent"


async def test_one_request_gets_one_lease(ledger: Ledger, noon: WallMs) -> None:
    await ledger.budgets.sync([spec(100)], noon)
    first = await ledger.budgets.grant(spec(0).id, 60, gateway="g", request="r", now=noon)
    again = await ledger.budgets.grant(spec(0).id, 60, gateway="g", request="r", now=WallMs(noon + 10_000))
    other = await ledger.budgets.grant(spec(0).id, 60, gateway="h", request="r", now=noon)
    assert first.lease is not None
    assert again.lease is not None
    assert other.lease is not None
    assert (again.lease.id, again.lease.amount, first.lease.ttl_ms) == (first.lease.id, 60, LEASE_TTL_S * 1000)
    assert (other.lease.amount, figures(await state(ledger, noon))) == (40, (100, 0, 100, 0)), "a partial grant"
    refused = await ledger.budgets.grant(spec(0).id, 1, gateway="g", request="r9", now=noon)
    assert refused.lease is None
    assert refused.resets_in_ms == DAY_MS // 2
    assert "tenant:t" in refused.reason


async def test_a_lowered_cap_asks_each_block_back_once(ledger: Ledger, noon: WallMs) -> None:
    await ledger.budgets.sync([spec(100)], noon)
    one, two = await lend(ledger, 40, noon, request="1"), await lend(ledger, 40, noon, request="2", gateway="h")
    back = await ledger.budgets.sync([spec(50)], noon)
    assert set(back) == {LeaseAt("g", one), LeaseAt("h", two)}
    assert figures(await state(ledger, noon)) == (80, 0, 80, 0)
    assert (await ledger.budgets.grant(spec(0).id, 1, gateway="g", request="3", now=noon)).lease is None
    assert list(await ledger.budgets.hello("g", (one,), said_wall_ms=noon, now=noon)) == [one], "asked again at a Hello"
    await ledger.budgets.give_back(one, 10, final=True, now=noon)
    assert figures(await state(ledger, noon)) == (50, 10, 40, 0)
    assert list(await ledger.budgets.sync([spec(50)], noon)) == [], "enough is back"


async def test_a_new_day_starts_at_zero_and_old_blocks_count_in_theirs(ledger: Ledger, noon: WallMs) -> None:
    await ledger.budgets.sync([spec(100)], noon)
    lease = await lend(ledger, 90, noon)
    tomorrow = WallMs(noon + DAY_MS)
    assert figures(await state(ledger, tomorrow)) == (100, 0, 0, 0), "shown before anything was lent"
    fresh = await lend(ledger, 100, tomorrow, request="2")
    await ledger.budgets.give_back(lease, 70, final=True, now=tomorrow)
    await ledger.budgets.give_back(fresh, 5, final=False, now=tomorrow)
    newest, oldest = await ledger.budgets.history(spec(0).id, 10)
    assert (figures(newest), figures(oldest)) == ((100, 5, 95, 0), (100, 70, 0, 0))


async def test_expiry_counts_all_and_reconciliation_frees_the_rest(ledger: Ledger, noon: WallMs) -> None:
    await ledger.budgets.sync([spec(100)], noon)
    lease = await lend(ledger, 60, noon)
    renewed = await lend(ledger, 10, noon, request="2")
    late = WallMs(noon + EXPIRY_MS)
    await ledger.budgets.give_back(renewed, 1, final=False, now=WallMs(noon + 30_000))
    assert [r.id for r in await ledger.budgets.expire(WallMs(late - 1))] == []
    assert [(r.id, r.state) for r in await ledger.budgets.expire(late)] == [(lease, LeaseState.EXPIRED)]
    assert list(await ledger.budgets.expire(late)) == []
    assert figures(await state(ledger, late)) == (100, 61, 9, 0)
    assert [r.id for r in await ledger.budgets.unsettled("g", late)] == [lease]
    assert list(await ledger.budgets.unsettled("h", late)) == []
    assert [(r.id, r.spent) for r in await ledger.budgets.reconcile({lease: 25, "lea_unknown": 9}, late)] == [(lease, 25)]
    assert figures(await state(ledger, late)) == (100, 26, 9, 0)
    assert list(await ledger.budgets.reconcile({lease: 25}, late)) == [], "twice is once"


async def test_a_hello_expires_what_the_gateway_no_longer_holds(ledger: Ledger, noon: WallMs) -> None:
    await ledger.budgets.sync([spec(100)], noon)
    held, lost = await lend(ledger, 10, noon, request="1"), await lend(ledger, 20, noon, request="2")
    foreign = await lend(ledger, 5, noon, request="3", gateway="h")
    said = WallMs(noon + 1_000)
    newer = await lend(ledger, 7, WallMs(noon + 1_001), request="4")
    assert list(await ledger.budgets.hello("g", (held, "lea_never"), said_wall_ms=said, now=WallMs(noon + 2_000))) == ["lea_never"]
    assert figures(await state(ledger, noon)) == (100, 20, 22, 0), "only the lost block is spent"
    assert [r.id for r in await ledger.budgets.unsettled("g", said)] == [lost]
    assert list(await ledger.budgets.expire(WallMs(noon + EXPIRY_MS))) != [], "the foreign one was not renewed"
    assert {foreign, newer, held} >= {r.id for r in await ledger.budgets.unsettled("h", said)}


async def test_old_leases_go_and_what_they_spent_stays(ledger: Ledger, noon: WallMs) -> None:
    await ledger.budgets.sync([spec(100)], noon)
    lease = await lend(ledger, 40, noon)
    await ledger.budgets.give_back(lease, 15, final=True, now=noon)
    gone_at = WallMs(noon + EXPIRY_MS + LEASES_KEPT_DAYS * DAY_MS)
    await ledger.budgets.expire(WallMs(gone_at - 1))
    assert await ledger.budgets.give_back(lease, 16, final=True, now=noon) is not None
    await ledger.budgets.expire(gone_at)
    assert await ledger.budgets.give_back(lease, 17, final=True, now=noon) is None
    assert [figures(s) for s in await ledger.budgets.history(spec(0).id, 5)] == [(100, 16, 0, 0)]


async def test_an_unknown_lease_is_nobodys(ledger: Ledger, noon: WallMs) -> None:
    assert await ledger.budgets.give_back("lea_unknown", 5, final=True, now=noon) is None


async def test_two_controls_never_lend_the_same_money_twice(ledger: Ledger, ledger_url: str, noon: WallMs) -> None:
    other = await open_ledger(ledger_url)
    try:
        specs = [spec(1_000), spec(500, scope="tenant:u")]
        await ledger.budgets.sync(specs, noon)
        draw = random.Random(7)
        for _ in range(6):
            asks = [
                led.budgets.grant(
                    draw.choice(specs).id, draw.randint(1, 90), gateway=gateway, request=f"{gateway}{draw.random()}", now=noon
                )
                for led, gateway in [(ledger, "g"), (other, "h")] * 15
            ]
            granted = [g.lease for g in await asyncio.gather(*asks) if g.lease is not None]
            returns = [
                draw.choice((ledger, other)).budgets.give_back(
                    lease.id, draw.randint(0, lease.amount), final=draw.random() < 0.6, now=noon
                )
                for lease in granted
            ]
            resync = [ledger.budgets.sync([spec(draw.choice([900, 1_000])), specs[1]], noon), other.budgets.expire(noon)]
            await asyncio.gather(*returns, *resync)
            for found in await ledger.budgets.states(noon):
                assert found.spent + found.leased <= found.cap
                assert found.overrun == 0
    finally:
        await other.close()


@pytest.mark.parametrize("scope", ["tenant:it's; DROP TABLE leases;--", "tenant:ünïcode"])
async def test_names_are_only_ever_values(ledger: Ledger, noon: WallMs, scope: str) -> None:
    await ledger.budgets.sync([spec(100, scope=scope)], noon)
    granted = await ledger.budgets.grant(f"{scope}:nano_usd:day", 5, gateway="g", request="r", now=noon)
    assert granted.lease is not None
    assert granted.lease.scope == scope
