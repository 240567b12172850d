"""One thread writes. What arrives while it works is written together, in one transaction, each change under a savepoint of its own.

So a thousand small writes cost a few commits, and one that fails undoes only itself. Within a transaction changes run in the order of what
they lock, and those that lock several things run alone: two controls on one Postgres then wait for each other, never in a circle.
A change is a plain function of a connection; it may be run again when the database asks for that (deadlock, serialization), so it must have no other effect than on the connection.
"""

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from headway.kernel.limits import LEDGER_BATCH_MAX, LEDGER_QUEUE_MAX, LEDGER_RETRIES_MAX
from headway.ledger.port import LedgerBusy, LedgerUnavailable

T = TypeVar("T")
_AGAIN: Final = frozenset({"40001", "40P01"})
"""SQLSTATE of serialization failure and deadlock: nothing was done, and trying again may do it."""


@dataclass(slots=True)
class _Job:
    change: Callable[[Connection], Any]
    done: "Future[Any]"
    locks: str | None


class Writer:
    """Owns the only connection that writes. ``close`` finishes what is queued."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._jobs: queue.Queue[_Job | None] = queue.Queue(maxsize=LEDGER_QUEUE_MAX)
        self._thread = threading.Thread(target=self._work, name="ledger-writer", daemon=True)
        self.commits = 0
        """Transactions so far, for metrics and tests of batching."""
        self._closed = False
        self._thread.start()

    async def run(self, change: Callable[[Connection], T], *, locks: str | None = "") -> T:
        """Do ``change`` and wait until it is durable. LedgerBusy when the queue is full, LedgerUnavailable when the store is away.

        ``locks`` names the row that it takes turns at; None for several, which then has a transaction of its own.
        """
        return await asyncio.wrap_future(self.submit(change, locks=locks))

    def submit(self, change: Callable[[Connection], T], *, locks: str | None = "") -> "Future[T]":
        if self._closed:
            raise LedgerUnavailable("the ledger is closed")
        job = _Job(change, Future(), locks)
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            raise LedgerBusy(f"{LEDGER_QUEUE_MAX} changes wait for the ledger; try again in a moment") from None
        return job.done

    def close(self) -> None:
        """Write what is queued and end the thread."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
            self._thread.join()

    def _work(self) -> None:
        open_still = True
        while open_still:
            batch, open_still = self._next_batch()
            batch = [job for job in batch if job.done.set_running_or_notify_cancel()]
            if together := [job for job in batch if job.locks is not None]:
                self._write(sorted(together, key=lambda job: job.locks or ""))
            for alone in (job for job in batch if job.locks is None):
                self._write([alone])

    def _next_batch(self) -> tuple[list[_Job], bool]:
        first = self._jobs.get()
        if first is None:
            return [], False
        batch = [first]
        while len(batch) < LEDGER_BATCH_MAX:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is None:
                return batch, False
            batch.append(job)
        return batch, True

    def _write(self, batch: list[_Job]) -> None:
        for attempt in range(LEDGER_RETRIES_MAX):
            try:
                results = self._transaction(batch)
            except SQLAlchemyError as error:
                if _worth_repeating(error) and attempt + 1 < LEDGER_RETRIES_MAX:
                    continue
                _fail(batch, error)
                return
            for job, (value, problem) in zip(batch, results, strict=True):
                if problem is None:
                    job.done.set_result(value)
                else:
                    job.done.set_exception(problem)
            return

    def _transaction(self, batch: list[_Job]) -> list[tuple[Any, BaseException | None]]:
        """Results in order, known only once the whole batch is durable."""
        results: list[tuple[Any, BaseException | None]] = []
        with self._engine.begin() as connection:
            for job in batch:
                results.append(_one(connection, job))
        self.commits += 1
        return results


def _one(connection: Connection, job: _Job) -> tuple[Any, BaseException | None]:
    savepoint = connection.begin_nested()
    try:
        value = job.change(connection)
        savepoint.commit()
    except DBAPIError as error:
        if savepoint.is_active:
            savepoint.rollback()
        if error.connection_invalidated or _worth_repeating(error):
            raise  # the transaction is gone, and with it the whole batch
        return None, LedgerUnavailable(f"the ledger could not be written: {_short(error)}")
    except BaseException as error:  # noqa: BLE001  handed to the caller, who awaits it
        savepoint.rollback()
        return None, error
    return value, None


def _worth_repeating(error: SQLAlchemyError) -> bool:
    """Only where the database says that nothing was done. A connection lost while committing leaves that open, and is not repeated."""
    return getattr(getattr(error, "orig", None), "sqlstate", None) in _AGAIN


def _fail(batch: list[_Job], error: SQLAlchemyError) -> None:
    for job in batch:
        job.done.set_exception(LedgerUnavailable(f"the ledger could not be written: {_short(error)}"))


def _short(error: SQLAlchemyError) -> str:
    """The database's own words, without statement and parameters: those may hold digests and names."""
    return str(getattr(error, "orig", None) or type(error).__name__).splitlines()[0]
