"""The gateway's side of the facts: rows go to a local segment file, whole segments go to control.

``put`` runs on the event loop and touches no file: it encodes and appends to a bounded queue. One thread writes the queue every
SPOOL_FLUSH_MS, so a kill loses at most what was put since. A segment is ``NAME.open`` while it grows and ``NAME.seg`` once it is closed;
names sort by time and are never used twice. Whatever does not fit (queue, disk) is shed, counted by table and reason, and named by ``degraded``.
"""

import fcntl
import os
import threading
from collections import Counter, deque
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import BinaryIO, get_args

import msgspec

from headway.facts.model import Fact
from headway.facts.repair import storable
from headway.facts.segment_file import OpenSegment, recover
from headway.facts.segments import RECORD_OVERHEAD_BYTES, encode_fact
from headway.kernel import limits
from headway.kernel.errors import HeadwayError
from headway.kernel.ids import new_id
from headway.kernel.instants import MonoNs, WallMs, mono_ns, ms_between, wall_ms

_TABLES: dict[type, str] = {kind: str(kind.__struct_config__.tag) for kind in get_args(Fact)}
_RUN_CHARS = 16
_JOIN_S = 10.0


class SpoolInUse(HeadwayError):
    """Another process writes to this spool folder."""


class SpoolLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one spool; see ``kernel/limits.py`` for what happens at each."""

    flush_ms: int = limits.SPOOL_FLUSH_MS
    queue_rows_max: int = limits.SPOOL_QUEUE_ROWS_MAX
    queue_bytes_max: int = limits.SPOOL_QUEUE_BYTES_MAX
    segment_bytes_max: int = limits.SPOOL_SEGMENT_BYTES_MAX
    segment_age_ms: int = limits.SPOOL_SEGMENT_AGE_MS
    disk_bytes_max: int = limits.SPOOL_DISK_BYTES_MAX
    sync_each_flush: bool = False
    """fdatasync after each flush: what was flushed survives a power cut too, not only a kill. A closed segment is always synced."""


class SpoolStats(msgspec.Struct, frozen=True, kw_only=True):
    """Counts since the start, for metrics. Keys of ``put`` are tables, of ``shed`` (table, reason)."""

    put: dict[str, int]
    shed: dict[tuple[str, str], int]
    written: int
    queued: int
    segments_closed: int
    """Closed and not yet stored by control."""
    disk_bytes: int
    recovered_rows: int
    recovery_dropped_bytes: int
    """Torn tails of files that a kill left behind."""


class Spool:
    """One gateway's spool folder. ``put``, ``closed``, ``stored`` and ``stats`` belong to one thread: the event loop's.

    Raises ``SpoolInUse`` when another process has the folder, ``OSError`` when it cannot be made or read.
    """

    def __init__(
        self,
        folder: Path,
        gateway: str,
        bounds: SpoolLimits | None = None,
        *,
        on_closed: Callable[[], None] | None = None,
        wall: Callable[[], WallMs] = wall_ms,
    ) -> None:
        """``on_closed`` is called from the writer thread each time a segment is ready to ship."""
        self._folder, self._gateway, self._limits = folder, gateway, bounds or SpoolLimits()
        self._on_closed, self._wall = on_closed, wall
        self._queue: deque[tuple[str, bytes]] = deque()
        self._put: Counter[str] = Counter()
        self._shed_on_put: Counter[tuple[str, str]] = Counter()
        self._shed_on_write: Counter[tuple[str, str]] = Counter()
        self._bytes_put = self._bytes_taken = 0
        self._written = self._sequence = 0
        self._run = new_id("r", wall())[-_RUN_CHARS:]
        self._segment: OpenSegment | None = None
        self._opened_at = MonoNs(0)
        self._trouble = ""
        self._forget: deque[tuple[str, int]] = deque()
        self._queue_rows_max, self._queue_bytes_max = self._limits.queue_rows_max, self._limits.queue_bytes_max
        self._wake_rows = self._queue_rows_max // 2
        self._wake, self._stop = threading.Event(), False
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = _lock(folder)
        try:
            recovery = recover(folder)
            self._closed: dict[str, int] = {path.stem: path.stat().st_size for path in sorted(folder.glob("*.seg"))}
        except OSError:
            self._lock.close()
            raise
        self._recovered_rows, self._recovery_dropped = recovery.rows, recovery.dropped_bytes
        self._closed_bytes = sum(self._closed.values())
        self._thread = threading.Thread(target=self._write_until_stopped, name="spool", daemon=True)
        self._thread.start()

    # --- the event loop's side

    def put(self, fact: Fact) -> bool:
        """Queue one row; a few microseconds, never blocks, never raises. False when it was shed (and counted)."""
        table = _TABLES[type(fact)]
        self._put[table] += 1
        try:
            payload = encode_fact(fact)
        except (msgspec.MsgspecError, TypeError, ValueError, OverflowError):
            try:
                payload = encode_fact(storable(fact))
            except (msgspec.MsgspecError, TypeError, ValueError, OverflowError):
                return self._shed(table, "unencodable")
        size, queued = len(payload), len(self._queue)
        if size > limits.SPOOL_ROW_BYTES_MAX:
            return self._shed(table, "too_large")
        if queued >= self._queue_rows_max or self._bytes_put - self._bytes_taken + size > self._queue_bytes_max:
            return self._shed(table, "queue_full")
        if self._stop:
            return self._shed(table, "closed")
        self._bytes_put += size
        self._queue.append((table, payload))
        if queued == self._wake_rows:
            self._wake.set()
        return True

    def closed(self, count_max: int | None = None) -> tuple[str, ...]:
        """Names of the first ``count_max`` segments that wait to be shipped, oldest first."""
        return tuple(islice(self._closed.copy(), count_max))

    def read(self, segment: str) -> bytes | None:
        """The bytes of a closed segment; None when it is gone. Reads a file: call it off the loop."""
        try:
            return self._path(segment, "seg").read_bytes()
        except FileNotFoundError:
            self.stored(segment)
            return None

    def stored(self, segment: str) -> None:
        """Control has it: the writer thread deletes the file within one flush. Unknown and repeated names are ignored."""
        size = self._closed.pop(segment, None)
        if size is not None:
            self._forget.append((segment, size))

    def stats(self) -> SpoolStats:
        """Counts for metrics and for ``headway calls``."""
        return SpoolStats(
            put=dict(self._put),
            shed=dict(Counter(self._shed_on_put) + Counter(dict(self._shed_on_write))),
            written=self._written,
            queued=len(self._queue),
            segments_closed=len(self._closed),
            disk_bytes=self._disk_bytes(),
            recovered_rows=self._recovered_rows,
            recovery_dropped_bytes=self._recovery_dropped,
        )

    @property
    def degraded(self) -> tuple[str, ...]:
        """Why rows are being shed right now, in words; empty when they are not."""
        return (self._trouble,) if self._trouble else ()

    def close(self) -> None:
        """Write what is queued, close the segment, end the thread. Blocks for as long as the disk does, at most ten seconds."""
        self._stop = True
        self._wake.set()
        self._thread.join(_JOIN_S)
        self._lock.close()

    def _shed(self, table: str, reason: str) -> bool:
        self._shed_on_put[table, reason] += 1
        return False

    # --- the writer thread's side

    def _write_until_stopped(self) -> None:
        flush_s = self._limits.flush_ms / 1000
        while not self._stop:
            self._wake.wait(flush_s)
            self._wake.clear()
            self._turn()
        self._turn()
        self._close_segment()

    def _turn(self) -> None:
        try:
            self._delete_stored()
            if self._trouble:
                self._try_again()
        except OSError as error:
            self._trouble = f"the spool cannot be written: {error.strerror or error}"
        while self._queue:
            self._flush()
        age_ms = self._limits.segment_age_ms * (
            1 if len(self._closed) < limits.SPOOL_BACKLOG_SEGMENTS else limits.SPOOL_BACKLOG_AGE_FACTOR
        )
        if self._segment is not None and ms_between(self._opened_at, mono_ns()) >= age_ms:
            self._close_segment()

    def _flush(self) -> None:
        """Write at most one segment's worth of the queue, or shed all of it when the disk has no room."""
        room = self._limits.disk_bytes_max - self._disk_bytes()
        segment_room = self._limits.segment_bytes_max - (self._segment.size if self._segment is not None else 0)
        rows = self._take(min(segment_room, room))
        if not rows and segment_room < room and self._segment is not None and self._segment.rows:
            self._close_segment()
            return
        if not rows:
            full = f"the spool holds its {self._limits.disk_bytes_max} bytes because control does not take its segments"
            self._give_up(self._take(None), "disk_full", full)
            return
        try:
            segment = self._segment or self._open_segment()
            segment.append([payload for _, payload in rows], sync=self._limits.sync_each_flush)
            self._written += len(rows)
        except OSError as error:
            self._give_up(rows, "disk_error", f"the spool cannot be written: {error.strerror or error}")
            self._close_segment()

    def _take(self, bytes_max: int | None) -> list[tuple[str, bytes]]:
        """Rows off the queue, as many as fit into ``bytes_max``; None takes what is there now."""
        rows: list[tuple[str, bytes]] = []
        size, waiting = 0, len(self._queue)
        while waiting and (bytes_max is None or size + len(self._queue[0][1]) + RECORD_OVERHEAD_BYTES <= max(bytes_max, 0)):
            row = self._queue.popleft()
            rows.append(row)
            size += len(row[1]) + RECORD_OVERHEAD_BYTES
            waiting -= 1
        self._bytes_taken += size - len(rows) * RECORD_OVERHEAD_BYTES
        return rows

    def _give_up(self, rows: list[tuple[str, bytes]], reason: str, trouble: str) -> None:
        for table, _ in rows:
            self._shed_on_write[table, reason] += 1
        self._trouble = trouble

    def _try_again(self) -> None:
        """The trouble is over when there is room and a segment file can be made. ``OSError`` when it cannot."""
        if self._disk_bytes() < self._limits.disk_bytes_max:
            if self._segment is None:
                self._open_segment()
            self._trouble = ""

    def _open_segment(self) -> OpenSegment:
        name = f"{self._wall():013d}-{self._run}-{self._sequence:06d}"
        segment = OpenSegment(self._path(name, "open"), self._gateway, name)
        self._sequence += 1
        self._opened_at = mono_ns()
        self._segment = segment
        return segment

    def _close_segment(self) -> None:
        segment, self._segment = self._segment, None
        if segment is None or not segment.close():
            return
        self._closed_bytes += segment.size
        self._closed[segment.name] = segment.size
        if self._on_closed is not None:
            try:
                self._on_closed()
            except RuntimeError:  # the loop that wanted to know is closed
                self._on_closed = None

    def _delete_stored(self) -> None:
        while self._forget:
            segment, size = self._forget[0]
            self._path(segment, "seg").unlink(missing_ok=True)
            self._closed_bytes -= size
            self._forget.popleft()

    def _disk_bytes(self) -> int:
        segment = self._segment
        return self._closed_bytes + (segment.size if segment is not None else 0)

    def _path(self, segment: str, state: str) -> Path:
        return self._folder / f"{segment}.{state}"


def _lock(folder: Path) -> BinaryIO:
    """Held until the process ends, however it ends."""
    handle = (folder / "lock").open("ab")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        handle.close()
        raise SpoolInUse(
            f"{folder}: another gateway writes here ({os.strerror(error.errno or 0)}); give each gateway a state folder of its own"
        ) from error
    return handle
