"""The evidence of admission from stored facts: against figures computed here by hand, on an engine whose truth is known, and where there is nothing."""

import math
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from admission_world import FLOOR_MS, GIANT_TOKENS, MS_PER_TOKEN, Wish, World, played, wishes

from headway.calls.admission.objectives import Objective
from headway.calls.admission.report import AdmissionReport, Stratum, quantile
from headway.facts.answers import AdmissionQuery
from headway.facts.engine import Engine
from headway.facts.files import FactFiles, segment_file
from headway.facts.model import AttemptFact, CallFact, Fact
from headway.facts.parquet import arrow_table, write_durably
from headway.facts.parquet_store import ParquetStore
from headway.facts.table import FactTable
from headway.kernel.ids import new_id
from headway.kernel.instants import WallMs

T0 = 1_790_000_000_000 // 3_600_000 * 3_600_000
HOUR_MS = 3_600_000


class Store:
    def __init__(self, folder: Path) -> None:
        self.files = FactFiles.open(folder)
        self.engine = Engine(ParquetStore(self.files))
        self.table = FactTable(self.engine)
        self._number = 0

    def put(self, facts: list[Fact]) -> None:
        self._number += 1
        for name, kind in (("call", CallFact), ("attempt", AttemptFact)):
            rows = [fact for fact in facts if isinstance(fact, kind)]
            if rows:
                file = segment_file(self.files.folder / name, "g", f"{T0:013d}-0123456789abcdef-{self._number:06d}")
                write_durably(file.path, arrow_table(name, rows))
                self.files.added(name, file)

    async def report(self, objectives: dict[str, Objective] | None = None, **where: object) -> AdmissionReport:
        query = AdmissionQuery(since_wall_ms=T0, until_wall_ms=T0 + HOUR_MS, **where)  # type: ignore[arg-type]
        return await self.table.admission(query, 60_000, objectives or {}, WallMs(T0 + HOUR_MS))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    made = Store(tmp_path / "facts")
    yield made
    await made.engine.close()
    made.files.close()


@pytest.fixture(scope="module")
def world() -> World:
    return played(wishes(7, 20, 1.5, [120.0 * i + 30 for i in range(9)], ["acme", "globex"]), T0)


def call(at_ms: int, tenant: str, klass: str, first: float | None, **more: object) -> list[Fact]:
    fields: dict[str, object] = {"attempts": 1, "input_tokens": 100, "outcome": "done", "duration_ms": (first or 0) + 10, **more}
    made = CallFact(
        call=new_id("call", WallMs(T0 + at_ms)),
        started_wall_ms=T0 + at_ms,
        gateway="g",
        tenant=tenant,
        klass=klass,
        first_token_ms=first,
        **fields,  # type: ignore[arg-type]
    )
    if not made.attempts:
        return [made]
    tried = AttemptFact(
        call=made.call,
        attempt=1,
        started_wall_ms=T0 + at_ms,
        gateway="g",
        endpoint="e",
        upstream_model="m",
        status=200 if first is not None else 0,
        queue_ms=made.queue_ms,
        first_token_ms=first,
        duration_ms=made.duration_ms,
        outcome=made.outcome,
    )
    return [made, tried]


def line(lines: tuple[Stratum, ...], **names: str) -> Stratum:
    return next(s for s in lines if all(getattr(s.key, name) == value for name, value in names.items()))


async def test_nothing_yet_is_an_empty_answer(store: Store) -> None:
    found = await store.report()
    assert (found.calls_in_range, found.calls_read, found.classes, found.alone, found.giants) == (0, 0, (), (), ())
    assert found.pooled.first_token.p99.value is None
    assert found.masking.pooled.state == "cannot tell"
    assert found.newest_wall_ms is None


