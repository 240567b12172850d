"""The gateway's end of the link against a control that speaks frames, and against the real one over a real ledger."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from admission_world import view
from gateway_bench import JSON, Bench, FakeExchange, chat, key_record, settings, whole

from headway.calls.admission.model import EndpointView
from headway.calls.pricing import PriceTable
from headway.control.leases import LeaseDesk
from headway.control.link import LinkServer, Listeners
from headway.facts.model import CallFact
from headway.facts.segments import read_segment
from headway.facts.spool import Spool, SpoolLimits
from headway.gateway import link as link_module
from headway.gateway import link_outbox
from headway.gateway.link import ControlLink, LinkAddress
from headway.gateway.link_outbox import Outbox
from headway.gateway.state import GatewayState
from headway.kernel.errors import ConfigError
from headway.kernel.instants import mono_ns, wall_ms
from headway.ledger.model import BudgetSpec, BudgetUnit, Lease
from headway.ledger.store import open_ledger, sqlite_url
from headway.link import frames
from headway.link.messages import (
    AdmissionSeen,
    BudgetScope,
    CallOpened,
    CallSeen,
    Down,
    Drain,
    Heartbeat,
    Hello,
    KeysChanged,
    LeaseClosed,
    LeaseGranted,
    LeaseRefused,
    LeaseReturned,
    LeaseWanted,
    SegmentSent,
    SegmentStored,
    Snapshot,
    Up,
)

BUDGET = BudgetScope(budget="tenant:acme:tokens:day", scope="tenant:acme", unit=BudgetUnit.TOKENS, block=1_000_000, cap=20_000_000)
Kind = TypeVar("Kind")


def snapshot(generation: int = 8, budgets: tuple[BudgetScope, ...] = (BUDGET,)) -> Snapshot:
    return Snapshot(
        generation=generation,
        made_wall_ms=wall_ms(),
        settings=settings(),
        keys=(key_record(),),
        prices=PriceTable(version="v"),
        budgets=budgets,
    )


class FakeControl:
    """Answers Hello with a snapshot; a test drives the rest."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heard: list[Up] = []
        self.hellos: list[Hello] = []
        self.greet = True
        self.writer: asyncio.StreamWriter | None = None
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, path=str(self.path))

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        if self.writer is not None:
            self.writer.close()
        await asyncio.sleep(0)
        self.path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            hello = await frames.read_up(reader)
            assert isinstance(hello, Hello)
            self.hellos.append(hello)
            if not self.greet:
                return
            self.writer = writer
            self.say(snapshot())
            while (message := await frames.read_up(reader)) is not None:
                self.heard.append(message)
        except (OSError, frames.LinkBroken):
            return
        finally:
            writer.close()

    def say(self, message: Down) -> None:
        assert self.writer is not None
        self.writer.write(frames.encode(message))

    def of(self, kind: type[Kind]) -> list[Kind]:
        return [m for m in self.heard if isinstance(m, kind)]

    async def wait_for(self, kind: type[Kind], n: int = 1) -> list[Kind]:
        await until(lambda: len(self.of(kind)) >= n)
        return self.of(kind)


