"""Keeping a lake few-filed, young and within its size: done by whichever process holds the catalog's advisory lock.

Rows go by whole UTC days, recorded text within FACT_LAKE_GRACE_S of its moment. What is deleted or merged stays on the disk for FACT_LAKE_GRACE_S, longer than
any question may run; files that a killed writer left behind go after FACT_LAKE_ORPHAN_S, longer than any commit.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import duckdb
import psycopg

from headway.facts.columns import TABLES
from headway.facts.compaction import DAY_MS, TIME_COLUMNS
from headway.facts.lake import LAKE, STORED, conninfo
from headway.facts.lake_place import LakePlace
from headway.facts.store import RECORDING, Keep, Maintained
from headway.kernel.instants import WallMs
from headway.kernel.limits import FACT_LAKE_FILES_MERGED_MAX, FACT_LAKE_GRACE_S, FACT_LAKE_ORPHAN_S

_US_PER_MS: Final = 1000
_MS_PER_S: Final = 1000
_REWRITTEN_FROM: Final = 0.3
"""Share of deleted rows from which a file is written anew."""


def keep_house(database: duckdb.DuckDBPyConnection, place: LakePlace, now: WallMs, keep: Keep) -> tuple[Maintained, dict[str, int]]:
    """One round, and the files by table after it. ``duckdb.Error`` and ``psycopg.Error`` leave each finished step standing."""
    with elected(place) as mine:
        if not mine:
            return Maintained(elected=False), file_counts(database)
        expired = _expire_by_age(database, now - keep.days * DAY_MS)
        if keep.bytes_max is not None:
            expired += _expire_by_size(database, keep.bytes_max)
        recordings = _expire_recordings(database, now)
        merged = _merge(database)
        deleted = _delete_files(database, now)
        done = Maintained(merged_files=merged, expired_files=expired, expired_recordings=recordings, deleted_files=deleted)
        return done, file_counts(database)


@contextmanager
def elected(place: LakePlace) -> Iterator[bool]:
    """Whether this process keeps house for as long as the block runs. A holder that dies, or loses Postgres, holds it no longer."""
    with psycopg.connect(conninfo(place.catalog), autocommit=True) as catalog:
        row = catalog.execute("SELECT pg_try_advisory_lock(hashtext(%s))", (f"{place.schema}.house",)).fetchone()
        yield bool(row and row[0])


def file_counts(database: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Files by fact table."""
    found = {
        row[0]: int(row[1])
        for row in database.execute(f"SELECT table_name, file_count FROM ducklake_table_info('{LAKE}')").fetchall()
    }
    return {table: found.get(table, 0) for table in TABLES}


def bytes_held(database: duckdb.DuckDBPyConnection) -> int:
    """Bytes of all fact tables' live files."""
    return int(
        _one(
            database, f"SELECT coalesce(sum(file_size_bytes), 0) FROM ducklake_table_info('{LAKE}') WHERE table_name != '{STORED}'"
        )
    )


def _expire_by_age(database: duckdb.DuckDBPyConnection, before_ms: int) -> int:
    """Rows that began on a UTC day before that of ``before_ms``."""
    day = before_ms // DAY_MS * DAY_MS
    gone = sum(_delete(database, table, f'"{column}" < {day * _scale(column)}') for table, column in TIME_COLUMNS.items())
    _delete(database, STORED, f"wall_ms < {day - DAY_MS}")
    return gone


def _expire_by_size(database: duckdb.DuckDBPyConnection, bytes_max: int) -> int:
    """The oldest hours, until about ``bytes_max`` are left. Estimated by each table's bytes a row; exact at the next rounds."""
    size = bytes_held(database)
    if size <= bytes_max:
        return 0
    by_table: dict[str, float] = {
        row[0]: row[1]
        for row in database.execute(f"SELECT table_name, file_size_bytes FROM ducklake_table_info('{LAKE}')").fetchall()
    }
    hours: dict[int, float] = {}
    for table, column in TIME_COLUMNS.items():
        step = DAY_MS // 24 * _scale(column)
        rows = database.execute(f'SELECT "{column}" // {step} AS hour, count(*) FROM {LAKE}.{table} GROUP BY 1').fetchall()
        total = sum(count for _, count in rows)
        for hour, count in rows:
            hours[hour] = hours.get(hour, 0.0) + by_table.get(table, 0.0) * count / total
    until = 0
    for hour, share in sorted(hours.items()):
        if size <= bytes_max:
            break
        size -= int(share)
        until = (hour + 1) * (DAY_MS // 24)
    return sum(_delete(database, table, f'"{column}" < {until * _scale(column)}') for table, column in TIME_COLUMNS.items())


def _expire_recordings(database: duckdb.DuckDBPyConnection, now: WallMs) -> int:
    """Recorded text past its moment, gathered for FACT_LAKE_GRACE_S at most; the files that held it are written anew without it."""
    first = _one(database, f"SELECT min(keep_until_wall_ms) FROM {LAKE}.{RECORDING}")
    if first is None or first > now - FACT_LAKE_GRACE_S * _MS_PER_S:
        return 0
    gone = _delete(database, RECORDING, f"keep_until_wall_ms <= {now}")
    database.execute(f"CALL ducklake_rewrite_data_files('{LAKE}', '{RECORDING}', delete_threshold => 0.0)").fetchall()
    return gone


def _merge(database: duckdb.DuckDBPyConnection) -> int:
    merged = 0
    for table in (*TABLES, STORED):
        if table != RECORDING:
            database.execute(
                f"CALL ducklake_rewrite_data_files('{LAKE}', '{table}', delete_threshold => {_REWRITTEN_FROM})"
            ).fetchall()
        told = database.execute(
            f"CALL ducklake_merge_adjacent_files('{LAKE}', '{table}', max_compacted_files => {FACT_LAKE_FILES_MERGED_MAX})"
        ).fetchall()
        merged += sum(int(row[2]) for row in told)
    return merged


def _delete_files(database: duckdb.DuckDBPyConnection, now: WallMs) -> int:
    grace, orphan = _sql_instant(now, FACT_LAKE_GRACE_S), _sql_instant(now, FACT_LAKE_ORPHAN_S)
    _one(database, f"SELECT count(*) FROM ducklake_expire_snapshots('{LAKE}', older_than => {grace})")
    gone = _one(database, f"SELECT count(*) FROM ducklake_cleanup_old_files('{LAKE}', older_than => {grace})")
    orphans = _one(database, f"SELECT count(*) FROM ducklake_delete_orphaned_files('{LAKE}', older_than => {orphan})")
    return int(gone) + int(orphans)


def _delete(database: duckdb.DuckDBPyConnection, table: str, where: str) -> int:
    """Nothing is committed when nothing matches."""
    if _one(database, f"SELECT 1 FROM {LAKE}.{table} WHERE {where} LIMIT 1") is None:
        return 0
    return int(_one(database, f"DELETE FROM {LAKE}.{table} WHERE {where}"))


def _one(database: duckdb.DuckDBPyConnection, statement: str) -> Any:
    """The first value. All rows are fetched: a statement that is not read to its end does not commit."""
    rows = database.execute(statement).fetchall()
    return rows[0][0] if rows else None


def _scale(column: str) -> int:
    """How many of the column's units a millisecond has."""
    return _US_PER_MS if column.endswith("_us") else 1


def _sql_instant(now: WallMs, seconds_ago: int) -> str:
    then = datetime.fromtimestamp(now / _MS_PER_S, UTC) - timedelta(seconds=seconds_ago)
    return f"TIMESTAMPTZ '{then.isoformat()}'"
