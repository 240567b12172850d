"""The store of many replicas: DuckLake, its catalog in Postgres, its Parquet on S3 or in a shared folder. See ``store.FactStore`` for what it promises.

Each segment is one transaction over all its tables: files first, then one commit in the catalog. A writer killed between the two leaves files that no
catalog names; they are in no answer, and the house-keeper deletes them an hour later.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Final

import duckdb
import psycopg
import pyarrow as pa

from headway.facts.columns import TABLES
from headway.facts.files import segment_name
from headway.facts.lake import AUTHOR, LAKE, STORED, attach, prepare
from headway.facts.lake_house import keep_house
from headway.facts.lake_place import LakePlace
from headway.facts.model import Fact
from headway.facts.parquet import arrow_table
from headway.facts.retention import unexpired
from headway.facts.store import RECORDING, Keep, Maintained, StoreAway
from headway.facts.views import shown_as
from headway.kernel import limits
from headway.kernel.instants import WallMs

_ROWS: Final = "segment_rows"
_IS_STORED: Final = f"SELECT 1 FROM {LAKE}.{STORED} WHERE wall_ms = ? AND run = ? AND number = ? AND gateway = ?"


class LakeStore:
    """A ``FactStore``. Reached at the first need; after a failure it is reached anew."""

    def __init__(self, place: LakePlace) -> None:
        self._place = place
        self._database: duckdb.DuckDBPyConnection | None = None
        self._files = dict.fromkeys(TABLES, 0)
        self._prepared = False
        self._preparing = threading.Lock()

    def append(self, gateway: str, segment: str, facts: Mapping[str, Sequence[Fact]], now: WallMs) -> frozenset[str]:
        """See ``FactStore.append``. All tables become visible at once."""
        name = segment_name(gateway, segment)
        if not facts:
            return frozenset()
        rows = {table: arrow_table(table, given) for table, given in facts.items()}
        if RECORDING in rows:
            rows[RECORDING] = unexpired(rows[RECORDING], now)
        try:
            return frozenset(facts) if self._appended(name, rows) else frozenset()
        except (duckdb.Error, psycopg.Error, OSError) as error:
            self._let_go()
            if self._lost_the_race(name):
                return frozenset()
            raise StoreAway(_said(error)) from error

    def maintain(self, now: WallMs, keep: Keep) -> Maintained:
        """See ``FactStore.maintain``. One process at a time: whoever holds the catalog's advisory lock, which Postgres frees when its holder dies."""
        try:
            done, self._files = keep_house(self._reached(), self._place, now, keep)
        except (duckdb.Error, psycopg.Error, OSError) as error:
            self._let_go()
            raise StoreAway(_said(error)) from error
        return done

    def files(self) -> dict[str, int]:
        return dict(self._files)

    def damaged(self) -> tuple[str, ...]:
        """A lake has none: a file that cannot be read fails the question, and Postgres still names it."""
        return ()

    def close(self) -> None:
        self._let_go()

    def attach(self, database: duckdb.DuckDBPyConnection) -> None:
        """For questions: the lake with all present columns."""
        try:
            with self._preparing:
                if self._prepared:
                    attach(database, self._place)
                else:
                    prepare(database, self._place)
                    self._prepared = True
        except psycopg.Error as error:
            raise duckdb.IOException(_said(error)) from error

    @contextmanager
    def look(self, cursor: duckdb.DuckDBPyConnection) -> Iterator[Callable[[str], str]]:
        """One snapshot of the lake."""
        cursor.execute("BEGIN TRANSACTION READ ONLY")
        try:
            yield lambda table: shown_as(table, TABLES[table].columns, f"{LAKE}.{table}")
        finally:
            with suppress(duckdb.Error):  # a failed transaction is over already
                cursor.execute("ROLLBACK")

    def set_aside_damaged(self) -> bool:
        return False

    def _appended(self, name: tuple[str, str, int, int], rows: Mapping[str, pa.Table]) -> bool:
        """False when the segment is in the lake already."""
        database = self._reached()
        if _is_stored(database, name):
            return False
        gateway, run, number, wall_ms = name
        database.execute("BEGIN")
        for table, given in rows.items():
            if given.num_rows:
                database.register(_ROWS, given)
                database.execute(f"INSERT INTO {LAKE}.{table} BY NAME SELECT * FROM {_ROWS}")
                database.unregister(_ROWS)
        database.execute(f"INSERT INTO {LAKE}.{STORED} VALUES (?, ?, ?, ?)", [gateway, run, number, wall_ms])
        database.execute(
            f"CALL {LAKE}.set_commit_message(?, ?, extra_info => ?)", [AUTHOR, "rows of a segment", f"{gateway}/{run}/{number}"]
        )
        database.execute("COMMIT")
        return True

    def _lost_the_race(self, name: tuple[str, str, int, int]) -> bool:
        """Whether another process, or a commit whose answer was lost, has stored the segment after all."""
        try:
            return _is_stored(self._reached(), name)
        except (duckdb.Error, psycopg.Error, OSError):
            self._let_go()
            return False

    def _reached(self) -> duckdb.DuckDBPyConnection:
        if self._database is None:
            database = duckdb.connect(":memory:")
            database.execute(f"SET memory_limit = '{limits.FACT_QUERY_MEMORY_MB_MAX}MB'")
            database.execute(f"SET threads = {limits.FACT_QUERY_THREADS}")
            database.execute("SET autoinstall_known_extensions = false")
            database.execute("SET autoload_known_extensions = false")
            database.execute("SET temp_directory = ''")
            self.attach(database)
            database.execute("SET ducklake_retry_wait_ms = 50")
            self._database = database
        return self._database

    def _let_go(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            with suppress(duckdb.Error):  # what it was doing is rolled back by the catalog
                database.close()


def _is_stored(database: duckdb.DuckDBPyConnection, name: tuple[str, str, int, int]) -> bool:
    gateway, run, number, wall_ms = name
    return bool(database.execute(_IS_STORED, [wall_ms, run, number, gateway]).fetchall())


def _said(error: Exception) -> str:
    return f"the lake of facts cannot be used: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
