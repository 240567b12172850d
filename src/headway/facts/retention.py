"""What must be gone, and taking it away: whole files by age and by size, recorded text by its own day."""

from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from headway.facts.columns import TABLES
from headway.facts.compaction import DAY_MS, replace
from headway.facts.files import FactFile, FactFiles
from headway.facts.parquet import read_whole
from headway.facts.store import RECORDING, Keep
from headway.kernel.instants import WallMs

_KEEP_UNTIL = "keep_until_wall_ms"
_NEVER = 2**63 - 1


class Expired(msgspec.Struct, frozen=True, kw_only=True):
    """What one pass took away."""

    files: int = 0
    recordings: int = 0


def expire(files: FactFiles, now: WallMs, keep: Keep) -> Expired:
    """Drop files whose segments are all older than ``keep.days``, then the oldest of all tables until ``keep.bytes_max`` holds, and recorded text that is past
    its day. The rest of a file stays.

    Text is gone from the disk at the next ``files.sweep`` that no running query holds up. ``OSError`` when a file cannot be rewritten.
    """
    before = now - keep.days * DAY_MS
    dropped = 0
    for table in TABLES:
        old = [file for file in files.live(table) if file.last_wall_ms < before]
        files.dropped(table, old)
        dropped += len(old)
    if keep.bytes_max is not None:
        dropped += _expire_to_size(files, keep.bytes_max)
    rows = sum(_expire_recordings(files, file, now) for file in files.live(RECORDING) if _earliest(file.path) <= now)
    return Expired(files=dropped, recordings=rows)


def _expire_to_size(files: FactFiles, bytes_max: int) -> int:
    """Drop the oldest files, whichever table they belong to, until the rest fits; how many went."""
    held = [(file.last_wall_ms, table, file) for table in TABLES for file in files.live(table)]
    size, dropped = sum(file.size_bytes for _, _, file in held), 0
    for _, table, file in sorted(held, key=lambda each: (each[0], each[1], each[2].path.name)):
        if size <= bytes_max:
            break
        files.dropped(table, [file])
        size -= file.size_bytes
        dropped += 1
    return dropped


def unexpired(recordings: pa.Table, now: WallMs) -> pa.Table:
    """The rows that may still be kept."""
    return recordings.filter(pc.field(_KEEP_UNTIL) > now)


def _expire_recordings(files: FactFiles, file: FactFile, now: WallMs) -> int:
    rows = read_whole(RECORDING, [file.path])
    kept = unexpired(rows, now)
    gone = int(rows.num_rows - kept.num_rows)
    if not gone:
        return 0
    if kept.num_rows:
        replace(files, RECORDING, [file], kept, now)
    else:
        files.dropped(RECORDING, [file])
    return gone


def _earliest(path: Path) -> int:
    """The first day on which a row of the file must be gone; 0 when the footer does not say."""
    footer = pq.read_metadata(path)
    column = footer.schema.names.index(_KEEP_UNTIL)
    found = [footer.row_group(group).column(column).statistics for group in range(footer.num_row_groups)]
    return min((int(each.min) if each is not None and each.has_min_max else 0 for each in found), default=_NEVER)
