"""``make bench-facts``: what it costs to ask and to store facts, and how that grows.

    python benchmarks/facts/run.py [--json FILE] [--seed N] [--passes N] [--calls 1000000,3000000,10000000] [--spans 10000,30000,100000]

Calls lie in a temporary folder as control would hold them after compaction. The question is ``FactTable.latency``: exact p50 and p99 of the first token with
their intervals, by tenant x model x hour; it is asked as the board asks it, view, compilation, DuckDB on two threads and plain rows included. Spans go the way of
a segment from a gateway: encoded, checked, written durably, synced, and asked for. This process is held to two cores; the fastest pass counts, since what other
processes do only ever adds. The answer for the smallest size is computed a second time with numpy: groups that differ are counted.
Exit 1 when a bound does not hold.
"""

import argparse
import asyncio
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq

from headway.control.ingest import Ingest
from headway.facts.answers import CallQuery, LatencyRow
from headway.facts.engine import Engine
from headway.facts.files import FactFiles
from headway.facts.model import SpanFact
from headway.facts.parquet_store import ParquetStore
from headway.facts.segments import encode_fact, footer_bytes, header_bytes, record_bytes
from headway.facts.table import FactTable
from headway.kernel.figure import Figure, Proof
from headway.kernel.limits import SPOOL_SEGMENT_BYTES_MAX
from headway.prove.report import Wanted, as_json, as_table, exit_code

sys.path.insert(0, str(Path(__file__).parent))
from data import HOUR_MS, T0_WALL_MS, spans  # noqa: E402 (a file beside this one)

KEYS = ("tenant", "model")
SIZES_CALLS, SIZES_SPANS = (1_000_000, 3_000_000, 10_000_000), (10_000, 30_000, 100_000)
CORES = 2
SECONDS_MAX = {"calls": {1_000_000: 1.0, 10_000_000: 5.0}, "spans": {100_000: 5.0}}
GROWTH_MAX = 1.3
RUN = "0123456789abcdef"


class Took(NamedTuple):
    """One pass: seconds of the clock, and of this process on all its cores."""

    wall_s: float
    cpu_s: float


async def timed(work: Callable[[], Awaitable[object]]) -> Took:
    wall, cpu = time.perf_counter(), time.process_time()
    await work()
    return Took(time.perf_counter() - wall, time.process_time() - cpu)


async def asked(folder: Path, passes: int) -> tuple[list[Took], tuple[LatencyRow, ...]]:
    """Passes over the calls in ``folder``; the first, which loads ibis and opens the files, is not counted."""
    files = FactFiles.open(folder)
    engine = Engine(ParquetStore(files))
    table = FactTable(engine)
    try:
        rows = await table.latency(CallQuery(), KEYS, HOUR_MS)
        took = [await timed(lambda: table.latency(CallQuery(), KEYS, HOUR_MS)) for _ in range(passes)]
    finally:
        await engine.close()
        files.close()
    return took, rows


