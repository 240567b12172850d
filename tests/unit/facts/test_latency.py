"""Latency by names and time against sorting by hand; what a store keeps when it must be small; what another version wrote."""

import math
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ibis import literal

from headway.facts import table as table_module
from headway.facts.answers import CallQuery, FactsAway
from headway.facts.engine import Engine, load_queries
from headway.facts.model import CallFact
from headway.facts.parquet import read_aligned
from headway.facts.parquet_store import ParquetStore
from headway.facts.store import Keep
from headway.facts.table import P99_CALLS_MIN, FactTable
from headway.kernel.instants import WallMs

HOUR_MS, DAY_MS = 3_600_000, 24 * 3_600_000
T0 = 1_764_028_800_000 // DAY_MS * DAY_MS
RUN = "0123456789abcdef"


class Bench:
    def __init__(self, folder: Path) -> None:
        self.store = ParquetStore.open(folder)
        self.engine = Engine(self.store)
        self.table = FactTable(self.engine)
        self.segments = 0

    def put(self, calls: list[CallFact], at_wall_ms: int = T0) -> str:
        self.segments += 1
        name = f"{at_wall_ms:013d}-{RUN}-{self.segments:06d}"
        assert self.store.append("g", name, {"call": calls}, WallMs(at_wall_ms)) == {"call"}
        return name


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path / "facts")
    yield made
    await made.engine.close()
    made.store.close()


def calls(count: int, seed: int) -> list[CallFact]:
    rng = random.Random(seed)
    return [
        CallFact(
            call=f"call-{seed}-{number:05d}",
            started_wall_ms=T0 + rng.randrange(3 * HOUR_MS),
            duration_ms=rng.random(),
            gateway="g",
            tenant=rng.choice("ab"),
            routed=rng.choice(("p/m", "p/n")),
            origin=rng.choice(("client", "client", "client", "probe")),
            first_token_ms=rng.choice((None, rng.lognormvariate(5, 1), 10.0)),
        )
        for number in range(count)
    ]


@pytest.mark.parametrize("count", [1, 19, 400, 3_000])
async def test_exact_quantiles_by_tenant_model_and_hour(bench: Bench, count: int) -> None:
    put = calls(count, count)
    bench.put(put[: count // 2 + 1])
    if put[count // 2 + 1 :]:
        bench.put(put[count // 2 + 1 :])
    groups: dict[tuple[str, str, int], list[float | None]] = {}
    for call in put:
        if call.origin == "client":
            key = (call.tenant, call.routed, call.started_wall_ms // HOUR_MS * HOUR_MS)
            groups.setdefault(key, []).append(call.first_token_ms)
    rows = await bench.table.latency(CallQuery(), ("tenant", "model"), HOUR_MS)
    assert {(row.by["tenant"], row.by["model"], row.bucket_wall_ms) for row in rows} == set(groups)
    for row in rows:
        found = groups[row.by["tenant"], row.by["model"], row.bucket_wall_ms]
        values = sorted(value for value in found if value is not None)
        assert (row.calls, row.n) == (len(found), len(values))
        assert row.p50_ms == (values[math.ceil(len(values) / 2) - 1] if values else None)
        assert row.p99_ms == (values[math.ceil(len(values) * 0.99) - 1] if len(values) >= P99_CALLS_MIN else None)
        low = math.floor(len(values) / 2 - 1.959963984540054 * math.sqrt(len(values) / 4))
        assert row.p50_low_ms == (values[low - 1] if low >= 1 else None)


async def test_what_cannot_be_asked(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.put(calls(50, 1))
    with pytest.raises(ValueError, match="cannot be grouped by 'prompt'"):
        await bench.table.latency(CallQuery(), ("prompt",), HOUR_MS)
    with pytest.raises(ValueError, match="no measure 'cost'"):
        await bench.table.latency(CallQuery(), ("tenant",), HOUR_MS, "cost")
    monkeypatch.setattr(table_module, "FACT_GROUPS_MAX", 3)
    with pytest.raises(FactsAway, match="more than 3 groups"):
        await bench.table.latency(CallQuery(), ("tenant", "model"), HOUR_MS)


async def test_a_sum_of_fractions_stays_a_fraction(bench: Bench) -> None:
    bench.put(calls(10, 2))
    rows = load_queries().table("call")
    rows = rows.mutate(allowed=literal("0.05").cast("decimal(18,2)"))
    expression = rows.aggregate(whole=rows.started_wall_ms.sum(), part=rows.allowed.sum())
    (found,) = await bench.engine.run(lambda reader: reader.rows(expression))
    assert (type(found["whole"]), type(found["part"])) == (int, float)
    assert found["part"] == pytest.approx(0.5)


def test_what_passes_the_size_goes_oldest_first(bench: Bench) -> None:
    for day in range(6):
        at = T0 - (6 - day) * DAY_MS
        bench.put([CallFact(call=f"{day}-{n}", started_wall_ms=at, duration_ms=float(n), gateway="g") for n in range(500)], at)
    now = WallMs(T0)
    files = bench.store.facts.live("call")
    size = sum(file.size_bytes for file in files)
    assert bench.store.maintain(now, Keep(days=90, bytes_max=size)).expired_files == 0
    assert bench.store.maintain(now, Keep(days=90, bytes_max=size // 2)).expired_files == 3
    kept = bench.store.facts.live("call")
    assert [file.path for file in kept] == [file.path for file in files[3:]]
    assert sum(file.size_bytes for file in kept) <= size // 2
    assert len(list((bench.store.facts.folder / "call").iterdir())) == 3, "gone from the disk"
    assert bench.store.maintain(now, Keep(days=2)).expired_files == 1


async def test_files_of_older_and_of_newer_versions(bench: Bench) -> None:
    """An older gateway's file lacks columns, a newer one's has a column that is not known here: both are read, and merged."""
    bench.put(calls(5, 3))
    bench.put(calls(5, 4))
    older, newer = (file.path for file in bench.store.facts.live("call"))
    rows = pq.read_table(older, partitioning=None)
    pq.write_table(rows.drop_columns(["usage_source", "queue_ms", "leases"]), older)
    rows = pq.read_table(newer, partitioning=None)
    pq.write_table(rows.append_column("mood", pa.array(["calm"] * rows.num_rows)), newer)
    assert await bench.table.count("call") == 10
    found = (await bench.table.calls(CallQuery(origin="any"), 50)).calls
    assert {(call.usage_source, call.queue_ms, call.leases) for call in found} == {("unknown", 0.0, ())}
    day_after = WallMs(T0 + 2 * DAY_MS)
    assert bench.store.maintain(day_after, Keep(days=90)).merged_files == 2
    (merged,) = bench.store.facts.live("call")
    assert read_aligned("call", [merged.path]).num_rows == 10
    assert pq.read_table(merged.path, partitioning=None).column("mood").to_pylist().count("calm") == 5, "kept for the newer version"
    assert (await bench.table.calls(CallQuery(origin="any"), 50)).calls == found
