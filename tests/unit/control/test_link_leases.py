"""The lease desk over a real ledger: a store that goes away, a gateway that dies, and facts that settle what it left."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from headway.control.leases import LeaseDesk
from headway.kernel.errors import HeadwayError
from headway.kernel.instants import NS_PER_MS, MonoNs, WallMs
from headway.kernel.limits import LEASE_RECONCILE_QUIET_MS, LEASE_TTL_S
from headway.ledger.budgets import EXPIRY_SLACK_MS
from headway.ledger.model import BudgetSpec, BudgetUnit, LeaseRecord
from headway.ledger.port import LedgerUnavailable
from headway.ledger.store import Ledger, open_ledger, sqlite_url
from headway.link.messages import LeaseGranted, LeaseRefused, LeaseReturned, LeaseWanted

NOON = 1_795_521_600_000
BUDGET = "tenant:t:nano_usd:day"


class Flaky:
    """The ledger's budgets, away while ``away`` says so."""

    def __init__(self, ledger: Ledger) -> None:
        self._budgets, self.away = ledger.budgets, False

    def __getattr__(self, name: str) -> object:
        if self.away:
            raise LedgerUnavailable("unplugged")
        return getattr(self._budgets, name)


class Rig:
    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.budgets = ledger, Flaky(ledger)
        self.wall, self.mono = NOON, 0
        self.charged: dict[str, int] = {}
        self.facts_away = False
        self.desk = LeaseDesk(
            self.budgets,  # type: ignore[arg-type]
            self.charges,
            now=lambda: WallMs(self.wall),
            mono=lambda: MonoNs(self.mono * NS_PER_MS),
        )

    async def charges(self, leases: Sequence[LeaseRecord]) -> dict[str, int]:
        if self.facts_away:
            raise HeadwayError("no facts")
        return {record.id: self.charged.get(record.id, 0) for record in leases}

    def wait(self, ms: int) -> None:
        self.wall += ms
        self.mono += ms

    async def lease(self, request: str = "r", amount: int = 50) -> str:
        granted = await self.desk.wanted("g", LeaseWanted(budget=BUDGET, amount=amount, request=request))
        assert isinstance(granted, LeaseGranted), granted
        return granted.lease.id

    async def figures(self) -> tuple[int, int]:
        (state,) = await self.ledger.budgets.states(WallMs(self.wall))
        return state.spent, state.leased


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    ledger = await open_ledger(sqlite_url(tmp_path / "ledger.db"))
    spec = BudgetSpec(scope="tenant:t", unit=BudgetUnit.NANO_USD, period="day", cap=100)
    await ledger.budgets.sync([spec], WallMs(NOON))
    yield Rig(ledger)
    await ledger.close()


async def test_a_wish_is_granted_refused_or_told_that_the_ledger_is_away(rig: Rig) -> None:
    await rig.lease(amount=90)
    partial = await rig.desk.wanted("g", LeaseWanted(budget=BUDGET, amount=90, request="2"))
    assert isinstance(partial, LeaseGranted)
    assert partial.lease.amount == 10
    refused = await rig.desk.wanted("g", LeaseWanted(budget=BUDGET, amount=1, request="3"))
    assert isinstance(refused, LeaseRefused)
    assert refused.resets_in_ms == 43_200_000
    rig.budgets.away = True
    away = await rig.desk.wanted("g", LeaseWanted(budget=BUDGET, amount=1, request="4"))
    assert isinstance(away, LeaseRefused)
    assert "away" in away.reason
    assert rig.desk.problem == "unplugged"


async def test_what_is_returned_while_the_ledger_is_away_is_settled_later(rig: Rig) -> None:
    lease = await rig.lease()
    rig.budgets.away = True
    await rig.desk.returned(LeaseReturned(lease=lease, spent=5, final=False))
    await rig.desk.returned(LeaseReturned(lease=lease, spent=20, final=True))
    await rig.desk.returned(LeaseReturned(lease=lease, spent=7, final=False))
    assert await rig.figures() == (0, 50)
    rig.budgets.away = False
    await rig.desk.tick()
    assert await rig.figures() == (20, 0)
    assert rig.desk.problem == ""


