"""Stored rows as verdicts read them: calls with those before and beside them, from a real store."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headway.calls.phases.model import Cause
from headway.calls.phases.settings import Settings
from headway.control.access import Who
from headway.control.errors import Refused
from headway.control.phases import PhaseBook
from headway.facts.engine import Engine
from headway.facts.model import AttemptFact, CallFact
from headway.facts.parquet_store import ParquetStore
from headway.facts.phases import PhaseQuery, beside_tokens, read_call, read_phases
from headway.kernel.ids import new_id
from headway.kernel.instants import WallMs
from headway.ledger.model import Role

T0 = 1_764_028_800_000
RUN = "0123456789abcdef"
OWNER = Who(principal="p", name="ada", role=Role.OWNER)
BOLT = Who(principal="q", name="bo", role=Role.VIEWER, tenant="bolt")


class Facts:
    def __init__(self, folder: Path) -> None:
        self.store = ParquetStore.open(folder)
        self.engine = Engine(self.store)
        self.now = WallMs(T0 + 3_600_000)
        self.book = PhaseBook(self.engine, lambda: self.now, Settings())
        self.segments = 0

    def put(self, pairs: list[tuple[CallFact, list[AttemptFact]]]) -> None:
        self.segments += 1
        rows = {"call": [call for call, _ in pairs], "attempt": [each for _, tries in pairs for each in tries]}
        self.store.append("g", f"{T0:013d}-{RUN}-{self.segments:06d}", rows, WallMs(T0))  # type: ignore[arg-type]


@pytest.fixture
async def facts(tmp_path: Path) -> AsyncIterator[Facts]:
    made = Facts(tmp_path / "facts")
    yield made
    await made.engine.close()
    made.store.close()


def pair(
    number: int, *, address: str = "93.184.216.34", wait_ms: float = 0.0, origin: str = "client", **more: object
) -> tuple[CallFact, list[AttemptFact]]:
    at = T0 + number * 2_000
    sent, first = 2.0, 2.0 + 300.0 + 7 * (number % 5) + wait_ms
    last = first + 15.0 * 59 + 3 * (number % 7)
    fields = {
        "call": new_id("call", at),
        "started_wall_ms": at,
        "duration_ms": last + 1.0,
        "gateway": "g",
        "tenant": "acme",
        "origin": origin,
        "routed": "p/m",
        "outcome": "done",
        "attempts": 1,
        "first_token_ms": first,
        "input_tokens": 1_000,
        "output_tokens": 60,
        "cached_tokens": 800,
        "prefix_hashes": (1, 2, 3),
        **more,
    }
    call = CallFact(**fields)  # type: ignore[arg-type]
    tried = AttemptFact(
        call=call.call,
        attempt=1,
        started_wall_ms=at,
        gateway="g",
        provider="p",
        upstream_model="m",
        answered="m-2026",
        region="eu",
        address=address,
        status=200,
        start_ms=0.0,
        sent_ms=sent,
        first_token_ms=first,
        last_token_ms=last,
        duration_ms=last,
        input_tokens=call.input_tokens,
        cached_tokens=call.cached_tokens,
        output_tokens=call.output_tokens,
    )
    return call, [tried]


async def test_calls_are_tied_to_those_before_them(facts: Facts) -> None:
    first = pair(0, run="r", stop="tool_use")
    second = pair(4, run="r", prefix_hashes=(1, 2, 9, 10))
    other = pair(6, tenant="bolt", prefix_hashes=(7,))
    failed, unsent = pair(7, outcome="upstream_error"), pair(8, attempts=0, outcome="refused")
    piece, probe = pair(9, origin="piece"), pair(10, origin="probe")
    facts.put([first, second, other, failed, unsent, piece, probe])
    where = PhaseQuery(since_wall_ms=T0, until_wall_ms=T0 + 60_000)
    read = await facts.engine.run(lambda reader: read_phases(reader, [where], 100))
    assert [seen.call for seen in read.seen] == [first[0].call, second[0].call, other[0].call, probe[0].call]
    one, two, three, four = read.seen
    assert (one.asked, one.model, one.region, one.hosted, one.probe) == ("m", "m-2026", "eu", True, False)
    assert one.prefix_seen_before_ms is None
    assert one.idle_ms is None
    assert two.prefix_seen_before_ms == two.idle_ms == 8_000.0
    assert two.tool_ms == pytest.approx(8_000 - first[0].duration_ms)
    assert (three.prefix_seen_before_ms, three.idle_ms, three.tool_ms) == (None, None, 0.0)
    assert four.probe
    assert one.cached_tokens == 800
    assert [prompt.hashes for prompt in read.prompts][:2] == [(1, 2, 3), (1, 2, 9, 10)]


async def test_what_is_over_the_limit_is_counted(facts: Facts) -> None:
    facts.put([pair(n) for n in range(20)])
    where = PhaseQuery(since_wall_ms=T0, until_wall_ms=T0 + 60_000)
    newest = await facts.engine.run(lambda reader: read_phases(reader, [where], 5))
    oldest = await facts.engine.run(
        lambda reader: read_phases(reader, [PhaseQuery(since_wall_ms=T0, until_wall_ms=T0 + 60_000, oldest=True)], 5)
    )
    assert (len(newest.seen), newest.left_out) == (5, 15)
    assert newest.seen[0].at_ms == T0 + 15 * 2_000
    assert oldest.seen[-1].at_ms == T0 + 4 * 2_000


async def test_a_zero_that_nobody_ever_exceeded_is_not_reported(facts: Facts) -> None:
    facts.put([pair(n, cached_tokens=0) for n in range(3)])
    where = PhaseQuery(since_wall_ms=T0, until_wall_ms=T0 + 60_000)
    read = await facts.engine.run(lambda reader: read_phases(reader, [where], 100))
    assert {seen.cached_tokens for seen in read.seen} == {None}


@pytest.mark.parametrize(
    ("address", "hosted"),
    [("10.1.2.3", False), ("127.0.0.1:8000", False), ("[::1]:8000", False), ("93.184.216.34:443", True), ("", True)],
)
async def test_engines_of_ones_own_are_known_by_their_address(facts: Facts, address: str, hosted: bool) -> None:
    facts.put([pair(1, address=address), pair(1, address=address, wait_ms=50.0)])
    where = PhaseQuery(since_wall_ms=T0, until_wall_ms=T0 + 60_000)
    read = await facts.engine.run(lambda reader: read_phases(reader, [where], 100))
    assert {seen.hosted for seen in read.seen} == {hosted}
    assert {seen.beside_tokens for seen in read.seen} == ({None} if hosted else {200})


def test_nobody_reads_beside_a_call_that_has_its_first_token() -> None:
    assert beside_tokens([]) == []


async def test_one_stored_call_is_judged(facts: Facts) -> None:
    slow = pair(60, queue_ms=1_500.0, duration_ms=3_000.0, first_token_ms=1_802.0)
    slow[1][0] = AttemptFact(
        **{
            **{name: getattr(slow[1][0], name) for name in AttemptFact.__struct_fields__},
            "queue_ms": 1_500.0,
            "sent_ms": 1_502.0,
            "first_token_ms": 1_802.0,
            "last_token_ms": 2_700.0,
        }
    )
    facts.put([*(pair(n) for n in range(60)), slow])
    found = await facts.book.judged(slow[0].call, OWNER)
    assert found is not None
    assert found.verdict.cause is Cause.OWN_QUEUE
    assert found.verdict.n_baseline == 60
    assert sum(found.split.parts_ms.values()) == found.split.duration_ms == 3_000.0
    assert await facts.book.judged(slow[0].call, OWNER) is found
    assert await facts.book.judged(slow[0].call, BOLT) is None
    assert await facts.book.judged(new_id("call", T0), OWNER) is None
    assert await facts.book.judged("nonsense", OWNER) is None
    stored = await facts.engine.run(lambda reader: read_call(reader, slow[0].call, 3_600_000, 0, 10))
    assert stored is not None
    assert len(stored[1].seen) == 10


async def test_what_changed_since(facts: Facts) -> None:
    facts.put(
        [*(pair(n) for n in range(100)), *(pair(n, wait_ms=700.0, tenant="bolt" if n % 2 else "acme") for n in range(100, 180))]
    )
    facts.now = WallMs(T0 + 400_000)
    found = await facts.book.since(T0 + 200_000, OWNER)
    assert (found.report.n_before, found.report.n_after) == (100, 80)
    assert found.report.added.value == pytest.approx(700, rel=0.1)
    assert found.report.verdicts
    own = await facts.book.since(T0 + 200_000, BOLT)
    assert own.report.n_after == 40
    for bad in (T0 + 500_000, T0 - 8 * 24 * 3_600_000):
        with pytest.raises(Refused):
            await facts.book.since(bad, OWNER)
