"""The files of the fact tables, and why no row is ever counted twice.

A spool segment becomes one file a table, named after the segment: sent again, it overwrites itself. Many small files are merged into one, which names in
its footer the segments that it holds. The rename of the merged file is the moment of truth: from then on a file whose segments it holds is a leftover,
ignored and deleted, also when a kill came between; and a segment that is sent once more is known to be stored.

    FACTS/call/s-WALLMS-GATEWAY-RUN-NUMBER.parquet      one segment
    FACTS/call/m2-WALLMS-WALLMS-RANDOM.parquet          merged twice; first and last instant of its segments

One process owns the folder (``FactFiles.open`` takes a lock). Queries pin what they read; a replaced file is deleted when nobody that began before
the replacement still reads.
"""

import fcntl
import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from headway.facts.columns import TABLES
from headway.facts.parquet import TEMPORARY, sync_folder
from headway.facts.ranges import Ranges, Segments, contains, meets, united
from headway.kernel.errors import HeadwayError

_HELD = b"headway.segments"
_SEGMENT_NAME = re.compile(r"(\d{13})-([0-9a-z]{4,32})-(\d{1,9})")
_SEGMENT_FILE = re.compile(r"s-(\d{13})-(.+)-(\d{1,9})\.parquet")
_MERGED_FILE = re.compile(r"m(\d+)-(\d{13})-(\d{13})-([0-9a-z]+)\.parquet")
_PLAIN_GATEWAY = re.compile(r"[0-9A-Za-z_.\-]{1,64}")


class FactsInUse(HeadwayError):
    """Another process owns the facts folder."""


class BadSegmentName(HeadwayError):
    """A gateway sent a segment under a name that no spool makes."""


class FactFile(msgspec.Struct, frozen=True, kw_only=True):
    """One Parquet file and the segments that it holds. ``level`` 0 is a single segment."""

    path: Path
    level: int
    first_wall_ms: int
    last_wall_ms: int
    size_bytes: int
    segments: Segments


def segment_file(folder: Path, gateway: str, segment: str) -> FactFile:
    """Where the rows of a segment belong; the same for each time that it is sent. ``BadSegmentName`` when the name is not one of a spool."""
    slug, run, number, wall = segment_name(gateway, segment)
    return _segment_file(folder / f"s-{wall:013d}-{slug}-{run}-{number:06d}.parquet", 0)


def segment_name(gateway: str, segment: str) -> tuple[str, str, int, int]:
    """(gateway as it stands in names, run, number, wall ms) of a segment. ``BadSegmentName`` when the name is not one of a spool."""
    found = _SEGMENT_NAME.fullmatch(segment)
    if found is None:
        raise BadSegmentName(
            f"gateway {gateway!r} sent a segment named {segment!r}; names look like 1764000000000-0123456789abcdef-000001"
        )
    wall, run, number = found.groups()
    plain = _PLAIN_GATEWAY.fullmatch(gateway) is not None
    slug = gateway if plain else hashlib.blake2b(gateway.encode("utf-8", "replace"), digest_size=12).hexdigest()
    return slug, run, int(number), int(wall)


def merged_file(folder: Path, parts: list[FactFile], entropy: str) -> FactFile:
    """The file that will hold ``parts``."""
    level = max(part.level for part in parts) + 1
    first, last = min(part.first_wall_ms for part in parts), max(part.last_wall_ms for part in parts)
    return FactFile(
        path=folder / f"m{level}-{first:013d}-{last:013d}-{entropy}.parquet",
        level=level,
        first_wall_ms=first,
        last_wall_ms=last,
        size_bytes=0,
        segments=united(part.segments for part in parts),
    )


def with_segments(rows: pa.Table, segments: Segments) -> pa.Table:
    """``rows`` whose file footer will name ``segments``."""
    return rows.replace_schema_metadata({_HELD: msgspec.json.encode(segments)})


def read_file_entry(path: Path) -> FactFile | None:
    """What a file in a table's folder is; None for a foreign name. Reads the footer of a merged file. ``OSError`` or ``ArrowException`` when damaged."""
    if _SEGMENT_FILE.fullmatch(path.name):
        return _segment_file(path, path.stat().st_size)
    found = _MERGED_FILE.fullmatch(path.name)
    if found is None:
        return None
    held = (pq.read_schema(path).metadata or {}).get(_HELD, b"{}")
    return FactFile(
        path=path,
        level=int(found[1]),
        first_wall_ms=int(found[2]),
        last_wall_ms=int(found[3]),
        size_bytes=path.stat().st_size,
        segments=msgspec.json.decode(held, type=dict[str, Ranges]),
    )


def _segment_file(path: Path, size_bytes: int) -> FactFile:
    found = _SEGMENT_FILE.fullmatch(path.name)
    assert found is not None, path
    wall, number = int(found[1]), int(found[3])
    return FactFile(
        path=path, level=0, first_wall_ms=wall, last_wall_ms=wall, size_bytes=size_bytes, segments={found[2]: ((number, number),)}
    )


