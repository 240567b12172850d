"""Processes around one facts folder: gateways that write spools, and a control that stores what they closed.

``python spool_stage.py gateway FOLDER NAME ROWS`` puts calls until ROWS, slowly enough that several segments close; ends in order, or is killed from outside.
``python spool_stage.py control FACTS SPOOL...`` stores closed segments and merges without end, deleting a segment once it is acknowledged; it is killed.
"""

import asyncio
import sys
import time
from pathlib import Path

from headway.control.ingest import Ingest
from headway.facts.model import CallFact
from headway.facts.parquet_store import ParquetStore
from headway.facts.spool import Spool, SpoolLimits
from headway.kernel.instants import wall_ms

SMALL = SpoolLimits(flush_ms=5, segment_bytes_max=65_536, segment_age_ms=250)
ROWS_A_STEP = 20


def gateway(folder: Path, name: str, rows: int) -> None:
    spool = Spool(folder, name, SMALL)
    for number in range(rows):
        assert spool.put(CallFact(call=f"{name}-{number:06d}", started_wall_ms=wall_ms(), duration_ms=1.0, gateway=name))
        if number % ROWS_A_STEP == 0:
            time.sleep(0.02)
    spool.close()


async def ship(ingest: Ingest, spool: Path) -> int:
    """Every closed segment of a spool once through ingestion; how many there were."""
    found = sorted(spool.glob("*.seg"))
    for path in found:
        await ingest.store_segment(spool.name, path.stem, path.read_bytes())
        path.unlink()
    return len(found)


async def control(facts: Path, spools: list[Path]) -> None:
    store = ParquetStore.open(facts)
    ingest = Ingest(store)
    print("open", flush=True)
    while True:
        for spool in spools:
            await ship(ingest, spool)
        await ingest.maintain(90)


if __name__ == "__main__":
    if sys.argv[1] == "gateway":
        gateway(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
    else:
        asyncio.run(control(Path(sys.argv[2]), [Path(word) for word in sys.argv[3:]]))
