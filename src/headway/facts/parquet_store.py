"""The store of one machine: a folder of Parquet files that one process owns. Its lock dies with its holder."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from headway.facts.columns import TABLES
from headway.facts.compaction import merge, plan
from headway.facts.files import FactFile, FactFiles, segment_file
from headway.facts.model import Fact
from headway.facts.parquet import arrow_table, write_durably
from headway.facts.retention import expire, unexpired
from headway.facts.store import RECORDING, Keep, Maintained, StoreAway
from headway.facts.views import view
from headway.kernel.instants import WallMs


class ParquetStore:
    """A ``FactStore`` over ``FactFiles``."""

    def __init__(self, files: FactFiles) -> None:
        self.facts = files

    @classmethod
    def open(cls, folder: Path) -> "ParquetStore":
        """``FactsInUse`` when another process has the folder, ``OSError`` when it cannot be made."""
        return cls(FactFiles.open(folder))

    def append(self, gateway: str, segment: str, facts: Mapping[str, Sequence[Fact]], now: WallMs) -> frozenset[str]:
        """See ``FactStore.append``. Tables become visible one after the other, within milliseconds."""
        segment_file(self.facts.folder, gateway, segment)  # a bad name is refused even when the segment is empty
        try:
            return frozenset(table for table, rows in facts.items() if self._stored(table, gateway, segment, rows, now))
        except (OSError, pa.ArrowException) as error:
            raise StoreAway(str(error)) from error

    def maintain(self, now: WallMs, keep: Keep) -> Maintained:
        """See ``FactStore.maintain``."""
        try:
            return self._maintained(now, keep)
        except (OSError, pa.ArrowException) as error:
            raise StoreAway(str(error)) from error

    def files(self) -> dict[str, int]:
        return {table: len(self.facts.live(table)) for table in TABLES}

    def damaged(self) -> tuple[str, ...]:
        return tuple(self.facts.damaged)

    def close(self) -> None:
        self.facts.close()

    def attach(self, database: duckdb.DuckDBPyConnection) -> None:
        """Files are read where they lie."""

    @contextmanager
    def look(self, cursor: duckdb.DuckDBPyConnection) -> Iterator[Callable[[str], str]]:
        """Pins the files that count now."""
        with self.facts.pin() as paths:
            yield lambda table: view(table, paths.get(table, ()))

    def set_aside_damaged(self) -> bool:
        """Files that are no Parquet stay on the disk for whoever wants to look."""
        found = False
        for table in TABLES:
            for file in self.facts.live(table):
                try:
                    pq.read_metadata(file.path)
                except (OSError, pa.ArrowException) as error:
                    self.facts.set_aside(table, file, str(error))
                    found = True
        return found

    def _stored(self, table: str, gateway: str, segment: str, facts: Sequence[Fact], now: WallMs) -> bool:
        file = segment_file(self.facts.folder / table, gateway, segment)
        if self.facts.holds(table, file):
            return False
        self._write(table, file, facts, now)
        return True

    def _write(self, table: str, file: FactFile, facts: Sequence[Fact], now: WallMs) -> None:
        rows = arrow_table(table, facts)
        if table == RECORDING:
            rows = unexpired(rows, now)
        write_durably(file.path, rows)
        self.facts.added(table, msgspec.structs.replace(file, size_bytes=file.path.stat().st_size))

    def _maintained(self, now: WallMs, keep: Keep) -> Maintained:
        merged = 0
        for table in TABLES:
            for group in plan(self.facts.live(table), now):
                merge(self.facts, table, group, now)
                merged += len(group)
        expired = expire(self.facts, now, keep)
        return Maintained(
            merged_files=merged,
            expired_files=expired.files,
            expired_recordings=expired.recordings,
            deleted_files=self.facts.sweep(),
        )
