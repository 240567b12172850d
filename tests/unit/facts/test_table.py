"""The named questions against rows whose answers are computed by hand."""

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headway.calls.model import FAILED
from headway.facts.answers import CallQuery, FactsAway, LeaseSum
from headway.facts.columns import TABLES
from headway.facts.engine import Engine, Reader
from headway.facts.files import FactFiles, segment_file
from headway.facts.model import AttemptFact, CallFact, Fact, FeedbackFact, RecordingFact, SegmentFact, SpanFact
from headway.facts.parquet import arrow_table, write_durably
from headway.facts.parquet_store import ParquetStore
from headway.facts.table import FactTable
from headway.facts.views import view
from headway.kernel.ids import new_id
from headway.kernel.instants import WallMs
from headway.kernel.limits import FACT_QUERIES_WAITING_MAX, PAGE_ROWS_MAX

DAY_MS = 24 * 3600 * 1000
T0 = 1_764_028_800_000 // DAY_MS * DAY_MS
RUN = "0123456789abcdef"


class Bench:
    def __init__(self, folder: Path) -> None:
        self.files = FactFiles.open(folder)
        self.engine = Engine(ParquetStore(self.files))
        self.table = FactTable(self.engine)
        self._number = 0

    def store(self, *facts: Fact) -> None:
        by_table: dict[str, list[Fact]] = {}
        for fact in facts:
            by_table.setdefault(str(fact.__struct_config__.tag), []).append(fact)
        self._number += 1
        for table, rows in by_table.items():
            file = segment_file(self.files.folder / table, "g", f"{T0:013d}-{RUN}-{self._number:06d}")
            write_durably(file.path, arrow_table(table, rows))
            self.files.added(table, file)

    async def close(self) -> None:
        await self.engine.close()
        self.files.close()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path / "facts")
    yield bench
    await bench.close()


def call(at_ms: int, **more: object) -> CallFact:
    values = {
        "call": new_id("call", WallMs(T0 + at_ms)),
        "started_wall_ms": T0 + at_ms,
        "duration_ms": 100.0,
        "gateway": "g",
        **more,
    }
    return CallFact(**values)  # type: ignore[arg-type]


async def test_no_file_yet_is_an_empty_answer(bench: Bench) -> None:
    table = bench.table
    assert (await table.calls(CallQuery())).calls == ()
    assert await table.story("call_x") is None
    assert await table.neighbours("call_x") == ()
    assert await table.beside(0, T0) == ()
    assert await table.cost_by_tenant_day(0, T0) == ()
    assert await table.lease_sums(["l"]) == {"l": LeaseSum(lease="l", calls=0)}
    assert await table.lease_sums([]) == {}
    overview = await table.overview(T0, T0 + DAY_MS, 3_600_000, WallMs(T0))
    assert (overview.total.calls, overview.newest_wall_ms, overview.features) == (0, None, ())
    assert overview.total.first_token_p50.value is None


async def test_calls_newest_first_page_by_page(bench: Bench) -> None:
    calls = [call(i * 1000, tenant="a") for i in range(7)]
    random.Random(3).shuffle(calls)
    bench.store(*calls[:4])
    bench.store(*calls[4:])
    seen: list[CallFact] = []
    before, pages = "", 0
    while True:
        page = await bench.table.calls(CallQuery(before=before), 3)
        seen += page.calls
        pages += 1
        if not page.next:
            break
        before = page.next
    assert seen == sorted(calls, key=lambda fact: fact.call, reverse=True)
    assert pages == 3
    assert len((await bench.table.calls(CallQuery(), PAGE_ROWS_MAX * 10)).calls) == 7


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (CallQuery(), {0, 1, 2, 3}),
        (CallQuery(origin="any"), {0, 1, 2, 3, 4}),
        (CallQuery(origin="probe"), {4}),
        (CallQuery(tenant="b"), {1, 3}),
        (CallQuery(feature="search"), {0, 1}),
        (CallQuery(outcome="timeout"), {1}),
        (CallQuery(outcome="failed"), {1}),
        (CallQuery(model="GPT"), {0, 3}),
        (CallQuery(model="llama"), {1}),
        (CallQuery(model="haiku-2"), {2}),
        (CallQuery(model="100%_"), set()),
        (CallQuery(key="k3"), {3}),
        (CallQuery(run="r2"), {2}),
        (CallQuery(since_wall_ms=T0 + 1000, until_wall_ms=T0 + 3000), {1, 2}),
        (CallQuery(tenant="b'; drop table call; --"), set()),
        (CallQuery(tenant="b", outcome="done", model="gpt", since_wall_ms=T0), {3}),
    ],
)
async def test_filters(bench: Bench, query: CallQuery, expected: set[int]) -> None:
    calls = [
        call(0, tenant="a", feature="search", requested="gpt-4o"),
        call(1000, tenant="b", feature="search", routed="local/Llama-3", outcome="timeout"),
        call(2000, tenant="a", answered="claude-haiku-2", outcome="refused", run="r2"),
        call(3000, tenant="b", requested="GPT-5", key="k3"),
        call(4000, tenant="a", origin="probe"),
    ]
    bench.store(*calls)
    found = (await bench.table.calls(query, 50)).calls
    assert {calls.index(fact) for fact in found} == expected


