"""Segments for a fact store, and processes that store them: ``python lake_stage.py PLACE.json WRITER SEGMENTS ROWS [DIE_AT]``.

A writer names its segments ``g``WRITER, tells each acknowledged number on a line of its own, and with DIE_AT kills itself in the commit of that
segment: its files are written then, and the catalog does not know them.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import msgspec

from headway.facts.lake_place import LakePlace
from headway.facts.lake_store import LakeStore
from headway.facts.model import AttemptFact, CallFact, Fact
from headway.facts.store import StoreAway
from headway.kernel.instants import WallMs

NOW = WallMs(1_764_000_000_000)
RUN = "0123456789abcdef"
TRIES = 50


def name(number: int) -> str:
    return f"{NOW - 1000 + number:013d}-{RUN}-{number:06d}"


def facts(writer: str, number: int, rows: int) -> dict[str, list[Fact]]:
    calls: list[Fact] = [
        CallFact(call=f"{writer}-{number:04d}-{row:04d}", started_wall_ms=NOW + number, duration_ms=1.0, gateway=writer, tenant="t")
        for row in range(rows)
    ]
    tries: list[Fact] = [
        AttemptFact(call=f"{writer}-{number:04d}-{row:04d}", attempt=1, started_wall_ms=NOW + number, gateway=writer)
        for row in range(rows)
    ]
    return {"call": calls, "attempt": tries}


def append(store: LakeStore, writer: str, number: int, rows: int) -> bool:
    """As a gateway does: again until it is acknowledged. True when the rows were new."""
    for _ in range(TRIES):
        try:
            return bool(store.append(writer, name(number), facts(writer, number, rows), NOW))
        except StoreAway as away:
            said = away
    raise said


class KilledAtCommit:
    """A connection that passes everything on, and kills its process at a COMMIT."""

    def __init__(self, real: duckdb.DuckDBPyConnection) -> None:
        self._real = real

    def __getattr__(self, attribute: str) -> Callable[..., object]:
        return getattr(self._real, attribute)  # type: ignore[no-any-return]

    def execute(self, statement: str, *more: object) -> object:
        if statement == "COMMIT":
            os.kill(os.getpid(), signal.SIGKILL)
        return self._real.execute(statement, *more)


def main() -> None:
    place = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=LakePlace)
    writer, segments, rows = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    die_at = int(sys.argv[5]) if len(sys.argv) > 5 else -1
    store = LakeStore(place)
    for number in range(segments):
        if number == die_at:
            store._database = KilledAtCommit(store._reached())  # type: ignore[assignment]
        append(store, writer, number, rows)
        print(number, flush=True)
    store.close()


if __name__ == "__main__":
    main()