async def test_quantiles_are_those_of_the_calls_themselves(store: Store, world: World) -> None:
    store.put(world.facts)
    found = await store.report()
    assert found.calls_in_range == found.calls_read == len(world.calls)
    lines = {"all": found.pooled, **{s.key.tenant: s for s in found.tenants}}
    assert set(lines) == {"all", "acme", "globex", "reports"}
    for name, stratum in lines.items():
        firsts = [c.first_token_ms for c in world.calls if name in ("all", c.tenant) and c.first_token_ms is not None]
        assert stratum.calls == len(firsts)
        for figure, percent in ((stratum.first_token.p50, 50), (stratum.first_token.p95, 95), (stratum.first_token.p99, 99)):
            by_hand = quantile(firsts, percent, "ms")
            assert figure.n == by_hand.n
            assert (figure.value is None) == (stratum.calls < 20 and percent > 50)
            assert figure.value == (pytest.approx(by_hand.value) if by_hand.value is not None else None)
            for one, other in ((figure.low, by_hand.low), (figure.high, by_hand.high)):
                assert (one is None) == (other is None)
                if one is not None:
                    assert one == pytest.approx(other)


async def test_strata_add_up_and_none_is_pooled_unsaid(store: Store, world: World) -> None:
    store.put(world.facts)
    found = await store.report()
    for lines in (found.classes, found.tenants, found.endpoints, found.strata):
        assert sum(s.calls for s in lines) == len(world.calls)
    giant = line(found.strata, tenant="reports", klass="batch", band="giant")
    assert giant.calls == 9
    assert giant.key.name == "reports, batch, giant"
    assert {s.key.band for s in found.strata} == {"short", "giant"}
    assert found.left_out == 0


async def test_slowdown_is_first_token_over_time_alone(store: Store, world: World) -> None:
    store.put(world.facts)
    found = await store.report()
    (alone,) = found.alone
    assert (alone.endpoint, alone.model, alone.quiet) == ("vllm-0", "qwen3-32b", True)
    assert alone.ms_per_token == pytest.approx(MS_PER_TOKEN, rel=0.02)
    small = [c for c in world.calls if c.klass == "interactive"]
    by_hand = quantile([(c.first_token_ms or 0) / (FLOOR_MS + MS_PER_TOKEN * (c.input_tokens or 0)) for c in small], 99, "")
    shown = line(found.classes, klass="interactive").slowdown
    assert shown.p99.value == pytest.approx(by_hand.value, rel=0.03)
    assert shown.p50.value == pytest.approx(1.0, abs=0.02)
    giants = line(found.classes, klass="batch").slowdown.p50
    assert giants.value is None, "no prompt so long was seen alone, and no line is drawn to there"
    assert "not known" in giants.method


async def test_who_stalled_whom_is_what_the_engine_did(store: Store, world: World) -> None:
    store.put(world.facts)
    found = await store.report()
    assert not found.stalls.exact
    assert found.stalls.victims == {t: sum(c.tenant == t for c in world.calls) for t in ("acme", "globex", "reports")}
    for victim in ("acme", "globex"):
        cell = found.stalls.cell(victim, "reports")
        assert cell is not None
        assert cell.first_token_ms == pytest.approx(world.stalled_ms[(victim, "reports")], rel=0.15)
    by_class = found.stalls_by_class.cell("interactive", "batch")
    assert by_class is not None
    assert by_class.stall_ms == pytest.approx(sum(c.stall_ms for c in found.stalls.cells if c.aggressor == "reports"), rel=1e-6)


async def test_one_call_says_who_cost_it_time(store: Store, world: World) -> None:
    store.put(world.facts)
    giants = [c for c in world.calls if c.klass == "batch"]
    victim = max((c for c in world.calls if c.klass == "interactive"), key=lambda c: c.first_token_ms or 0)
    lost = await store.table.stalled(
        victim.call, "vllm-0", victim.started_wall_ms, victim.started_wall_ms + int(victim.duration_ms)
    )
    assert lost.expected_ms == pytest.approx(FLOOR_MS + MS_PER_TOKEN * (victim.input_tokens or 0), rel=0.05)
    worst = lost.culprits[0]
    assert worst.call in {g.call for g in giants}
    assert (worst.tenant, worst.klass, worst.uncached_tokens, worst.pieces) == ("reports", "batch", GIANT_TOKENS, 0)
    assert worst.stall_ms == pytest.approx((victim.first_token_ms or 0) - lost.expected_ms, rel=0.25)
    assert worst.stall_ms + lost.unexplained_ms <= (victim.first_token_ms or 0)
    nobody = await store.table.stalled("call_unknown", "vllm-0", T0, T0 + 1)
    assert (nobody.culprits, nobody.expected_ms) == ((), None)