class FactFiles:
    """The live files of every table. All methods may be called from any thread; none of them but ``open`` waits for the disk."""

    def __init__(self, folder: Path, lock: BinaryIO | None = None) -> None:
        self.folder = folder
        self._lock = lock
        self._mutex = threading.Lock()
        self._live: dict[str, dict[Path, FactFile]] = {table: {} for table in TABLES}
        self._merged: dict[str, dict[str, Ranges]] = {table: {} for table in TABLES}
        self._moment = 0
        self._pins: dict[int, int] = {}
        self._garbage: list[tuple[int, Path]] = []
        self.damaged: list[str] = []
        """Files that could not be read at the start, left where they are and out of every answer."""

    @classmethod
    def open(cls, folder: Path) -> "FactFiles":
        """Take the folder, clean up after a kill, list what is there. ``FactsInUse`` when another process has it, ``OSError`` when it cannot be made."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        files = cls(folder, _lock(folder))
        try:
            for table in TABLES:
                (folder / table).mkdir(exist_ok=True)
                files._recover(table)
        except BaseException:
            files.close()
            raise
        return files

    def close(self) -> None:
        """Let go of the folder."""
        if self._lock is not None:
            self._lock.close()

    def live(self, table: str) -> tuple[FactFile, ...]:
        """The files that count now, oldest first."""
        with self._mutex:
            return tuple(sorted(self._live[table].values(), key=lambda file: (file.first_wall_ms, file.path.name)))

    def holds(self, table: str, file: FactFile) -> bool:
        """Whether the rows of ``file`` (level 0) are stored: under its own name, or in a merged file."""
        ((run, ranges),) = file.segments.items()
        with self._mutex:
            return file.path in self._live[table] or contains(self._merged[table].get(run, ()), ranges[0][0])

    @contextmanager
    def pin(self) -> Iterator[dict[str, tuple[Path, ...]]]:
        """The paths of every table, kept from deletion for as long as the block runs."""
        with self._mutex:
            moment = self._moment
            self._pins[moment] = self._pins.get(moment, 0) + 1
            paths = {table: tuple(live) for table, live in self._live.items()}
        try:
            yield paths
        finally:
            with self._mutex:
                self._pins[moment] -= 1
                if not self._pins[moment]:
                    del self._pins[moment]

    def added(self, table: str, file: FactFile) -> None:
        """``file`` is durable under its name."""
        with self._mutex:
            self._live[table][file.path] = file
            if file.level:
                self._merged[table] = united((self._merged[table], file.segments))

    def dropped(self, table: str, files: list[FactFile]) -> None:
        """``files`` were merged into another or have expired: out of every answer that begins now, deleted by ``sweep``."""
        with self._mutex:
            for file in files:
                if self._live[table].pop(file.path, None) is not None:
                    self._garbage.append((self._moment, file.path))
            self._moment += 1
            self._merged[table] = united(live.segments for live in self._live[table].values() if live.level)

    def replaced(self, table: str, old: list[FactFile], new: FactFile) -> None:
        """``new`` is durable and holds all that ``old`` held, in one step for queries."""
        with self._mutex:
            for file in old:
                if self._live[table].pop(file.path, None) is not None:
                    self._garbage.append((self._moment, file.path))
            self._moment += 1
            self._live[table][new.path] = new
            self._merged[table] = united(live.segments for live in self._live[table].values() if live.level)

    def set_aside(self, table: str, file: FactFile, why: str) -> None:
        """``file`` cannot be read: out of every answer, left on the disk, named in ``damaged``. Its segments still count as stored."""
        with self._mutex:
            if self._live[table].pop(file.path, None) is not None:
                self.damaged.append(f"{file.path.name}: {why}")

    def sweep(self) -> int:
        """Delete replaced files that nobody reads any more. Returns how many went."""
        with self._mutex:
            oldest_reader = min(self._pins, default=self._moment)
            ready = [path for moment, path in self._garbage if moment < oldest_reader]
            self._garbage = [(moment, path) for moment, path in self._garbage if moment >= oldest_reader]
        for path in ready:
            path.unlink(missing_ok=True)
        for parent in {path.parent for path in ready}:
            sync_folder(parent)
        return len(ready)

    def _recover(self, table: str) -> None:
        """List a table's folder; delete unfinished files and leftovers of merges that a kill cut short."""
        folder = self.folder / table
        found: list[FactFile] = []
        for path in sorted(folder.iterdir()):
            if path.suffix == TEMPORARY:
                path.unlink()
                continue
            try:
                entry = read_file_entry(path)
            except (OSError, pa.ArrowException, msgspec.MsgspecError) as error:
                self.damaged.append(f"{path.name}: {error}")
                continue
            if entry is not None:
                found.append(entry)
        kept: list[FactFile] = []
        for entry in sorted(found, key=lambda file: -file.level):
            if any(entry.level < other.level and meets(entry.segments, other.segments) for other in kept if other.level):
                entry.path.unlink()
            else:
                kept.append(entry)
        self._live[table] = {entry.path: entry for entry in kept}
        self._merged[table] = united(entry.segments for entry in kept if entry.level)
        sync_folder(folder)


def _lock(folder: Path) -> BinaryIO:
    handle = (folder / "lock").open("ab")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        handle.close()
        raise FactsInUse(f"{folder}: another control process keeps its facts here; stop it or use another state folder") from error
    return handle