async def until(true: Callable[[], object], timeout_s: float = 5.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not true():
            await asyncio.sleep(0.005)


class Rig:
    """A gateway's services with a real link and spool, without a listener."""

    def __init__(self, folder: Path) -> None:
        self.bench = Bench(lambda r: FakeExchange(200, JSON, [whole()]), budgets=())
        self.services = self.bench.services
        self.services.live = None
        self.state = GatewayState(self.services.metrics)
        self.spool = Spool(folder / "spool", "gw", SpoolLimits(flush_ms=5, segment_age_ms=20), on_closed=self._poke)
        self.services.facts = self.spool
        self.snapshots: list[Snapshot] = []
        self.keys: list[KeysChanged] = []
        self.drained = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        self.link = ControlLink(
            LinkAddress(path=folder / "link.sock"),
            self.services,
            self.state,
            self.spool,
            version="1",
            schema_version=1,
            on_snapshot=self.take,
            on_keys=self.keys.append,
            on_drain=self.drained.set,
        )
        self.services.feed = self.link
        self.fault: Exception | None = None
        self.task: asyncio.Task[None] | None = None

    def _poke(self) -> None:
        self.loop.call_soon_threadsafe(self.link.poke)

    async def take(self, snapshot: Snapshot) -> None:
        if self.fault is not None:
            raise self.fault
        self.snapshots.append(snapshot)
        self.services.live = Bench(lambda r: FakeExchange(200, JSON, [whole()]), budgets=snapshot.budgets).services.live
        self.services.book.install(snapshot.budgets)

    def run(self) -> None:
        self.task = asyncio.create_task(self.link.run())

    async def close(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
        await asyncio.to_thread(self.spool.close)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path)
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[FakeControl]:
    made = FakeControl(tmp_path / "link.sock")
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


async def test_hello_is_answered_by_a_snapshot_and_keys_and_drain_arrive(rig: Rig, control: FakeControl) -> None:
    rig.run()
    await until(lambda: rig.state.link_up)
    assert (control.hellos[0].gateway, control.hellos[0].generation, control.hellos[0].open_leases) == ("gw", 0, ())
    assert rig.snapshots[0].generation == 8
    control.say(KeysChanged(removed=("key_x",)))
    control.say(snapshot(9))
    control.say(Drain())
    await until(lambda: rig.drained.is_set())
    assert rig.keys == [KeysChanged(removed=("key_x",))]
    assert [s.generation for s in rig.snapshots] == [8, 9]
    assert (await control.wait_for(Heartbeat))[0].in_flight == 0


async def test_a_lease_is_asked_for_waited_for_drawn_on_and_told(rig: Rig, control: FakeControl) -> None:
    rig.run()
    await until(lambda: rig.state.link_up)
    call = asyncio.create_task(rig.bench.call(chat(), path="/v1/chat/completions"))
    wish = (await control.wait_for(LeaseWanted))[0]
    assert wish.budget == BUDGET.budget
    lease = Lease(id="lea_1", budget=BUDGET.budget, scope=BUDGET.scope, unit=BUDGET.unit, amount=wish.amount, ttl_ms=60_000)
    control.say(LeaseGranted(lease=lease, request=wish.request))
    assert (await call).status == 200
    await until(lambda: control.of(LeaseReturned))
    assert control.of(LeaseReturned)[-1] == LeaseReturned(lease="lea_1", spent=13, final=False)
    control.say(LeaseClosed(lease="lea_1"))
    await until(lambda: control.of(LeaseReturned)[-1].final)
    assert control.of(LeaseReturned)[-1].spent == 13


async def test_a_refused_lease_is_a_refused_call_that_says_when(rig: Rig, control: FakeControl) -> None:
    rig.run()
    await until(lambda: rig.state.link_up)
    call = asyncio.create_task(rig.bench.call(chat()))
    wish = (await control.wait_for(LeaseWanted))[0]
    control.say(LeaseRefused(budget=BUDGET.budget, request=wish.request, reason="the day's budget is spent", resets_in_ms=90_000))
    reply = await call
    assert (reply.status, reply.headers[b"retry-after"], reply.headers[b"x-should-retry"]) == (429, b"90", b"false")
    assert b"the day's budget is spent" in reply.body


async def test_control_away_refuses_leases_at_once_and_leaves_open_that_it_is_no_spent_budget(rig: Rig) -> None:
    await rig.take(snapshot())
    rig.run()
    start = mono_ns()
    reply = await rig.bench.call(chat())
    assert (mono_ns() - start) / 1e6 < 300
    assert reply.status == 503
    assert b"control is away" in reply.body
    assert reply.headers[b"x-should-retry"] == b"true"


async def test_calls_wait_for_a_link_that_is_being_made(rig: Rig, control: FakeControl) -> None:
    await rig.take(snapshot())
    call = asyncio.create_task(rig.bench.call(chat()))
    await asyncio.sleep(0.03)
    assert not call.done(), "nobody has yet tried to reach control"
    rig.run()
    wish = (await control.wait_for(LeaseWanted))[0]
    lease = Lease(id="lea_1", budget=BUDGET.budget, scope=BUDGET.scope, unit=BUDGET.unit, amount=wish.amount, ttl_ms=60_000)
    control.say(LeaseGranted(lease=lease, request=wish.request))
    assert (await call).status == 200


async def test_a_break_while_a_call_waits_for_its_block_ends_the_wait(rig: Rig, control: FakeControl) -> None:
    rig.run()
    await until(lambda: rig.state.link_up)
    call = asyncio.create_task(rig.bench.call(chat()))
    await control.wait_for(LeaseWanted)
    start = mono_ns()
    await control.stop()
    reply = await call
    assert reply.status == 503
    assert (mono_ns() - start) / 1e6 < 500


async def test_the_link_comes_back_by_itself_and_says_what_it_holds(rig: Rig, control: FakeControl) -> None:
    rig.run()
    await until(lambda: rig.state.link_up)
    lease = Lease(id="lea_1", budget=BUDGET.budget, scope=BUDGET.scope, unit=BUDGET.unit, amount=1_000_000, ttl_ms=60_000)
    control.say(LeaseGranted(lease=lease, request="r"))
    await until(lambda: rig.services.book.open_leases())
    await control.stop()
    await until(lambda: not rig.state.link_up)
    assert rig.services.metrics.link_breaks.value == 1
    assert (await rig.bench.call(chat())).status == 200, "leased budget goes on"
    again = FakeControl(control.path)
    await again.start()
    await until(lambda: rig.state.link_up)
    assert again.hellos[0].open_leases == ("lea_1",)
    assert again.hellos[0].generation > 0
    await until(lambda: again.of(LeaseReturned))
    assert again.of(LeaseReturned)[0].spent == 13
    await again.stop()


async def test_last_words_are_said_again_after_a_break() -> None:
    outbox = Outbox()
    outbox.settle("l1", 5, final=True)
    outbox.settle("l2", 1, final=False)
    assert [outbox.pop(), outbox.pop()] == [
        LeaseReturned(lease="l1", spent=5, final=True),
        LeaseReturned(lease="l2", spent=1, final=False),
    ]
    outbox.link_lost()
    assert outbox.pop() == LeaseReturned(lease="l1", spent=5, final=True)
    assert outbox.pop() is None


def test_settlements_are_one_a_lease_and_a_last_word_stays_last() -> None:
    outbox = Outbox()
    for spent, final in ((3, False), (9, True), (7, False)):
        outbox.settle("l1", spent, final=final)
    assert len(outbox) == 1
    assert outbox.pop() == LeaseReturned(lease="l1", spent=9, final=True)


def test_settlements_go_before_wishes_and_those_before_the_feed() -> None:
    outbox = Outbox()
    opened = CallOpened(call="c", started_wall_ms=1, tenant="t", feature="f", requested="f", dialect="d", stream=False)
    outbox.feed(opened)
    outbox.beat(Heartbeat(at_wall_ms=1, in_flight=0))
    outbox.wish(LeaseWanted(budget="b", amount=1, request="r"))
    outbox.settle("l", 1, final=False)
    kinds = [type(outbox.pop()) for _ in range(4)]
    assert kinds == [LeaseReturned, LeaseWanted, Heartbeat, CallOpened]


async def test_back_off_grows_while_control_closes_without_a_greeting(
    rig: Rig, control: FakeControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "RECONNECT_MS_FIRST", 5)
    control.greet = False
    rig.run()
    await asyncio.sleep(0.5)
    assert 3 <= len(control.hellos) <= 9, "5, 10, 20, 40, 80, 160, 320 ms"
    assert not rig.state.link_up


@pytest.mark.parametrize("fault", [ConfigError("no preset 'x'"), ValueError("'y' is not a valid DialectName")])
async def test_a_generation_that_cannot_be_used_here_leaves_the_old_one_and_the_link(
    rig: Rig, control: FakeControl, fault: Exception
) -> None:
    rig.run()
    await until(lambda: rig.state.link_up)
    rig.fault = fault
    control.say(snapshot(9))
    await until(lambda: "generation" in rig.state.problems)
    assert rig.state.link_up
    assert "9" in rig.state.problems["generation"]
    rig.fault = None
    control.say(snapshot(10))
    await until(lambda: "generation" not in rig.state.problems)
    assert rig.snapshots[-1].generation == 10


async def test_a_fault_of_ours_does_not_end_the_link_for_good(
    rig: Rig, control: FakeControl, caplog: pytest.LogCaptureFixture
) -> None:
    rig.fault = RuntimeError("bug")
    rig.run()
    await until(lambda: len(control.hellos) >= 1)
    rig.fault = None
    await until(lambda: rig.state.link_up)
    assert "fault of this gateway" in caplog.text


async def test_segments_are_sent_until_they_are_stored(rig: Rig, control: FakeControl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "RESEND_S", 0.05)
    rig.run()
    await until(lambda: rig.state.link_up)
    control.say(snapshot(9, budgets=()))
    await until(lambda: len(rig.snapshots) == 2)
    await rig.bench.call(chat())
    first = (await control.wait_for(SegmentSent))[0]
    rig.link.poke()
    again = (await control.wait_for(SegmentSent, 2))[1]
    assert again == first
    assert [type(f) for f in read_segment(first.data).facts][0] is CallFact
    control.say(SegmentStored(segment=first.segment))
    await until(lambda: not rig.spool.closed())


async def test_the_live_feed_shows_calls_and_is_shed_when_full(rig: Rig, control: FakeControl) -> None:
    rig.run()
    await until(lambda: rig.state.link_up)
    control.say(snapshot(9, budgets=()))
    await until(lambda: len(rig.snapshots) == 2)
    await rig.bench.call(chat())
    opened = (await control.wait_for(CallOpened))[0]
    seen = (await control.wait_for(CallSeen))[0]
    assert opened.call == seen.fact.call
    assert [a.provider for a in seen.attempts] == ["one"]
    message = CallOpened(call="c", started_wall_ms=1, tenant="t", feature="f", requested="f", dialect="d", stream=False)
    for _ in range(link_outbox.LINK_QUEUE_FRAMES_MAX + 10):
        rig.link._best_effort(message)
    assert rig.services.metrics.feed_shed.value == 10
    assert len(rig.link._outbox) <= link_outbox.LINK_QUEUE_FRAMES_MAX + 2


async def test_a_control_that_does_not_read_costs_bounded_memory_and_loses_the_link(
    rig: Rig, control: FakeControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "LINK_SILENCE_MS_MAX", 200)
    monkeypatch.setattr(link_module, "HEARTBEAT_S", 0.01)
    rig.run()
    await until(lambda: rig.state.link_up)
    assert control.writer is not None
    control.writer.transport.pause_reading()  # type: ignore[attr-defined]
    message = CallOpened(call="c" * 20_000, started_wall_ms=1, tenant="t", feature="f", requested="f", dialect="d", stream=False)
    for _ in range(200):
        rig.link._best_effort(message)
    await until(lambda: not rig.state.link_up, 5)
    assert len(rig.link._outbox) <= 1


@asynccontextmanager
async def real_control(folder: Path, cap: int) -> AsyncIterator[tuple[LinkServer, Any, dict[str, bytes]]]:
    ledger = await open_ledger(sqlite_url(folder / "ledger.db"))
    await ledger.budgets.sync([BudgetSpec(scope="tenant:acme", unit=BudgetUnit.TOKENS, period="day", cap=cap)], wall_ms())
    stored: dict[str, bytes] = {}

    async def store(gateway: str, segment: str, data: bytes) -> None:
        stored[segment] = data

    async def no_charges(leases: object) -> dict[str, int]:
        return {}

    desk = LeaseDesk(ledger.budgets, no_charges, now=wall_ms)
    heard: list[object] = []
    server = LinkServer(
        desk,
        Listeners(
            store_segment=store,
            on_opened=lambda g, m: heard.append(m),
            on_seen=lambda g, m: heard.append(m),
            on_heartbeat=lambda g, m: heard.append(m),
        ),
    )
    await server.listen_unix(folder / "link.sock")
    try:
        yield server, ledger, stored
    finally:
        await server.close()
        await ledger.close()


async def test_against_the_real_control_money_and_facts_add_up(rig: Rig, tmp_path: Path) -> None:
    cap = 20_000_000
    async with real_control(tmp_path, cap) as (server, ledger, stored):
        server.publish(snapshot())
        rig.run()
        await until(lambda: rig.state.link_up)
        replies = await asyncio.gather(*(rig.bench.call(chat()) for _ in range(40)))
        assert {r.status for r in replies} == {200}
        state = (await ledger.budgets.states(wall_ms()))[0]
        assert state.spent + state.leased <= cap
        await rig.link.settle_and_close()

        async def settled() -> bool:
            state = (await ledger.budgets.states(wall_ms()))[0]
            return bool(state.leased == 0 and state.spent == 40 * 13)

        await eventually(settled)
        await until(lambda: sum(isinstance(f, CallFact) for d in stored.values() for f in read_segment(d).facts) == 40)


async def test_the_real_control_dies_and_comes_back(rig: Rig, tmp_path: Path) -> None:
    async with real_control(tmp_path, 20_000_000) as (server, _, _):
        server.publish(snapshot())
        rig.run()
        await until(lambda: rig.state.link_up)
        assert (await rig.bench.call(chat())).status == 200
    await until(lambda: not rig.state.link_up)
    assert (await rig.bench.call(chat())).status == 200
    async with real_control(tmp_path, 20_000_000) as (server, ledger, _):
        server.publish(snapshot())
        await until(lambda: rig.state.link_up)
        assert (await rig.bench.call(chat())).status == 200
        await rig.link.settle_and_close()

        async def settled() -> bool:
            state = (await ledger.budgets.states(wall_ms()))[0]
            return bool(state.leased == 0 and state.spent == 3 * 13)

        await eventually(settled)


async def eventually(true: Callable[[], Awaitable[bool]], timeout_s: float = 5.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not await true():
            await asyncio.sleep(0.02)


# --- the state of admission


async def test_queues_are_told_every_second_and_their_end_once(
    rig: Rig, control: FakeControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "HEARTBEAT_S", 0.02)
    told = [view()]
    rig.services.admission_views = lambda _now: tuple(told)
    rig.run()
    assert (await control.wait_for(AdmissionSeen, 3))[-1].endpoints == (view(),)
    told.clear()
    await until(lambda: bool((seen := [m for m in control.heard if isinstance(m, AdmissionSeen)]) and seen[-1].endpoints == ()))
    ended = sum(isinstance(m, AdmissionSeen) for m in control.heard)
    await control.wait_for(Heartbeat, sum(isinstance(m, Heartbeat) for m in control.heard) + 3)
    assert sum(isinstance(m, AdmissionSeen) for m in control.heard) == ended


async def test_a_fault_in_telling_queues_is_a_problem_and_costs_no_link(
    rig: Rig, control: FakeControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "HEARTBEAT_S", 0.02)

    def fail(_now: object) -> tuple[EndpointView, ...]:
        raise RuntimeError("no view")

    rig.services.admission_views = fail
    rig.run()
    await until(lambda: "admission" in rig.state.problems)
    rig.services.admission_views = lambda _now: (view(),)
    await control.wait_for(AdmissionSeen)
    assert "admission" not in rig.state.problems
    assert len(control.hellos) == 1


def test_the_busiest_tenants_are_told_where_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "ADMISSION_TENANTS_SEEN_MAX", 2)
    assert [t.tenant for t in link_module.shortened(view()).tenants] == ["reports", "globex"]
    assert link_module.shortened(view()).submitted == view().submitted
