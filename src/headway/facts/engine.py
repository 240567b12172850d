"""Runs expressions on DuckDB over the files that count now, in a few threads of its own with a bounded queue and a time limit.

Each run pins the files, shows them to DuckDB as views under the tables' names, and lets go. A table without files is an empty view, a column that older files
lack has its default. Nothing but the facts folder is read, and nothing is written.
"""

import asyncio
import importlib
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from headway.facts.answers import FactsAway
from headway.facts.columns import TABLES, Column, Kind
from headway.facts.files import FactFiles
from headway.kernel import limits

Answer = TypeVar("Answer")
_TYPES = {
    Kind.TEXT: "VARCHAR",
    Kind.INTEGER: "BIGINT",
    Kind.REAL: "DOUBLE",
    Kind.FLAG: "BOOLEAN",
    Kind.BYTES: "BLOB",
    Kind.TEXTS: "VARCHAR[]",
    Kind.INTEGERS: "BIGINT[]",
}
_S_PER_MS = 0.001


class Reader:
    """One query's look at the facts. Lives in one thread."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, paths: Mapping[str, tuple[Path, ...]]) -> None:
        self._connection, self._paths = connection, paths
        self._shown: set[str] = set()

    def arrow(self, expression: Any) -> pa.Table:
        """The rows of an ibis table expression."""
        queries = load_queries()
        for table in queries.tables_of(expression):
            if table not in self._shown:
                self._connection.execute(view(table, self._paths.get(table, ())))
                self._shown.add(table)
        return self._connection.execute(queries.sql(expression)).to_arrow_table()

    def rows(self, expression: Any) -> list[dict[str, Any]]:
        """The same as plain values. Sums of integers, which DuckDB gives as decimals, are whole numbers again."""
        found = self.arrow(expression)
        sums = [field.name for field in found.schema if pa.types.is_decimal(field.type)]
        rows: list[dict[str, Any]] = found.to_pylist()
        for row in rows:
            for name in sums:
                row[name] = int(row[name])
        return rows


class Engine:
    """DuckDB in memory over ``files``. ``run`` is called on the event loop; all else happens in the pool."""

    def __init__(self, files: FactFiles) -> None:
        self._files = files
        self._pool = ThreadPoolExecutor(limits.FACT_QUERY_THREADS, thread_name_prefix="facts-query")
        self._database: duckdb.DuckDBPyConnection | None = None
        self._opening = threading.Lock()
        self._waiting = 0

    async def run(self, ask: Callable[[Reader], Answer], timeout_ms: int = limits.FACT_QUERY_TIMEOUT_MS) -> Answer:
        """What ``ask`` answers. ``FactsAway`` when too many wait already, when it takes longer than ``timeout_ms`` or the files cannot be read."""
        if self._waiting >= limits.FACT_QUERIES_WAITING_MAX:
            raise FactsAway(f"{self._waiting} questions wait for the stored calls already; try again in a few seconds")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._pool, partial(self._answer, ask, time.monotonic(), timeout_ms)
            )
        finally:
            self._waiting -= 1

    def warm(self) -> None:
        """Load DuckDB and ibis in the pool now rather than at the first question."""
        self._pool.submit(self._connect)

    async def close(self) -> None:
        """Wait for what runs; drop what waits."""
        await asyncio.to_thread(self._pool.shutdown, cancel_futures=True)
        if self._database is not None:
            self._database.close()

    def _answer(self, ask: Callable[[Reader], Answer], asked: float, timeout_ms: int) -> Answer:
        left_s = timeout_ms * _S_PER_MS - (time.monotonic() - asked)
        if left_s <= 0:
            raise FactsAway(f"the question waited {timeout_ms} ms for its turn; try again in a few seconds")
        try:
            return self._attempt(ask, left_s)
        except (duckdb.IOException, duckdb.InvalidInputException) as error:
            if not self._set_aside_damaged():
                raise FactsAway(f"the stored calls cannot be read: {error}") from error
        except duckdb.InterruptException as error:
            raise FactsAway(f"the question took longer than {timeout_ms} ms; ask for a shorter range") from error
        except duckdb.Error as error:
            raise FactsAway(f"the stored calls cannot be asked: {error}") from error
        return self._answer(ask, asked, timeout_ms)

    def _attempt(self, ask: Callable[[Reader], Answer], left_s: float) -> Answer:
        cursor = self._connect().cursor()
        stop = threading.Timer(left_s, cursor.interrupt)
        stop.daemon = True
        stop.start()
        try:
            with self._files.pin() as paths:
                return ask(Reader(cursor, paths))
        finally:
            stop.cancel()
            cursor.close()

    def _connect(self) -> duckdb.DuckDBPyConnection:
        with self._opening:
            if self._database is None:
                load_queries()
                database = duckdb.connect(":memory:")
                database.execute(f"SET memory_limit = '{limits.FACT_QUERY_MEMORY_MB_MAX}MB'")
                database.execute(f"SET threads = {limits.FACT_QUERY_THREADS}")
                database.execute("SET parquet_metadata_cache = true")
                database.execute("SET autoinstall_known_extensions = false")
                database.execute("SET autoload_known_extensions = false")
                database.execute("SET temp_directory = ''")
                self._database = database
            return self._database

    def _set_aside_damaged(self) -> bool:
        """Take files that are no Parquet out of every answer; they stay on the disk for whoever wants to look. True when there were any."""
        found = False
        for table in TABLES:
            for file in self._files.live(table):
                try:
                    pq.read_metadata(file.path)
                except (OSError, pa.ArrowException) as error:
                    self._files.set_aside(table, file, str(error))
                    found = True
        return found


def view(table: str, paths: tuple[Path, ...]) -> str:
    """SQL that shows ``paths`` as one table with all present columns and their defaults."""
    columns = TABLES[table].columns
    empty = ", ".join(f'NULL::{_TYPES[column.kind]} AS "{column.name}"' for column in columns)
    source = f"(SELECT {empty} WHERE false)"
    if paths:
        listed = ", ".join(_quoted(str(path)) for path in paths)
        source += f" UNION ALL BY NAME SELECT * FROM read_parquet([{listed}], union_by_name = true)"  # noqa: S608 (paths are ours and quoted)
    shown = ", ".join(_shown(column) for column in columns)
    return f'CREATE OR REPLACE TEMP VIEW "{table}" AS SELECT {shown} FROM ({source})'  # noqa: S608 (names are ours)


def _shown(column: Column) -> str:
    if column.required or column.nullable:
        return f'"{column.name}"'
    return f'coalesce("{column.name}", {_literal(column)}) AS "{column.name}"'


def _literal(column: Column) -> str:
    default = column.default
    if isinstance(default, bool | int | float):
        return f"{str(default).lower()}::{_TYPES[column.kind]}"
    if isinstance(default, str):
        return _quoted(default)
    assert default in ((), b""), column
    return f"{'[]' if default == () else _quoted('')}::{_TYPES[column.kind]}"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def load_queries() -> Any:
    """``queries.py``, loaded when it is first needed: ibis takes a third of a second."""
    return importlib.import_module("headway.facts.queries")
