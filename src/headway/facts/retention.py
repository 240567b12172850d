"""What must be gone, and taking it away: whole files by age, recorded text by its own day."""

from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from headway.facts.columns import TABLES
from headway.facts.compaction import DAY_MS, replace
from headway.facts.files import FactFile, FactFiles
from headway.facts.parquet import read_aligned
from headway.kernel.instants import WallMs

_KEEP_UNTIL = "keep_until_wall_ms"
_NEVER = 2**63 - 1


class Expired(msgspec.Struct, frozen=True, kw_only=True):
    """What one pass took away."""

    files: int = 0
    recordings: int = 0


def expire(files: FactFiles, now: WallMs, keep_days: int) -> Expired:
    """Drop files whose segments are all older than ``keep_days``, and recorded text that is past its day. The rest of a file stays.

    Text is gone from the disk at the next ``files.sweep`` that no running query holds up. ``OSError`` when a file cannot be rewritten.
    """
    before = now - keep_days * DAY_MS
    dropped = 0
    for table in TABLES:
        old = [file for file in files.live(table) if file.last_wall_ms < before]
        files.dropped(table, old)
        dropped += len(old)
    rows = sum(_expire_recordings(files, file, now) for file in files.live("recording") if _earliest(file.path) <= now)
    return Expired(files=dropped, recordings=rows)


def unexpired(recordings: pa.Table, now: WallMs) -> pa.Table:
    """The rows that may still be kept."""
    return recordings.filter(pc.field(_KEEP_UNTIL) > now)


def _expire_recordings(files: FactFiles, file: FactFile, now: WallMs) -> int:
    rows = read_aligned("recording", [file.path])
    kept = unexpired(rows, now)
    gone = int(rows.num_rows - kept.num_rows)
    if not gone:
        return 0
    if kept.num_rows:
        replace(files, "recording", [file], kept, now)
    else:
        files.dropped("recording", [file])
    return gone


def _earliest(path: Path) -> int:
    """The first day on which a row of the file must be gone; 0 when the footer does not say."""
    footer = pq.read_metadata(path)
    column = footer.schema.names.index(_KEEP_UNTIL)
    found = [footer.row_group(group).column(column).statistics for group in range(footer.num_row_groups)]
    return min((int(each.min) if each is not None and each.has_min_max else 0 for each in found), default=_NEVER)