def wrong_groups(folder: Path, rows: Sequence[LatencyRow]) -> int:
    """Groups whose count, p50 or p99 differ from what numpy sorts out of the same files, and groups that are in one answer only."""
    found = pq.read_table(folder / "call", columns=["tenant", "routed", "started_wall_ms", "first_token_ms"])
    names = [found.column(name).dictionary_encode().combine_chunks() for name in ("tenant", "routed")]
    hours = found.column("started_wall_ms").to_numpy() // HOUR_MS
    values = found.column("first_token_ms").to_numpy(zero_copy_only=False)
    codes = [name.indices.to_numpy() for name in names]
    order = np.lexsort((values, codes[1], codes[0], hours))
    keys = np.stack([hours[order], codes[0][order], codes[1][order]], axis=1)
    starts = np.concatenate(([0], np.flatnonzero((np.diff(keys, axis=0) != 0).any(axis=1)) + 1, [len(keys)]))
    expected = {}
    for begin, end in zip(starts, starts[1:], strict=False):
        hour, tenant, model = keys[begin]
        there = values[order[begin:end]]
        there = there[~np.isnan(there)]
        picked = tuple(float(there[math.ceil(len(there) * percent / 100) - 1]) for percent in (50, 99))
        expected[names[0].dictionary[int(tenant)].as_py(), names[1].dictionary[int(model)].as_py(), int(hour)] = (
            len(there),
            *picked,
        )
    told = {(row.by["tenant"], row.by["model"], row.bucket_wall_ms // HOUR_MS): (row.n, row.p50_ms, row.p99_ms) for row in rows}
    return sum(told.get(key) != expected.get(key) for key in told.keys() | expected.keys())


def segments(facts: Sequence[SpanFact]) -> list[tuple[str, bytes]]:
    """``facts`` as a gateway ships them."""
    out: list[tuple[str, bytes]] = []
    parts: list[bytes] = []
    size = 0
    for fact in facts:
        payload = encode_fact(fact)
        if size + len(payload) > SPOOL_SEGMENT_BYTES_MAX:
            out.append(_segment(len(out), parts))
            parts, size = [], 0
        parts.append(record_bytes(len(parts), payload))
        size += len(parts[-1])
    return [*out, _segment(len(out), parts)]


def _segment(number: int, parts: list[bytes]) -> tuple[str, bytes]:
    name = f"{T0_WALL_MS:013d}-{RUN}-{number:06d}"
    return name, header_bytes("bench", name) + b"".join(parts) + footer_bytes(len(parts))


async def stored(facts: Sequence[SpanFact], folder: Path, found: list[int]) -> None:
    """Spans through ingestion into an empty store; ``found`` gets how many are there afterwards."""
    files = FactFiles.open(folder)
    ingest, engine = Ingest(ParquetStore(files)), Engine(ParquetStore(files))
    try:
        for name, data in segments(facts):
            await ingest.store_segment("bench", name, data)
        found.append(await FactTable(engine).count("span"))
    finally:
        await ingest.close()
        await engine.close()
        files.close()


def seconds(took: Sequence[Took], what: str, size: int) -> dict[str, Figure]:
    best = min(took)
    method = f"fastest of {len(took)} passes on {CORES} cores, {size:,} {what}"
    walls = [each.wall_s for each in took]
    return {
        f"{what}.s_{size}": Figure(value=best.wall_s, unit="s", n=len(took), low=min(walls), high=max(walls), method=method),
        f"{what}.cpu_s_{size}": Figure(
            value=min(each.cpu_s for each in took), unit="s", n=len(took), method=f"CPU time of all threads, {method}"
        ),
    }


def growth(figures: dict[str, Figure], what: str, sizes: Sequence[int]) -> dict[str, Figure]:
    """Cost of the largest over cost of the smallest, over the ratio of their sizes: 1 is linear, below 1 a fixed part. In CPU time, which neighbours disturb less."""
    out: dict[str, Figure] = {}
    for small, large in zip(sizes, sizes[1:], strict=False):
        first, last = figures[f"{what}.cpu_s_{small}"].value, figures[f"{what}.cpu_s_{large}"].value
        if first and last:
            out[f"{what}.growth_{small}_to_{large}"] = Figure(
                value=last / first / (large / small),
                unit="ratio",
                n=2,
                method="CPU time over that of the smaller size, over the ratio of sizes",
            )
    return out


async def measure(folder: Path, given: argparse.Namespace) -> dict[str, Figure]:
    figures: dict[str, Figure] = {}
    script = str(Path(__file__).with_name("data.py"))
    for size in given.calls:
        place = folder / f"calls-{size}"
        subprocess.run([sys.executable, script, str(place), str(size), str(given.seed)], check=True)
        took, rows = await asked(place, given.passes)
        figures |= seconds(took, "calls", size)
        figures[f"calls.groups_{size}"] = Figure(value=len(rows), unit="groups", n=size, method="tenant x model x hour")
        if size == given.calls[0]:
            wrong = wrong_groups(place, rows)
            figures["calls.wrong_groups"] = Figure(
                value=wrong, unit="groups", n=len(rows), method="count, p50 and p99 against numpy, exact"
            )
        stored_bytes = sum(path.stat().st_size for path in place.rglob("*.parquet"))
        figures[f"calls.stored_mb_{size}"] = Figure(value=stored_bytes / 1e6, unit="MB", n=size, method="Parquet on disk")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures["calls.rss_mb"] = Figure(value=peak, unit="MB", n=1, method="peak memory of this process after all questions")
    for size in given.spans:
        facts = list(spans(size, given.seed))
        lost, took = 0, []
        for number in range(given.passes):
            found = []
            took.append(await timed(partial(stored, facts, folder / f"spans-{size}-{number}", found)))
            lost = max(lost, size - found[0])
        figures |= seconds(took, "spans", size)
        figures[f"spans.lost_{size}"] = Figure(
            value=lost, unit="spans", n=size, method="spans put in less spans found, the worst pass"
        )
    return figures | growth(figures, "calls", given.calls) | growth(figures, "spans", given.spans)


def wanted(given: argparse.Namespace) -> dict[str, Wanted]:
    bounds = {
        f"{what}.s_{size}": Wanted(at_most=most)
        for what, sizes in SECONDS_MAX.items()
        for size, most in sizes.items()
        if size in getattr(given, what)
    }
    bounds["calls.wrong_groups"] = Wanted(at_most=0)
    bounds |= {f"spans.lost_{size}": Wanted(at_most=0) for size in given.spans}
    for what in SECONDS_MAX:
        sizes = getattr(given, what)
        bounds |= {f"{what}.growth_{a}_to_{b}": Wanted(at_most=GROWTH_MAX) for a, b in zip(sizes, sizes[1:], strict=False)}
    return bounds


def numbers(text: str) -> tuple[int, ...]:
    return tuple(sorted({int(word.replace("_", "")) for word in text.split(",")}))


def main() -> int:
    parser = argparse.ArgumentParser(description="What it costs to ask and to store facts, and how that grows.")
    parser.add_argument("--json", default="", help="write the figures here")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--calls", type=numbers, default=SIZES_CALLS)
    parser.add_argument("--spans", type=numbers, default=SIZES_SPANS)
    given = parser.parse_args()
    began = time.perf_counter()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    with tempfile.TemporaryDirectory(prefix="bench-facts-") as folder:
        figures = asyncio.run(measure(Path(folder), given))
    proof = Proof(pillar="facts", engine="parquet", seed=given.seed, figures=figures, took_s=time.perf_counter() - began)
    bounds = wanted(given)
    print(as_table(proof, bounds))
    if given.json:
        Path(given.json).write_text(json.dumps(as_json(proof), indent=1) + "\n")
    return exit_code(proof, bounds)


if __name__ == "__main__":
    sys.exit(main())
