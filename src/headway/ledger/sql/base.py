"""What the subjects share: one writer, a few readers, the audit entry beside each change, counters that move with a lock."""

import asyncio
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection, Engine, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from headway.kernel.ids import new_id
from headway.kernel.instants import WallMs, mono_ns
from headway.kernel.limits import LEDGER_READERS, LEDGER_READS_WAITING_MAX
from headway.ledger import schema
from headway.ledger.port import LedgerBusy, LedgerUnavailable
from headway.ledger.writer import Writer

T = TypeVar("T")
KEYS_VERSION = "keys"
"""The counter by which gateways and other controls hear of changed keys."""


class Reader:
    """Reads on a few threads with connections of their own; over LEDGER_READS_WAITING_MAX a read is refused as busy."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._pool = ThreadPoolExecutor(LEDGER_READERS, thread_name_prefix="ledger-reader")
        self._waiting = 0

    async def run(self, read: Callable[[Connection], T]) -> T:
        if self._waiting >= LEDGER_READS_WAITING_MAX:
            raise LedgerBusy(f"{LEDGER_READS_WAITING_MAX} reads wait for the ledger; try again in a moment")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._read, read)
        finally:
            self._waiting -= 1

    def _read(self, read: Callable[[Connection], T]) -> T:
        try:
            with self._engine.connect() as connection:
                return read(connection)
        except SQLAlchemyError as error:
            said = str(getattr(error, "orig", None) or type(error).__name__).splitlines()[0]
            raise LedgerUnavailable(f"the ledger could not be read: {said}") from error

    def close(self) -> None:
        self._pool.shutdown(wait=True)


class Store:
    """Base of the subjects."""

    def __init__(self, writer: Writer, reader: Reader) -> None:
        self._writer = writer
        self._reader = reader


def struct(row: Mapping[Any, Any], kind: type[T], *, without: tuple[str, ...] = ()) -> T:
    """A row as the struct whose fields its columns name."""
    return msgspec.convert({str(name): value for name, value in row.items() if name not in without}, kind)


def note(connection: Connection, *, actor: str, action: str, subject: str, now: WallMs, **detail: str) -> None:
    """The audit entry of a change, in its transaction."""
    row: dict[str, Any] = {
        # Two changes in one millisecond keep their order: what would be random is the monotonic clock of this process.
        "id": new_id("aud", now, mono_ns().to_bytes(8, "big") + os.urandom(2)),
        "at_wall_ms": now,
        "actor": actor,
        "action": action,
        "subject": subject,
        "detail": msgspec.json.encode({k: v for k, v in detail.items() if v}).decode(),
    }
    connection.execute(insert(schema.audit).values(row))


def next_value(connection: Connection, name: str) -> int:
    """Move a counter. Its row stays locked until the transaction ends, so values become visible in order."""
    moved = update(schema.counters).where(schema.counters.c.name == name).values(value=schema.counters.c.value + 1)
    return int(connection.execute(moved.returning(schema.counters.c.value)).scalar_one())


def value_of(connection: Connection, name: str) -> int:
    return int(connection.execute(select(schema.counters.c.value).where(schema.counters.c.name == name)).scalar_one())


def hold(connection: Connection, name: str) -> None:
    """Lock a counter until the transaction ends, without moving it."""
    connection.execute(update(schema.counters).where(schema.counters.c.name == name).values(value=schema.counters.c.value))