async def test_every_column_comes_back_as_it_was(bench: Bench) -> None:
    fact = call(
        1,
        prefix_hashes=(1, 2**63 - 1),
        stream=True,
        first_token_ms=12.25,
        leases=("l1", "l2"),
        lease_charges=(5, -1),
        lost=("logprobs 'quoted' 🙂",),
        cost_nano_usd=2**53 + 1,
        error_detail="naïve\n\x00line",
        input_tokens=0,
    )
    bench.store(fact)
    assert (await bench.table.calls(CallQuery())).calls == (fact,)
    story = await bench.table.story(fact.call)
    assert story is not None
    assert story.fact == fact


async def test_one_call_with_all_that_hangs_on_it(bench: Bench) -> None:
    fact, other = call(1), call(2)
    attempts = [AttemptFact(call=fact.call, attempt=n, started_wall_ms=T0, gateway="g", token_times=bytes([1, n])) for n in (2, 1)]
    held = SegmentFact(call=fact.call, gateway="g", at_wall_ms=T0, kind="held")
    liked = FeedbackFact(call=fact.call, kind="accepted", at_wall_ms=T0)
    span = SpanFact(trace="t", span="s", call=fact.call)
    text = RecordingFact(call=fact.call, feature="f", tenant="t", at_wall_ms=T0, keep_until_wall_ms=T0, answer="x")
    bench.store(fact, other, *attempts, held, liked, span, text, FeedbackFact(call=other.call, kind="undone", at_wall_ms=T0))
    story = await bench.table.story(fact.call)
    assert story is not None
    assert story.attempts == (attempts[1], attempts[0])
    assert (story.segments, story.feedback, story.spans, story.recording) == ((held,), (liked,), (span,), text)


async def test_neighbours_are_those_that_ran_meanwhile(bench: Bench) -> None:
    here = call(10_000, duration_ms=1000.0)
    inside = call(10_500, duration_ms=100.0)
    over = call(9_000, duration_ms=5000.0, origin="probe")
    tail = call(9_500, duration_ms=700.0)
    before, after = call(9_000, duration_ms=999.0), call(11_001, duration_ms=5.0)
    bench.store(here, inside, over, tail, before, after)
    found = await bench.table.neighbours(here.call)
    assert [(each.fact, each.overlap_ms) for each in found] == [(over, 1000.0), (tail, 200.0), (inside, 100.0)]
    assert set(await bench.table.beside(T0 + 9_999, T0 + 10_000)) == {here, over, tail, before}
    assert set(await bench.table.beside(T0 + 9_999, T0 + 10_000, limit=2)) == {here, tail}


def by_hand(values: list[float], percent: int) -> tuple[float, float | None, float | None]:
    ordered, n, p = sorted(values), len(values), percent / 100
    half = 1.959963984540054 * math.sqrt(n * p * (1 - p))
    low, high = math.floor(n * percent / 100 - half), math.ceil(n * percent / 100 + half) + 1
    pick = lambda rank: ordered[rank - 1] if 1 <= rank <= n else None  # noqa: E731
    value = pick(math.ceil(n * percent / 100))
    assert value is not None
    return value, pick(low), pick(high)