async def test_giants_are_marked_and_moments_add_up(store: Store, world: World) -> None:
    store.put(world.facts)
    found = await store.report()
    assert len(found.giants) == 9
    assert {g.uncached_tokens for g in found.giants} == {GIANT_TOKENS}
    assert sum(m.calls for m in found.moments) == len(world.calls)
    assert sum(m.tokens for m in found.moments) == sum((c.input_tokens or 0) + (c.output_tokens or 0) for c in world.calls)
    assert all(m.start_wall_ms % 60_000 == 0 for m in found.moments)


async def test_gaps_are_between_the_reads_of_an_answer(store: Store, world: World) -> None:
    store.put(world.facts)
    gap = (await store.report()).pooled.gap
    assert gap.p50.value == pytest.approx(15, abs=0.11)
    assert gap.p50.n == sum((c.output_tokens or 0) - 1 for c in world.calls)
    assert gap.p50.low is None


async def test_a_tenant_and_an_endpoint_confine_the_lines_but_not_the_engine(store: Store, world: World) -> None:
    store.put(world.facts)
    store.put(played([Wish(i * 1_000.0, "acme", "interactive", 100, 5, endpoint="vllm-1") for i in range(30)], T0).facts)
    whole, own = await store.report(), await store.report(tenant="acme")
    assert {s.key.endpoint for s in whole.endpoints} == {"vllm-0", "vllm-1"}
    assert own.pooled.calls == line(whole.tenants, tenant="acme").calls
    assert own.pooled.gap.p50.n == line(whole.tenants, tenant="acme").gap.p50.n
    assert [s.key.tenant for s in own.tenants] == ["acme"]
    assert own.stalls.cell("acme", "reports") == whole.stalls.cell("acme", "reports")
    there = await store.report(endpoint="vllm-1")
    assert there.pooled.calls == 30
    assert there.stalls.cells == ()


async def test_the_alarm_fires_where_the_pooled_figure_hides_a_class(store: Store) -> None:
    store.put([f for i in range(900) for f in call(i * 1_000, "acme", "batch", 300.0)])
    store.put([f for i in range(60) for f in call(i * 1_000 + 7, "globex", "interactive", 5_000.0 if i % 3 == 0 else 200.0)])
    found = await store.report()
    assert found.masking.pooled.state == "kept"
    assert {(p.kind, p.name) for p in found.masking.masked} == {
        ("class", "interactive"),
        ("tenant", "globex"),
        ("tenant and class", "globex, interactive"),
    }
    late = line(found.classes, klass="interactive").kept
    assert (late.calls, late.broken, late.state) == (60, 20, "masked")
    calm = await store.report({"interactive": Objective(klass="interactive", first_token_ms=6_000)})
    assert calm.masking.over == (), "the same calls under an objective that they keep"
    assert [o.klass for o in calm.objectives] == ["batch", "interactive"]
    assert [o.assumed for o in calm.objectives] == [True, False]


async def test_who_gave_up_waiting_was_late_and_who_was_refused_was_told(store: Store) -> None:
    ended: list[tuple[str, float | None, float, int]] = [
        ("done", 100.0, 200, 1),  # kept
        ("done", 3_000.0, 3_500, 1),  # late
        ("timeout", None, 30_000, 1),  # late: it never had a token
        ("client_gone", None, 9_000, 1),  # late: it left after waiting longer than the objective
        ("client_gone", None, 50, 1),  # cannot be judged
        ("upstream_error", None, 100, 1),  # cannot be judged: it failed sooner than it could be late
        ("refused", None, 5_000, 0),  # told why
        ("evicted", None, 8_000, 1),  # late
    ]
    store.put(
        [
            f
            for i, (outcome, first, took, tries) in enumerate(ended)
            for f in call(i, "a", "interactive", first, outcome=outcome, duration_ms=float(took), attempts=tries)
        ]
    )
    pooled = (await store.report()).pooled
    assert (pooled.calls, pooled.answered, pooled.refused, pooled.evicted) == (8, 2, 1, 1)
    assert (pooled.kept.calls, pooled.kept.broken) == (5, 4)
    assert pooled.first_token.p50.n == 2
    assert pooled.queue.p50.n == 7


