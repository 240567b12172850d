"""What goes down the link: snapshots with the keys of now, changes of keys after them, prices when they are due."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from headway.calls.pricing import PriceTable
from headway.config.model import Control, Settings, Tenant
from headway.control.publish import Publisher
from headway.kernel.instants import WallMs
from headway.ledger.budgets import specs
from headway.ledger.model import BudgetSpec, BudgetUnit, PrincipalKind, Role
from headway.ledger.port import LedgerUnavailable, NewKey
from headway.ledger.store import Ledger, open_ledger, sqlite_url
from headway.link.messages import KeysChanged, Snapshot

NOON = WallMs(1_795_521_600_000)
SETTINGS = Settings(
    tenants={"t": Tenant(budget_usd_per_day="1")}, control=Control(store="postgresql://u:canary@h/d", link_token="env:LINK")
)


class FakeLink:
    def __init__(self) -> None:
        self.sent: list[Snapshot | KeysChanged] = []

    def publish(self, snapshot: Snapshot) -> None:
        self.sent.append(snapshot)

    def publish_keys(self, changed: KeysChanged) -> None:
        self.sent.append(changed)


class Rig:
    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.link, self.now, self.compiled = ledger, FakeLink(), int(NOON), 0
        self.publisher = Publisher(ledger.keys, ledger.budgets, self.link, self.compile, now=lambda: WallMs(self.now))

    def compile(self, settings: Settings, now: WallMs) -> PriceTable:
        self.compiled += 1
        return PriceTable(version=f"v{self.compiled}", valid_until_wall_ms=now + 60_000)

    async def key(self) -> str:
        record, _ = await self.ledger.keys.create(NewKey(tenant="t"), actor="x", now=NOON)
        return record.id

    def keys_at_gateway(self) -> set[str]:
        known: set[str] = set()
        for message in self.link.sent:
            if isinstance(message, Snapshot):
                known = {key.id for key in message.keys}
            else:
                known = (known | {key.id for key in message.upserted}) - set(message.removed)
        return known


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    ledger = await open_ledger(sqlite_url(tmp_path / "ledger.db"))
    await ledger.budgets.sync(specs(SETTINGS.tenants), NOON)
    yield Rig(ledger)
    await ledger.close()


async def test_a_snapshot_holds_what_a_gateway_needs_and_nothing_of_controls_own(rig: Rig) -> None:
    key = await rig.key()
    await rig.publisher.put_in_force(SETTINGS, 3)
    (snapshot,) = rig.link.sent
    assert isinstance(snapshot, Snapshot)
    assert (snapshot.generation, snapshot.made_wall_ms, snapshot.prices.version) == (3, NOON, "v1")
    assert [k.id for k in snapshot.keys] == [key]
    (scope,) = snapshot.budgets
    assert (scope.budget, scope.scope, scope.cap, scope.block) == ("tenant:t:nano_usd:day", "tenant:t", 1_000_000_000, 50_000_000)
    assert b"canary" not in msgspec.msgpack.encode(snapshot)


async def test_revocation_and_disabling_reach_the_gateways_at_the_next_look(rig: Rig) -> None:
    one, two = await rig.key(), await rig.key()
    await rig.publisher.put_in_force(SETTINGS, 1)
    await rig.ledger.keys.revoke(one, actor="x", now=NOON)
    await rig.publisher.tick()
    assert rig.keys_at_gateway() == {two}
    service = await rig.ledger.principals.named(PrincipalKind.KEY, two)
    assert service is not None
    assert service.role is Role.VIEWER
    await rig.ledger.principals.set_disabled(service.id, True, actor="x", now=NOON)
    await rig.publisher.tick()
    assert rig.keys_at_gateway() == set()
    before = len(rig.link.sent)
    await rig.publisher.tick()
    assert len(rig.link.sent) == before, "nothing new, nothing sent"


async def test_a_snapshot_read_before_a_revocation_does_not_undo_it(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    key = await rig.key()
    await rig.publisher.put_in_force(SETTINGS, 1)
    real = rig.ledger.budgets.states

    async def revoked_meanwhile(now: WallMs) -> object:
        await rig.ledger.keys.revoke(key, actor="x", now=NOON)
        return await real(now)

    monkeypatch.setattr(rig.ledger.budgets, "states", revoked_meanwhile)
    await rig.publisher.put_in_force(SETTINGS, 2)
    assert rig.keys_at_gateway() == set()


async def test_a_budget_of_one_key_reaches_the_gateways_at_once_or_when_the_ledger_is_back(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rig.publisher.put_in_force(SETTINGS, 4)
    spec = BudgetSpec(scope="key:k", unit=BudgetUnit.TOKENS, period="day", cap=100)
    await rig.ledger.budgets.set_one(spec, actor="x", now=NOON)
    with monkeypatch.context() as away:

        async def nobody(now: WallMs) -> object:
            raise LedgerUnavailable("away")

        away.setattr(rig.ledger.budgets, "states", nobody)
        await rig.publisher.budgets_changed()
        assert len(rig.link.sent) == 1
        assert rig.publisher.problem == "away"
    await rig.publisher.tick()
    newest = rig.link.sent[-1]
    assert isinstance(newest, Snapshot)
    assert (newest.generation, {scope.scope for scope in newest.budgets}) == (4, {"tenant:t", "key:k"})
    sent = len(rig.link.sent)
    await rig.publisher.tick()
    assert len(rig.link.sent) == sent, "told once"


async def test_sending_again_never_brings_an_older_generation_back(rig: Rig) -> None:
    await rig.publisher.put_in_force(SETTINGS, 1)
    begun, go_on = threading.Event(), threading.Event()
    compiled = rig.compile

    def slowly(settings: Settings, now: WallMs) -> PriceTable:
        begun.set()
        go_on.wait(5)
        return compiled(settings, now)

    rig.publisher._compile = slowly
    again = asyncio.create_task(rig.publisher.republish())
    await asyncio.to_thread(begun.wait, 5)
    rig.publisher._compile = compiled
    newer = asyncio.create_task(rig.publisher.put_in_force(SETTINGS, 2))
    await asyncio.sleep(0.05)
    go_on.set()
    await asyncio.gather(again, newer)
    generations = [message.generation for message in rig.link.sent if isinstance(message, Snapshot)]
    assert generations == sorted(generations)
    assert generations[-1] == 2


async def test_prices_are_compiled_again_when_one_changes(rig: Rig) -> None:
    await rig.publisher.put_in_force(SETTINGS, 1)
    rig.now += 59_999
    await rig.publisher.tick()
    assert rig.compiled == 1
    rig.now += 1
    await rig.publisher.tick()
    newest = rig.link.sent[-1]
    assert isinstance(newest, Snapshot)
    assert (newest.prices.version, newest.generation) == ("v2", 1)


async def test_an_absent_ledger_is_a_problem_and_not_an_end(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await rig.publisher.put_in_force(SETTINGS, 1)

    async def away(version: int) -> object:
        raise LedgerUnavailable("unplugged")

    with monkeypatch.context() as patch:
        patch.setattr(rig.ledger.keys, "since", away)
        await rig.publisher.tick()
        assert rig.publisher.problem == "unplugged"
    await rig.publisher.tick()
    assert rig.publisher.problem == ""


async def test_nothing_is_sent_before_the_first_generation(rig: Rig) -> None:
    await rig.key()
    await rig.publisher.tick()
    await rig.publisher.republish()
    assert rig.link.sent == []