async def test_overview(bench: Bench) -> None:
    draw = random.Random(5)
    calls = [
        call(
            i * 60_000,
            tenant=draw.choice("ab"),
            feature=draw.choice(["search", "chat", "mail"]),
            outcome=draw.choice(["done", "done", "done", "timeout", "refused"]),
            first_token_ms=draw.lognormvariate(5, 1) if draw.random() < 0.9 else None,
            cost_nano_usd=draw.randrange(10**9) if draw.random() < 0.8 else None,
            input_tokens=draw.randrange(1000),
            output_tokens=None,
        )
        for i in range(400)
    ]
    hidden = [call(0, origin="probe", tenant="a"), call(-1, tenant="a"), call(400 * 60_000, tenant="a")]
    bench.store(*calls[:100], *hidden)
    bench.store(*calls[100:])
    now = WallMs(T0 + 401 * 60_000)
    overview = await bench.table.overview(T0, T0 + 400 * 60_000, 3_600_000, now)
    assert overview.newest_wall_ms == T0 + 400 * 60_000
    groups = [("", calls, overview.total)]
    groups += [(g.name, [fact for fact in calls if fact.feature == g.name], g) for g in overview.features]
    groups += [(g.name, [fact for fact in calls if fact.tenant == g.name], g) for g in overview.tenants]
    assert {g.name for g in overview.features} == {"search", "chat", "mail"}
    assert {g.name for g in overview.tenants} == {"a", "b"}
    for name, rows, group in groups:
        assert group.calls == len(rows), name
        assert group.failed == sum(fact.outcome in FAILED for fact in rows)
        assert group.cost_nano_usd == sum(fact.cost_nano_usd or 0 for fact in rows)
        assert group.cost_unknown == sum(fact.cost_nano_usd is None and fact.outcome != "refused" for fact in rows)
        assert (group.input_tokens, group.output_tokens) == (sum(fact.input_tokens or 0 for fact in rows), 0)
        seen = [fact.first_token_ms for fact in rows if fact.first_token_ms is not None]
        for percent, figure in ((50, group.first_token_p50), (99, group.first_token_p99)):
            assert (figure.value, figure.low, figure.high) == by_hand(seen, percent), (name, percent)
            assert (figure.n, figure.unit, figure.age_s) == (len(seen), "ms", 60.0)
        assert sum(bucket.calls for bucket in group.series) == len(rows)
        assert [bucket.start_wall_ms for bucket in group.series] == sorted(bucket.start_wall_ms for bucket in group.series)
    first = [fact for fact in calls if fact.started_wall_ms < T0 + 3_600_000]
    bucket = overview.total.series[0]
    assert (bucket.start_wall_ms, bucket.calls, bucket.failed) == (T0, len(first), sum(fact.outcome in FAILED for fact in first))
    tenant_a = await bench.table.overview(T0, T0 + 400 * 60_000, 3_600_000, now, tenant="a")
    assert tenant_a.total.calls == sum(fact.tenant == "a" for fact in calls)
    assert [group.name for group in tenant_a.tenants] == ["a"]


async def test_a_stream_that_only_seemed_good_has_failed(bench: Bench) -> None:
    bench.store(call(1), call(2, stream_fault="loop"), call(3, outcome="timeout"))
    found = await bench.table.calls(CallQuery(outcome="failed"))
    assert [fact.stream_fault for fact in found.calls] == ["", "loop"]
    assert (await bench.table.overview(T0, T0 + DAY_MS, DAY_MS, WallMs(T0))).total.failed == 2


async def test_rank_of_a_round_sample(bench: Bench) -> None:
    bench.store(*[call(i, first_token_ms=float(i)) for i in range(1, 101)])
    overview = await bench.table.overview(T0, T0 + DAY_MS, DAY_MS, WallMs(T0))
    assert overview.total.first_token_p99.value == 99.0
    assert overview.total.first_token_p50.value == 50.0


@pytest.mark.parametrize(("n", "shown"), [(19, None), (20, 20.0)])
async def test_a_99th_percentile_of_a_few_calls_is_not_shown(bench: Bench, n: int, shown: float | None) -> None:
    bench.store(*[call(i, first_token_ms=float(i)) for i in range(1, n + 1)])
    total = (await bench.table.overview(T0, T0 + DAY_MS, DAY_MS, WallMs(T0))).total
    assert (total.first_token_p99.value, total.first_token_p99.n) == (shown, n)
    assert total.series[0].first_token_p99_ms == shown
    assert total.first_token_p50.value is not None
    if shown is None:
        assert "n too small: 19" in total.first_token_p99.method


