"""The ledger on SQLite (WAL, one file, nothing to install) or Postgres: the same statements, one writer thread, readers on a pool."""

import asyncio
import contextlib
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from alembic.util import CommandError
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from headway.kernel.errors import ConfigError
from headway.kernel.instants import WallMs, wall_ms
from headway.kernel.limits import LEDGER_LOCK_WAIT_MS, LEDGER_READERS
from headway.ledger.migrate import migrate
from headway.ledger.port import Capabilities, LedgerUnavailable
from headway.ledger.sql.base import Reader
from headway.ledger.sql.budgets import SqlBudgets
from headway.ledger.sql.keys import SqlKeys
from headway.ledger.sql.principals import SqlPrincipals
from headway.ledger.sql.records import SqlAudit, SqlGenerations
from headway.ledger.sql.sessions import SqlSessions
from headway.ledger.writer import Writer

SQLITE: Final = Capabilities(store="sqlite", many_controls=False, row_locks=False, own_clock=False)
POSTGRES: Final = Capabilities(store="postgres", many_controls=True, row_locks=True, own_clock=True)
_WAL_AGAIN_S: Final = 0.02
_BY_BACKEND: Final = {"sqlite": SQLITE, "postgresql": POSTGRES}


class Ledger:
    """All subjects over one store. ``close`` finishes what is queued."""

    def __init__(self, url: URL) -> None:
        self.capabilities = _capabilities(url)
        _make_private(url)
        self._write_engine = _engine(url, writes=True)
        self._read_engine = _engine(url, writes=False)
        self._offset_ms = 0
        try:
            migrate(self._write_engine)
        except SQLAlchemyError as error:
            self._dispose()
            said = str(getattr(error, "orig", None) or type(error).__name__).splitlines()[0]
            raise LedgerUnavailable(f"the ledger at {shown(url)} cannot be opened: {said}") from error
        except CommandError as error:
            self._dispose()
            raise LedgerUnavailable(
                f"the ledger at {shown(url)} was written by a newer version of Headway; install that version, or restore a copy"
            ) from error
        self.writer = Writer(self._write_engine)
        self._reader = Reader(self._read_engine)
        self.principals = SqlPrincipals(self.writer, self._reader)
        self.keys = SqlKeys(self.writer, self._reader)
        self.sessions = SqlSessions(self.writer, self._reader)
        self.budgets = SqlBudgets(self.writer, self._reader)
        self.audit = SqlAudit(self.writer, self._reader)
        self.generations = SqlGenerations(self.writer, self._reader)

    def now(self) -> WallMs:
        """The ledger's time: the store's clock as last compared, or this process' where the store has none."""
        return WallMs(wall_ms() + self._offset_ms)

    async def compare_clocks(self) -> int:
        """Take over the store's clock; how many milliseconds this process was behind it."""
        if self.capabilities.own_clock:
            before = wall_ms()
            theirs = await self._reader.run(_clock_ms)
            self._offset_ms = theirs - (before + wall_ms()) // 2
        return self._offset_ms

    async def ping(self) -> None:
        """LedgerUnavailable when the store does not answer."""
        await self._reader.run(lambda c: c.execute(text("SELECT 1")).scalar_one())

    async def close(self) -> None:
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self.writer.close()
        self._reader.close()
        self._dispose()

    def _dispose(self) -> None:
        self._write_engine.dispose()
        self._read_engine.dispose()


async def open_ledger(url: str) -> Ledger:
    """Open, and bring its tables to this version. ConfigError for an address that cannot be used, LedgerUnavailable when it does not answer."""
    parsed = parse_url(url)
    ledger = await asyncio.to_thread(Ledger, parsed)
    await ledger.compare_clocks()
    return ledger


def sqlite_url(path: Path) -> str:
    """The address of the embedded ledger in a file."""
    return f"sqlite:///{path.absolute()}"


def parse_url(url: str) -> URL:
    """``postgres://`` and ``postgresql://`` go through psycopg. ConfigError for what is neither SQLite nor Postgres."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ConfigError(
            "control.store is not the address of a database", fix="sqlite:///PATH or postgresql://USER@HOST/NAME"
        ) from error
    if parsed.drivername in ("postgres", "postgresql"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() not in _BY_BACKEND:
        raise ConfigError(
            f"control.store names {parsed.drivername}, which the ledger does not speak", fix="use sqlite or postgresql"
        )
    if parsed.get_backend_name() == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise ConfigError("control.store names a SQLite database without a file", fix="sqlite:///PATH")
    return parsed


def shown(url: URL) -> str:
    """For messages: never the password."""
    return url.render_as_string(hide_password=True)


def _capabilities(url: URL) -> Capabilities:
    return _BY_BACKEND[url.get_backend_name()]


def _engine(url: URL, *, writes: bool) -> Engine:
    size = 1 if writes else LEDGER_READERS
    if url.get_backend_name() == "sqlite":
        engine = create_engine(url, poolclass=QueuePool, pool_size=size, max_overflow=0, connect_args={"check_same_thread": False})
        event.listen(engine, "connect", _sqlite_connection)
        event.listen(engine, "begin", _begin("BEGIN IMMEDIATE" if writes else "BEGIN"))
        return engine
    options = f"-c lock_timeout={LEDGER_LOCK_WAIT_MS} -c statement_timeout={3 * LEDGER_LOCK_WAIT_MS}"
    connect_args = {"options": options, "connect_timeout": 10, "application_name": "headway-control", "client_encoding": "utf8"}
    return create_engine(url, pool_size=size, max_overflow=0, pool_pre_ping=True, connect_args=connect_args)


def _sqlite_connection(connection: Any, _record: object) -> None:
    """WAL survives a crash of the process with synchronous=NORMAL; a crash of the machine may lose the last commits, never consistency."""
    connection.isolation_level = None  # the driver would begin and commit by its own rules
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={LEDGER_LOCK_WAIT_MS}")
    _use_wal(cursor)
    for pragma in ("synchronous=NORMAL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _use_wal(cursor: sqlite3.Cursor) -> None:
    """SQLite does not wait for the lock that a change of the journal's mode takes, so another process that opens the same new file is waited for here."""
    until_s = time.monotonic() + LEDGER_LOCK_WAIT_MS / 1_000
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until_s:
                raise
        time.sleep(_WAL_AGAIN_S)


def _begin(statement: str) -> Callable[[Connection], None]:
    """A writer that begins IMMEDIATE waits for the lock at once, instead of failing when it turns from reading to writing."""

    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(statement)

    return begin


def _make_private(url: URL) -> None:
    """Create the file before SQLite does, for this user alone: its WAL takes the same mode. A folder that is not there shows on opening."""
    if url.get_backend_name() == "sqlite" and url.database:
        with contextlib.suppress(FileNotFoundError):
            os.close(os.open(url.database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            Path(url.database).chmod(0o600)


def _clock_ms(connection: Connection) -> int:
    return int(connection.execute(text("SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)")).scalar_one())
