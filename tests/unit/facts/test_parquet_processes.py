"""The Parquet folder and real processes: four gateways write at once, one of them is killed, control is killed again and again: rows in are rows out."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from spool_stage import ship

from headway.control.ingest import Ingest
from headway.facts.engine import Engine, Reader, load_queries
from headway.facts.files import FactsInUse
from headway.facts.parquet_store import ParquetStore
from headway.facts.segment_file import recover
from headway.facts.segments import read_segment

STAGE = Path(__file__).resolve().parents[2] / "support" / "spool_stage.py"
GATEWAYS, ROWS, KILLS = 4, 3_000, 5
LIMIT_S = 60


def child(*words: object) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, str(STAGE), *map(str, words)], stdout=subprocess.PIPE, text=True)


def calls(reader: Reader) -> list[str]:
    table = load_queries().table("call")
    return [row["call"] for row in reader.rows(table.select("call"))]


async def test_rows_in_are_rows_out(tmp_path: Path) -> None:
    rng = random.Random(5)
    spools = [tmp_path / f"g{number}" for number in range(GATEWAYS)]
    gateways = [child("gateway", spool, spool.name, ROWS) for spool in spools]
    facts = tmp_path / "facts"
    for kill in range(KILLS):
        control = child("control", facts, *spools)
        assert control.stdout is not None
        assert control.stdout.readline() == "open\n", "the lock of a killed control is free at once"
        if kill == 0:
            with pytest.raises(FactsInUse):
                ParquetStore.open(facts)
        time.sleep(rng.uniform(0.02, 0.4))
        control.kill()
        control.wait(LIMIT_S)
        control.stdout.close()
        if kill == 0:
            gateways[0].kill()
    for gateway in gateways:
        gateway.communicate(timeout=LIMIT_S)
    assert gateways[0].returncode == -signal.SIGKILL
    assert all(gateway.returncode == 0 for gateway in gateways[1:])
    recovered = recover(spools[0])
    store = ParquetStore.open(facts)
    ingest, engine = Ingest(store), Engine(store)
    left = [fact.call for spool in spools for path in spool.glob("*.seg") for fact in read_segment(path.read_bytes()).facts]
    for spool in spools:
        await ship(ingest, spool)
    before = await engine.run(calls)
    await ingest.maintain(90)
    found = await engine.run(calls)
    assert sorted(before) == sorted(found)
    assert len(found) == len(set(found)), "no row twice"
    assert set(left) <= set(found)
    for gateway in range(1, GATEWAYS):
        assert {call for call in found if call.startswith(f"g{gateway}-")} == {f"g{gateway}-{row:06d}" for row in range(ROWS)}
    dead = sorted(call for call in found if call.startswith("g0-"))
    assert dead == [f"g0-{row:06d}" for row in range(len(dead))], (
        "of a killed gateway only the newest rows, not yet flushed, are gone"
    )
    assert dead or recovered.rows == 0
    await ingest.close()
    await engine.close()
    store.close()
