"""Runs expressions on DuckDB over a fact store, in a few threads of its own with a bounded queue and a time limit.

Each run takes one look at the store, shows its tables to DuckDB as views under their names, and lets go. A table without rows is an empty view, a column that
older rows lack has its default. Nothing but the store is read, and nothing is written.
"""

import asyncio
import importlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import duckdb
import pyarrow as pa

from headway.facts.answers import FactsAway
from headway.facts.store import FactSource
from headway.kernel import limits

Answer = TypeVar("Answer")
_S_PER_MS = 0.001


class Reader:
    """One query's look at the facts. Lives in one thread."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, view: Callable[[str], str]) -> None:
        self._connection, self._view = connection, view
        self._shown: set[str] = set()

    def arrow(self, expression: Any) -> pa.Table:
        """The rows of an ibis table expression."""
        queries = load_queries()
        for table in queries.tables_of(expression):
            if table not in self._shown:
                self._connection.execute(self._view(table))
                self._shown.add(table)
        return self._connection.execute(queries.sql(expression)).to_arrow_table()

    def rows(self, expression: Any) -> list[dict[str, Any]]:
        """The same as plain values: DuckDB's decimals, which sums of integers and sums of written-out fractions are, become whole numbers and reals."""
        found = self.arrow(expression)
        decimals = {
            field.name: int if field.type.scale == 0 else float for field in found.schema if pa.types.is_decimal(field.type)
        }
        rows: list[dict[str, Any]] = found.to_pylist()
        for row in rows:
            for name, plain in decimals.items():
                if row[name] is not None:
                    row[name] = plain(row[name])
        return rows


class Engine:
    """DuckDB in memory over ``source``. ``run`` is called on the event loop; all else happens in the pool."""

    def __init__(self, source: FactSource) -> None:
        self._source = source
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
            if not self._source.set_aside_damaged():
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
            with self._source.look(cursor) as view:
                return ask(Reader(cursor, view))
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
                self._source.attach(database)
                self._database = database
            return self._database


def load_queries() -> Any:
    """``queries.py``, loaded when it is first needed: ibis takes a third of a second."""
    return importlib.import_module("headway.facts.queries")