async def test_returns_waiting_for_the_ledger_are_bounded(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headway.control.leases.LEASE_RETURNS_WAITING_MAX", 2)
    rig.budgets.away = True
    for i in range(5):
        await rig.desk.returned(LeaseReturned(lease=f"lea_{i}", spent=1, final=True))
    assert list(rig.desk._returns) == ["lea_3", "lea_4"]


async def test_a_killed_gateway_costs_its_block_until_its_spool_is_empty(rig: Rig) -> None:
    await rig.desk.hello("g", ())
    lease = await rig.lease()
    rig.desk.gone("g")
    rig.wait(2_000)
    await rig.desk.hello("g", ())
    assert await rig.figures() == (50, 0), "nobody knows better"
    rig.charged[lease] = 12
    rig.desk.heartbeat("g", 1_000_000)
    rig.desk.segment_came("g", "0000000999000-abc-000001")
    await rig.desk.tick()
    assert await rig.figures() == (50, 0), "an old segment is on its way"
    rig.desk.segment_stored("g", "0000000999000-abc-000001")
    await rig.desk.tick()
    assert await rig.figures() == (50, 0), "more old ones may follow"
    rig.desk.segment_came("g", "0000001000500-def-000001")
    rig.desk.segment_stored("g", "0000001000500-def-000001")
    await rig.desk.tick()
    assert await rig.figures() == (12, 0), "a segment of the new life is stored: the old ones are all in"


async def test_a_quiet_gateway_counts_as_emptied_after_a_while(rig: Rig) -> None:
    await rig.desk.hello("g", ())
    lease = await rig.lease()
    rig.charged[lease] = 30
    rig.wait(1)
    await rig.desk.hello("g", ())
    rig.wait(LEASE_RECONCILE_QUIET_MS - 1)
    await rig.desk.tick()
    assert await rig.figures() == (50, 0)
    rig.wait(1)
    rig.facts_away = True
    await rig.desk.tick()
    assert await rig.figures() == (50, 0)
    assert "could not be reconciled" in rig.desk.problem
    rig.facts_away = False
    await rig.desk.tick()
    assert await rig.figures() == (30, 0)


async def test_a_block_that_is_still_held_is_never_reconciled_from_facts(rig: Rig) -> None:
    await rig.desk.hello("g", ())
    lease = await rig.lease()
    rig.wait(5)
    assert list(await rig.desk.hello("g", (lease,))) == []
    rig.wait(LEASE_TTL_S * 1000 + EXPIRY_SLACK_MS)
    await rig.desk.tick()
    assert await rig.figures() == (50, 0), "a long call holds it past its time: all of it counts as spent"
    await rig.desk.returned(LeaseReturned(lease=lease, spent=9, final=True))
    assert await rig.figures() == (9, 0), "its gateway has the last word"


async def test_a_hello_while_the_ledger_is_away_is_said_again(rig: Rig) -> None:
    await rig.desk.hello("g", ())
    await rig.lease("old")
    rig.wait(10)
    rig.budgets.away = True
    assert list(await rig.desk.hello("g", ())) == []
    rig.budgets.away = False
    rig.wait(10)
    fresh = await rig.lease("new", amount=20)
    await rig.desk.tick()
    assert await rig.figures() == (50, 20), "the old block expired, the one granted since did not"
    await rig.desk.returned(LeaseReturned(lease=fresh, spent=0, final=True))
    assert await rig.figures() == (50, 0)


async def test_an_undelivered_grant_is_free_again(rig: Rig) -> None:
    granted = await rig.desk.wanted("g", LeaseWanted(budget=BUDGET, amount=50, request="r"))
    assert isinstance(granted, LeaseGranted)
    await rig.desk.undelivered(granted)
    assert await rig.figures() == (0, 0)