async def test_cost_by_tenant_and_day(bench: Bench) -> None:
    bench.store(
        call(0, tenant="a", cost_nano_usd=5, input_tokens=1),
        call(1, tenant="a", cost_nano_usd=None, origin="probe"),
        call(2, tenant="a", cost_nano_usd=None, outcome="refused"),
        call(DAY_MS, tenant="a", cost_nano_usd=7),
        call(0, tenant="b", cost_nano_usd=2**62),
        call(0, tenant="b", cost_nano_usd=2**62),
    )
    days = await bench.table.cost_by_tenant_day(T0, T0 + 2 * DAY_MS)
    assert [(day.tenant, day.day_wall_ms - T0, day.calls, day.cost_nano_usd, day.cost_unknown) for day in days] == [
        ("a", 0, 3, 5, 1),
        ("b", 0, 2, 2**63, 0),
        ("a", DAY_MS, 1, 7, 0),
    ]
    assert [day.tenant for day in await bench.table.cost_by_tenant_day(T0, T0 + DAY_MS, tenant="b")] == ["b"]


async def test_lease_sums(bench: Bench) -> None:
    bench.store(
        call(1, leases=("l1", "l2"), lease_charges=(10, 3), charged_nano_usd=13, charged_tokens=4),
        call(2, leases=("l1",), lease_charges=(5,), charged_nano_usd=5, origin="probe"),
        call(3, leases=("l1", "l3"), charged_nano_usd=7, charged_tokens=9),
        call(4, leases=()),
    )
    many = [f"x{i}" for i in range(120)]
    sums = await bench.table.lease_sums(["l1", *many, "l2", "l1"])
    assert sums["l1"] == LeaseSum(lease="l1", calls=3, charged=15, unsplit_calls=1, unsplit_nano_usd=7, unsplit_tokens=9)
    assert sums["l2"] == LeaseSum(lease="l2", calls=1, charged=3)
    assert "l3" not in sums
    assert sums["x119"].calls == 0


async def test_files_from_before_a_column_was_added(bench: Bench) -> None:
    old = call(1, tenant="a")
    path = bench.files.folder / "call" / f"s-{T0:013d}-g-{RUN}-000099.parquet"
    write_durably(path, arrow_table("call", [old]).drop_columns(["lease_charges", "origin", "first_token_ms", "stream", "wire"]))
    bench.files.added("call", segment_file(path.parent, "g", f"{T0:013d}-{RUN}-000099"))
    assert (await bench.table.calls(CallQuery())).calls == (old,)
    bench.store(call(2, tenant="a", origin="probe"))
    assert (await bench.table.calls(CallQuery())).calls == (old,)


async def test_a_damaged_file_is_set_aside_and_the_rest_answers(bench: Bench) -> None:
    good = call(1)
    bench.store(good)
    bench.store(call(2))
    damaged = bench.files.live("call")[1].path
    damaged.write_bytes(b"PAR1 broken")
    assert (await bench.table.calls(CallQuery())).calls == (good,)
    assert len(bench.files.damaged) == 1
    assert damaged.exists()


async def test_too_many_questions_are_refused_and_slow_ones_end(bench: Bench) -> None:
    def slow(reader: Reader) -> None:
        reader._connection.execute("SELECT count(*) FROM range(100000000) a, range(100000) b")

    began = time.monotonic()
    with pytest.raises(FactsAway, match="longer than 200 ms"):
        await bench.engine.run(slow, timeout_ms=200)
    assert time.monotonic() - began < 3
    waiting = [asyncio.ensure_future(bench.engine.run(lambda reader: time.sleep(0.01))) for _ in range(FACT_QUERIES_WAITING_MAX)]
    await asyncio.sleep(0)
    with pytest.raises(FactsAway, match="wait"):
        await bench.table.calls(CallQuery())
    await asyncio.gather(*waiting)
    assert (await bench.table.calls(CallQuery())).calls == ()


def test_the_view_has_every_table_and_default() -> None:
    for name, table in TABLES.items():
        sql = view(name, (Path("/x/it's.parquet"),))
        assert "it''s" in sql
        assert all(f'"{column.name}"' in sql for column in table.columns)