async def test_pieces_weigh_on_the_engine_and_are_no_calls_of_clients(store: Store) -> None:
    quiet = [f for i in range(20) for f in call(10_000 * i, "acme", "interactive", 30.0 + (i % 2))]
    giant = call(500_000, "reports", "batch", 900.0, input_tokens=9_000)
    assert isinstance(giant[0], CallFact)
    parent = giant[0].call
    pieces = [
        f
        for i in range(4)
        for f in call(
            500_000 + i * 200, "reports", "batch", 150.0, origin="piece", parent_call=parent, input_tokens=2_000, cached_tokens=0
        )
    ]
    store.put([*quiet, *giant, *pieces])
    found = await store.report()
    assert found.calls_in_range == 21
    assert found.calls_read == 21
    assert line(found.tenants, tenant="reports").calls == 1
    waits = await store.table.stalled(parent, "e", T0 + 500_000, T0 + 501_000)
    assert waits.culprits == ()


async def test_many_calls_are_counted_whole_and_the_newest_laid_side_by_side(store: Store) -> None:
    rows = [f for i in range(25_000) for f in call(i * 140, f"t{i % 40}", "interactive" if i % 3 else "batch", 50.0 + i % 97)]
    store.put(rows)
    found = await store.report()
    assert found.calls_in_range == 25_000
    assert found.calls_read == 5_000, "intervals of the newest, and it says how many"
    firsts = sorted(50.0 + i % 97 for i in range(25_000))
    assert found.pooled.first_token.p95.value == firsts[math.ceil(0.95 * 25_000) - 1]


async def test_over_the_bound_quantiles_are_of_one_call_in_so_many_and_say_so(
    store: Store, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(world.facts)
    monkeypatch.setattr("headway.facts.admission.ADMISSION_VALUES_MAX", len(world.calls) // 3)
    figure = (found := await store.report()).pooled.first_token.p50
    assert found.pooled.calls == len(world.calls), "counts are of all"
    every = int(figure.method.rsplit(" ", 1)[1])
    assert every in (3, 4)
    assert figure.n == sum(c.started_wall_ms % every == 0 for c in world.calls)
    assert figure.n < len(world.calls) / 2


async def test_a_prompt_sent_in_pieces_is_as_long_as_it_was_and_its_slowdown_is_against_the_whole(store: Store) -> None:
    whole = [
        f
        for i in range(12)
        for f in call(60_000 * i, "acme", "interactive", 20 + 100.0 * (1 + i % 6), input_tokens=1_000 * (1 + i % 6))
    ]
    paced = call(800_000, "reports", "batch", 2_000.0, input_tokens=9_000, cached_tokens=8_500, queue_ms=1_800.0)
    assert isinstance(paced[0], CallFact)
    pieces = [
        f
        for i in range(8)
        for f in call(
            800_000 + 220 * i,
            "reports",
            "batch",
            120.0,
            origin="piece",
            parent_call=paced[0].call,
            input_tokens=1_000 * (i + 1) + 500,
            cached_tokens=1_000 * i + 436,
        )
    ]
    store.put([*whole, *paced, *pieces])
    found = await store.report()
    stratum = line(found.strata, tenant="reports", klass="batch", band="giant")
    assert (stratum.calls, found.giants[0].uncached_tokens, found.giants[0].call) == (1, 9_000, paced[0].call)
    assert stratum.slowdown.p50.value == pytest.approx(2_000 / (20 + 0.1 * 9_000), rel=0.02)
    assert sum(m.tokens for m in found.moments) == sum(1_000 * (1 + i % 6) for i in range(12)) + 9_000
