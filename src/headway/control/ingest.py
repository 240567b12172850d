"""Segments from gateways become Parquet, exactly once, and the files are kept few, young and within what features allowed.

All of it runs in one thread beside the event loop, one step after another: nothing here needs a lock, and a merge delays a segment rather than racing it.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec
import pyarrow as pa

from headway.facts.columns import TABLES
from headway.facts.compaction import merge, plan
from headway.facts.files import FactFile, FactFiles, segment_file
from headway.facts.model import Fact
from headway.facts.parquet import arrow_table, write_durably
from headway.facts.retention import expire, unexpired
from headway.facts.segments import read_segment
from headway.kernel.errors import HeadwayError
from headway.kernel.instants import WallMs, wall_ms

TABLE_OF: dict[type, str] = {table.struct: name for name, table in TABLES.items()}
RECORDING = "recording"
Result = TypeVar("Result")


class NotStored(HeadwayError):
    """The segment is not durable: do not acknowledge it, the gateway will send it again. ``str()`` says why."""


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a segment. All that could be read is durable now: acknowledge it."""

    rows: dict[str, int]
    """Rows in the segment by table."""
    again: bool
    """Nothing was new: it had been stored before."""
    rows_lost: int = 0
    rows_unreadable: int = 0
    bytes_skipped: int = 0


class IngestStats(msgspec.Struct, frozen=True, kw_only=True):
    """Counts since the start, for metrics and the board."""

    segments: int
    segments_again: int
    rows: dict[str, int]
    rows_lost: int
    rows_unreadable: int
    bytes_skipped: int
    failures: int
    files: dict[str, int]
    damaged_files: tuple[str, ...]


class Maintained(msgspec.Struct, frozen=True, kw_only=True):
    """What one round of housekeeping did."""

    merged_files: int = 0
    expired_files: int = 0
    expired_recordings: int = 0
    deleted_files: int = 0


class Ingest:
    """Writes the fact tables. ``on_facts`` hears each fact once, after it is durable, on the event loop; it must not block or raise."""

    def __init__(
        self, files: FactFiles, *, on_facts: Callable[[Sequence[Fact]], None] | None = None, wall: Callable[[], WallMs] = wall_ms
    ) -> None:
        self._files, self._on_facts, self._wall = files, on_facts, wall
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="facts")
        self._rows: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()

    async def store_segment(self, gateway: str, segment: str, data: bytes) -> Stored:
        """Make a segment durable. Safe to repeat at any time. ``BadSegmentName`` and ``NotStored`` mean: do not acknowledge."""
        try:
            stored, fresh = await self._run(lambda: self._store(gateway, segment, data))
        except (OSError, pa.ArrowException) as error:
            self._counts["failures"] += 1
            raise NotStored(f"segment {segment} of gateway {gateway} cannot be stored: {error}") from error
        self._counts["segments_again" if stored.again else "segments"] += 1
        if not stored.again:
            self._rows.update(stored.rows)
            self._counts.update(
                rows_lost=stored.rows_lost, rows_unreadable=stored.rows_unreadable, bytes_skipped=stored.bytes_skipped
            )
        if fresh and self._on_facts is not None:
            self._on_facts(fresh)
        return stored

    async def maintain(self, keep_days: int) -> Maintained:
        """Merge, expire, delete. Call it about once a minute. ``NotStored`` when the disk refuses; nothing is lost then."""
        try:
            return await self._run(lambda: self._maintain(keep_days))
        except (OSError, pa.ArrowException) as error:
            self._counts["failures"] += 1
            raise NotStored(f"the fact files cannot be merged or expired: {error}") from error

    def stats(self) -> IngestStats:
        counts = self._counts
        return IngestStats(
            segments=counts["segments"],
            segments_again=counts["segments_again"],
            rows=dict(self._rows),
            rows_lost=counts["rows_lost"],
            rows_unreadable=counts["rows_unreadable"],
            bytes_skipped=counts["bytes_skipped"],
            failures=counts["failures"],
            files={table: len(self._files.live(table)) for table in TABLES},
            damaged_files=tuple(self._files.damaged),
        )

    async def close(self) -> None:
        """Finish what has begun."""
        await asyncio.to_thread(self._thread.shutdown)

    async def _run(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _store(self, gateway: str, segment: str, data: bytes) -> tuple[Stored, list[Fact]]:
        content = read_segment(data)
        by_table: dict[str, list[Fact]] = {}
        for fact in content.facts:
            by_table.setdefault(TABLE_OF[type(fact)], []).append(fact)
        fresh: list[Fact] = []
        segment_file(self._files.folder, gateway, segment)  # a bad name is refused even when the segment is empty
        for table, facts in by_table.items():
            file = segment_file(self._files.folder / table, gateway, segment)
            if not self._files.holds(table, file):
                self._write(table, file, facts)
                fresh += facts
        stored = Stored(
            rows={table: len(facts) for table, facts in by_table.items()},
            again=bool(by_table) and not fresh,
            rows_lost=content.rows_lost,
            rows_unreadable=content.rows_unreadable,
            bytes_skipped=content.bytes_skipped,
        )
        return stored, fresh

    def _write(self, table: str, file: FactFile, facts: list[Fact]) -> None:
        rows = arrow_table(table, facts)
        if table == RECORDING:
            rows = unexpired(rows, self._wall())
        write_durably(file.path, rows)
        self._files.added(table, msgspec.structs.replace(file, size_bytes=file.path.stat().st_size))

    def _maintain(self, keep_days: int) -> Maintained:
        now = self._wall()
        merged = 0
        for table in TABLES:
            for group in plan(self._files.live(table), now):
                merge(self._files, table, group, now)
                merged += len(group)
        expired = expire(self._files, now, keep_days)
        return Maintained(
            merged_files=merged,
            expired_files=expired.files,
            expired_recordings=expired.recordings,
            deleted_files=self._files.sweep(),
        )
