"""Which files to merge, and merging them.

Files of one UTC day and one level are merged sixteen at a time into one of the next level; a day that is over becomes as few files as FACT_FILE_BYTES_MAX
allows. So a query opens at most some dozens of files a day and each row is rewritten a few times in its life.
"""

from collections import defaultdict
from collections.abc import Sequence

import msgspec
import pyarrow as pa

from headway.facts.columns import TABLES
from headway.facts.files import FactFile, FactFiles, merged_file, with_segments
from headway.facts.parquet import read_whole, write_durably
from headway.kernel.ids import new_id
from headway.kernel.instants import WallMs
from headway.kernel.limits import FACT_FILE_BYTES_MAX, FACT_FILES_MERGED_AT_ONCE

DAY_MS = 24 * 3600 * 1000
_ENTROPY_CHARS = 12
TIME_COLUMNS = {
    "call": "started_wall_ms",
    "attempt": "started_wall_ms",
    "segment": "at_wall_ms",
    "span": "start_wall_us",
    "feedback": "at_wall_ms",
    "recording": "at_wall_ms",
}
"""What each table is sorted by, so that a query for some minutes skips most row groups."""

assert set(TIME_COLUMNS) == set(TABLES)


def plan(files: Sequence[FactFile], now: WallMs) -> list[list[FactFile]]:
    """Groups of files to merge, each within one day. Pure."""
    groups: list[list[FactFile]] = []
    by_day: dict[int, list[FactFile]] = defaultdict(list)
    for file in sorted(files, key=lambda file: (file.first_wall_ms, file.path.name)):
        if file.size_bytes < FACT_FILE_BYTES_MAX // 2:
            by_day[file.first_wall_ms // DAY_MS].append(file)
    for day, small in sorted(by_day.items()):
        if day < now // DAY_MS:
            groups += [group for group in _bundles(small, count_max=len(small)) if len(group) > 1]
            continue
        by_level: dict[int, list[FactFile]] = defaultdict(list)
        for file in small:
            by_level[file.level].append(file)
        for _, same in sorted(by_level.items()):
            groups += [group for group in _bundles(same, FACT_FILES_MERGED_AT_ONCE) if len(group) == FACT_FILES_MERGED_AT_ONCE]
    return groups


def _bundles(files: Sequence[FactFile], count_max: int) -> list[list[FactFile]]:
    """``files`` in order, cut where a bundle would pass FACT_FILE_BYTES_MAX or ``count_max``."""
    bundles: list[list[FactFile]] = [[]]
    size = 0
    for file in files:
        if bundles[-1] and (size + file.size_bytes > FACT_FILE_BYTES_MAX or len(bundles[-1]) >= count_max):
            bundles.append([])
            size = 0
        bundles[-1].append(file)
        size += file.size_bytes
    return bundles


def merge(files: FactFiles, table: str, group: list[FactFile], now: WallMs) -> FactFile:
    """Make one file of ``group``. The old ones are deleted by ``files.sweep`` later. ``OSError`` or ``ArrowException`` leave everything as it was."""
    return replace(files, table, group, read_whole(table, [file.path for file in group]), now)


def replace(files: FactFiles, table: str, group: list[FactFile], rows: pa.Table, now: WallMs) -> FactFile:
    """Let ``rows`` stand for all rows of ``group``, in one file under a new name: whoever reads the old ones reads on undisturbed."""
    target = merged_file(files.folder / table, group, new_id("m", now)[-_ENTROPY_CHARS:])
    write_durably(target.path, with_segments(rows.sort_by(TIME_COLUMNS[table]), target.segments))
    new = msgspec.structs.replace(target, size_bytes=target.path.stat().st_size)
    files.replaced(table, group, new)
    return new
