"""From a gateway's segment to rows on control's disk, exactly once."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from headway.control.ingest import Ingest, NotStored
from headway.facts import parquet
from headway.facts.answers import CallQuery
from headway.facts.engine import Engine
from headway.facts.files import BadSegmentName, FactFiles
from headway.facts.model import AttemptFact, CallFact, Fact, RecordingFact
from headway.facts.parquet_store import ParquetStore
from headway.facts.segments import encode_fact, footer_bytes, header_bytes, record_bytes
from headway.facts.table import FactTable
from headway.kernel.instants import WallMs

NOW = WallMs(1_764_000_000_000)
RUN = "0123456789abcdef"


def name(i: int) -> str:
    return f"{NOW - 1000 + i:013d}-{RUN}-{i:06d}"


def segment(*facts: Fact) -> bytes:
    rows = b"".join(record_bytes(i, encode_fact(fact)) for i, fact in enumerate(facts))
    return header_bytes("g", "s") + rows + footer_bytes(len(facts))


def call(name: str, **more: object) -> CallFact:
    return CallFact(call=name, started_wall_ms=NOW, duration_ms=1.0, gateway="g", **more)  # type: ignore[arg-type]


def attempt(name: str) -> AttemptFact:
    return AttemptFact(call=name, attempt=1, started_wall_ms=NOW, gateway="g", token_times=b"\x01\x05")


def rows(files: FactFiles, table: str = "call") -> list[dict[str, object]]:
    with files.pin() as paths:
        return parquet.read_aligned(table, paths[table]).to_pylist() if paths[table] else []


class Bench:
    def __init__(self, folder: Path) -> None:
        self.heard: list[Fact] = []
        self.files = FactFiles.open(folder)
        self.ingest = Ingest(ParquetStore(self.files), on_facts=self.heard.extend, wall=lambda: NOW)

    async def close(self) -> None:
        await self.ingest.close()
        self.files.close()


async def test_stored_once_however_often_it_is_sent(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    data = segment(call("a"), attempt("a"), call("b"))
    first = await bench.ingest.store_segment("g", name(1), data)
    again = await bench.ingest.store_segment("g", name(1), data)
    assert (first.rows, first.again) == ({"call": 2, "attempt": 1}, False)
    assert again.again
    assert [row["call"] for row in rows(bench.files)] == ["a", "b"]
    assert rows(bench.files, "attempt")[0]["token_times"] == b"\x01\x05"
    assert len(bench.heard) == 3
    stats = bench.ingest.stats()
    assert (stats.segments, stats.segments_again, stats.rows) == (1, 1, {"call": 2, "attempt": 1})
    await bench.close()


async def test_sent_again_after_restart_and_after_merge(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    segments = [segment(call(f"c{i}")) for i in range(16)]
    for i, data in enumerate(segments):
        await bench.ingest.store_segment("g", name(i), data)
    await bench.close()
    bench = Bench(tmp_path)
    assert (await bench.ingest.store_segment("g", name(3), segments[3])).again
    assert (await bench.ingest.maintain(90)).merged_files == 2 * 16  # of calls, and of the spans made of them
    assert (await bench.ingest.store_segment("g", name(4), segments[4])).again
    assert not (await bench.ingest.store_segment("g", name(16), segment(call("c16")))).again
    assert sorted(str(row["call"]) for row in rows(bench.files)) == sorted(f"c{i}" for i in range(17))
    await bench.close()


async def test_killed_between_tables_the_rest_comes_with_the_next_try(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path)
    real, calls = parquet.os.fsync, 0

    def second_file_fails(handle: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(parquet.os, "fsync", second_file_fails)
    with pytest.raises(NotStored, match="No space left"):
        await bench.ingest.store_segment("g", name(1), segment(call("a"), attempt("a")))
    assert bench.heard == []
    monkeypatch.setattr(parquet.os, "fsync", real)
    await bench.ingest.store_segment("g", name(1), segment(call("a"), attempt("a")))
    assert len(rows(bench.files)) == len(rows(bench.files, "attempt")) == 1
    assert not list(tmp_path.rglob("*.tmp"))
    assert bench.ingest.stats().failures == 1
    await bench.close()


async def test_what_cannot_be_read_is_counted_and_acknowledged(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    data = bytearray(segment(call("a"), call("b"), call("c")))
    data[len(header_bytes("g", "s")) + 30] ^= 1
    stored = await bench.ingest.store_segment("g", name(1), bytes(data))
    assert (stored.rows, stored.rows_lost) == ({"call": 2}, 1)
    assert bench.ingest.stats().rows_lost == 1
    nothing = await bench.ingest.store_segment("g", name(2), b"noise")
    assert (nothing.rows, nothing.bytes_skipped) == ({}, 5)
    await bench.close()


async def test_numbers_beyond_a_column_do_not_stop_the_segment(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    await bench.ingest.store_segment("g", name(1), segment(call("a", input_tokens=2**64 - 1), call("b", input_tokens=7)))
    assert [row["input_tokens"] for row in rows(bench.files)] == [2**63 - 1, 7]
    await bench.close()


async def test_text_past_its_day_is_not_stored_at_all(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    late, young = (
        RecordingFact(call=which, feature="f", tenant="t", at_wall_ms=NOW, keep_until_wall_ms=NOW + off, answer="text")
        for which, off in (("late", 0), ("young", 10))
    )
    await bench.ingest.store_segment("g", name(1), segment(late, young))
    assert [row["call"] for row in rows(bench.files, "recording")] == ["young"]
    await bench.close()


async def test_bad_names_are_refused(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    with pytest.raises(BadSegmentName):
        await bench.ingest.store_segment("g", "../x", segment(call("a")))
    assert rows(bench.files) == []
    await bench.close()


async def test_many_gateways_at_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    sent = [bench.ingest.store_segment(f"g{n % 4}", name(n // 4), segment(call(f"{n}"))) for n in range(80)]
    await asyncio.gather(*sent)
    await bench.ingest.maintain(90)
    assert sorted(int(str(row["call"])) for row in rows(bench.files)) == list(range(80))
    assert len(bench.files.live("call")) == 5
    await bench.close()


async def test_questions_during_merges_never_count_twice_or_miss(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    engine = Engine(ParquetStore(bench.files))
    table = FactTable(engine)
    stored = 0
    working = True

    async def ask() -> int:
        asked = 0
        while working:
            least = stored
            calls = (await table.calls(CallQuery(), 500)).calls
            assert len({fact.call for fact in calls}) == len(calls)
            assert least <= len(calls) <= stored + 1
            asked += 1
        return asked

    asking = [asyncio.ensure_future(ask()) for _ in range(2)]
    for i in range(80):
        await bench.ingest.store_segment("g", name(i), segment(call(f"c{i:03d}")))
        stored += 1
        if i % 8 == 7:
            await bench.ingest.maintain(90)
    working = False
    assert min(await asyncio.gather(*asking)) > 3
    assert (await bench.ingest.maintain(90)).deleted_files > 0
    await engine.close()
    await bench.close()


KILLED = """
import asyncio, os, sys
from pathlib import Path
import pyarrow.parquet as pq
sys.path.insert(0, sys.argv[3])
import test_ingest as t
at, count = int(sys.argv[2]), 0
def counted(real):
    def operation(*args, **more):
        global count
        count += 1
        if count == at:
            os._exit(9)
        return real(*args, **more)
    return operation
