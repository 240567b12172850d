"""The writer thread: one transaction for what arrives together, failures of their own, a bound, a clean end."""

import asyncio
import threading
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine, text

from headway.kernel.instants import WallMs
from headway.ledger import writer as writing
from headway.ledger.model import PrincipalKind, Role
from headway.ledger.port import LedgerBusy, LedgerUnavailable, NewKey
from headway.ledger.store import Ledger, open_ledger, sqlite_url
from headway.ledger.writer import Writer


async def test_what_arrives_together_is_one_transaction(ledger: Ledger, noon: WallMs) -> None:
    held, go = threading.Event(), threading.Event()

    def slow(_connection: Connection) -> None:
        held.set()
        go.wait(10)

    first = asyncio.ensure_future(ledger.writer.run(slow))
    await asyncio.to_thread(held.wait, 10)
    before = ledger.writer.commits
    many = [ledger.keys.create(NewKey(tenant="t", name=str(i)), actor="x", now=noon) for i in range(50)]
    waiting = asyncio.gather(*many)
    await asyncio.sleep(0)
    go.set()
    await asyncio.gather(first, waiting)
    assert ledger.writer.commits - before <= 3, "50 keys took a few commits"
    assert len(await ledger.keys.all()) == 50


async def test_a_failure_undoes_only_itself(ledger: Ledger, noon: WallMs) -> None:
    def half_done(connection: Connection) -> None:
        connection.execute(text("UPDATE counters SET value = 99 WHERE name = 'keys'"))
        raise ValueError("on purpose")

    results = await asyncio.gather(
        ledger.principals.create(PrincipalKind.USER, "ann", Role.VIEWER, actor="x", now=noon),
        ledger.writer.run(half_done),
        ledger.principals.create(PrincipalKind.USER, "bob", Role.VIEWER, actor="x", now=noon),
        return_exceptions=True,
    )
    assert isinstance(results[1], ValueError)
    assert {p.name for p in await ledger.principals.all()} == {"ann", "bob"}
    assert (await ledger.keys.for_gateways(noon)).version == 0


async def test_a_broken_statement_is_unavailable_and_says_no_parameters(ledger: Ledger) -> None:
    with pytest.raises(LedgerUnavailable) as caught:
        await ledger.writer.run(lambda c: c.execute(text("INSERT INTO nowhere VALUES (:x)"), {"x": "canary-secret"}))
    assert "canary-secret" not in str(caught.value)
    assert (await ledger.keys.for_gateways(WallMs(0))).version == 0, "the next one works"


async def test_over_the_bound_a_write_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "LEDGER_QUEUE_MAX", 2)
    engine = create_engine(f"sqlite:///{tmp_path / 'w.db'}", connect_args={"check_same_thread": False})
    writer, go, held = Writer(engine), threading.Event(), threading.Event()
    blocked = writer.submit(lambda _c: (held.set(), go.wait(10)))
    held.wait(10)
    queued = [writer.submit(lambda _c: "done") for _ in range(2)]
    with pytest.raises(LedgerBusy):
        writer.submit(lambda _c: None)
    go.set()
    blocked.result(10)
    assert [f.result(10) for f in queued] == ["done", "done"]
    writer.close()
    with pytest.raises(LedgerUnavailable, match="closed"):
        writer.submit(lambda _c: None)
    engine.dispose()


async def test_closing_writes_what_is_queued(tmp_path: Path, noon: WallMs) -> None:
    url = sqlite_url(tmp_path / "ledger.db")
    ledger = await open_ledger(url)
    made = [asyncio.ensure_future(ledger.keys.create(NewKey(tenant="t"), actor="x", now=noon)) for _ in range(20)]
    await asyncio.sleep(0)
    await ledger.close()
    await asyncio.gather(*made)
    again = await open_ledger(url)
    assert len(await again.keys.all()) == 20
    await again.close()


async def test_a_locked_database_is_unavailable_and_then_works(
    tmp_path: Path, noon: WallMs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headway.ledger.store.LEDGER_LOCK_WAIT_MS", 50)
    url = sqlite_url(tmp_path / "ledger.db")
    ledger, rival = await open_ledger(url), create_engine(url, isolation_level=None)
    with rival.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        with pytest.raises(LedgerUnavailable, match="locked"):
            await ledger.keys.create(NewKey(tenant="t"), actor="x", now=noon)
        assert list(await ledger.keys.all()) == [], "readers are not held up"
        connection.exec_driver_sql("ROLLBACK")
    await ledger.keys.create(NewKey(tenant="t"), actor="x", now=noon)
    rival.dispose()
    await ledger.close()
