"""Segments from gateways become rows of the fact store, exactly once, and the files are kept few, young and within what features allowed.

All of it runs in one thread beside the event loop, one step after another: nothing here needs a lock, and a merge delays a segment rather than racing it.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec

from headway.facts.columns import TABLES
from headway.facts.measured import measured
from headway.facts.model import Fact, SpanFact
from headway.facts.own_spans import own_rows
from headway.facts.segments import read_segment
from headway.facts.store import FactStore, Keep, Maintained, StoreAway
from headway.kernel.errors import HeadwayError
from headway.kernel.instants import WallMs, wall_ms

SPAN = "span"
TAKEN_IN = "taken-in"
"""In place of a gateway's name, in segments of spans that others sent."""
TABLE_OF: dict[type, str] = {table.struct: name for name, table in TABLES.items()}
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


class Ingest:
    """Writes the fact tables. ``on_facts`` hears each fact once, after it is durable, on the event loop; it must not block or raise."""

    def __init__(
        self, store: FactStore, *, on_facts: Callable[[Sequence[Fact]], None] | None = None, wall: Callable[[], WallMs] = wall_ms
    ) -> None:
        self._store, self._on_facts, self._wall = store, on_facts, wall
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="facts")
        self._rows: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._run_id, self._taken = os.urandom(8).hex(), 0

    async def store_segment(self, gateway: str, segment: str, data: bytes) -> Stored:
        """Make a segment durable. Safe to repeat at any time. ``BadSegmentName`` and ``NotStored`` mean: do not acknowledge."""
        try:
            stored, fresh = await self._run(lambda: self._stored(gateway, segment, data))
        except StoreAway as error:
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

    async def store_spans(self, spans: Sequence[SpanFact]) -> None:
        """Make spans that were taken in durable, as a segment of this process's own. ``NotStored`` when that fails."""
        number, self._taken = self._taken, self._taken + 1
        segment = f"{self._wall():013d}-{self._run_id}-{number:06d}"
        try:
            await self._run(lambda: self._store.append(TAKEN_IN, segment, {SPAN: spans}, self._wall()))
        except StoreAway as error:
            self._counts["failures"] += 1
            raise NotStored(f"{len(spans)} spans cannot be stored: {error}") from error
        self._rows[SPAN] += len(spans)

    async def maintain(self, keep_days: int, bytes_max: int | None = None) -> Maintained:
        """Merge, expire, delete. Call it about once a minute. ``NotStored`` when the store refuses; nothing is lost then."""
        try:
            return await self._run(lambda: self._store.maintain(self._wall(), Keep(days=keep_days, bytes_max=bytes_max)))
        except StoreAway as error:
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
            files=self._store.files(),
            damaged_files=self._store.damaged(),
        )

    async def close(self) -> None:
        """Finish what has begun."""
        await asyncio.to_thread(self._thread.shutdown)

    async def _run(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _stored(self, gateway: str, segment: str, data: bytes) -> tuple[Stored, list[Fact]]:
        content = read_segment(data)
        by_table: dict[str, list[Fact]] = {}
        for fact in map(measured, content.facts):
            by_table.setdefault(TABLE_OF[type(fact)], []).append(fact)
        own = own_rows(content.facts)
        spans = {SPAN: [*by_table.get(SPAN, ()), *own]} if own else {}
        new = self._store.append(gateway, segment, {**by_table, **spans}, self._wall())
        fresh = [fact for table, facts in by_table.items() if table in new for fact in facts]
        stored = Stored(
            rows={table: len(facts) for table, facts in by_table.items()},
            again=bool(by_table) and not new,
            rows_lost=content.rows_lost,
            rows_unreadable=content.rows_unreadable,
            bytes_skipped=content.bytes_skipped,
        )
        return stored, fresh