async def main():
    bench = t.Bench(Path(sys.argv[1]))
    os.fsync, Path.rename, Path.unlink = counted(os.fsync), counted(Path.rename), counted(Path.unlink)
    for i in range(16):
        await bench.ingest.store_segment("g", t.name(i), t.segment(t.call(f"c{i}")))
    await bench.ingest.maintain(90)
asyncio.run(main())
"""


@pytest.mark.parametrize("at", [1, 2, 3, 44, 49, 50, 51, 52, 60])
async def test_a_process_killed_at_a_step_loses_and_doubles_nothing(tmp_path: Path, at: int) -> None:
    (tmp_path / "child.py").write_text(KILLED)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "child.py"), str(tmp_path / "facts"), str(at), os.path.dirname(__file__)],
        check=False,
        timeout=60,
    )
    assert done.returncode == 9
    bench = Bench(tmp_path / "facts")
    for i in range(16):
        await bench.ingest.store_segment("g", name(i), segment(call(f"c{i}")))
    assert sorted(str(row["call"]) for row in rows(bench.files)) == sorted(f"c{i}" for i in range(16))
    await bench.ingest.maintain(90)
    assert sorted(str(row["call"]) for row in rows(bench.files)) == sorted(f"c{i}" for i in range(16))
    await bench.close()
