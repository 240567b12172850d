"""Opening a ledger: addresses, migrations, permissions, the first owner."""

import asyncio
import sqlite3
import stat
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, text

from headway.kernel.errors import ConfigError
from headway.kernel.instants import WallMs
from headway.ledger import schema
from headway.ledger.bootstrap import TOKEN_FILE, ensure_owner
from headway.ledger.model import Role
from headway.ledger.port import LedgerUnavailable, NewKey
from headway.ledger.store import Ledger, open_ledger, parse_url, shown, sqlite_url


async def test_migrations_make_exactly_the_schema(ledger: Ledger, ledger_url: str) -> None:
    engine = create_engine(parse_url(ledger_url))
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []
    engine.dispose()


async def test_two_controls_may_start_at_once(ledger_url: str) -> None:
    opened = await asyncio.gather(*(open_ledger(ledger_url) for _ in range(4)))
    await opened[0].keys.create(NewKey(tenant="t"), actor="x", now=WallMs(1))
    assert len(await opened[3].keys.all()) == 1
    for ledger in opened:
        await ledger.close()


async def test_a_file_that_another_process_is_making_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("CREATE TABLE being_made (n)")
    other.execute("BEGIN IMMEDIATE")
    opening = asyncio.create_task(open_ledger(sqlite_url(path)))
    await asyncio.sleep(0.2)
    assert not opening.done()
    other.execute("COMMIT")
    other.close()
    await (await opening).close()


async def test_a_newer_ledger_is_refused_in_words(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "ledger.db")
    await (await open_ledger(url)).close()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(LedgerUnavailable, match="newer version of Headway"):
        await open_ledger(url)


async def test_the_file_is_this_users_alone(tmp_path: Path) -> None:
    ledger = await open_ledger(sqlite_url(tmp_path / "ledger.db"))
    for name in ("ledger.db", "ledger.db-wal"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    await ledger.close()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nonsense", "not the address"),
        ("mysql://u@h/d", "mysql"),
        ("sqlite://", "without a file"),
        ("sqlite:///:memory:", "without a file"),
    ],
)
def test_addresses_that_cannot_be_used(url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_url(url)


def test_postgres_goes_through_psycopg_and_shows_no_password() -> None:
    parsed = parse_url("postgres://ann:canary@db/headway")
    assert parsed.drivername == "postgresql+psycopg"
    assert "canary" not in shown(parsed)


async def test_a_store_that_does_not_answer_is_unavailable_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnavailable) as caught:
        await open_ledger(f"postgresql://ann:canary@/headway?host={tmp_path}")
    assert "canary" not in str(caught.value)
    with pytest.raises(LedgerUnavailable, match="cannot be opened"):
        await open_ledger(sqlite_url(tmp_path / "absent" / "ledger.db"))


async def test_the_first_owner_has_its_token_in_a_private_file(ledger: Ledger, tmp_path: Path, noon: WallMs) -> None:
    folder = tmp_path / "state"
    owner = await ensure_owner(ledger.principals, ledger.keys, folder, noon)
    path = folder / TOKEN_FILE
    assert owner.role is Role.OWNER
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    token = path.read_text().strip()
    found = await ledger.keys.check(token, noon)
    assert found is not None
    assert (found[0].role, found[1]) == (Role.OWNER, owner)
    assert (await ledger.keys.for_gateways(noon)).upserted == (), "it opens no gateway"

    assert await ensure_owner(ledger.principals, ledger.keys, folder, noon) == owner
    assert path.read_text().strip() == token, "a good token stays"
    path.unlink()
    await ensure_owner(ledger.principals, ledger.keys, folder, noon)
    fresh = path.read_text().strip()
    assert fresh != token
    assert await ledger.keys.check(fresh, noon) is not None
    assert await ledger.keys.check(token, noon) is None, "the lost one is revoked"


@pytest.mark.postgres
async def test_a_postgres_that_cuts_every_connection_is_used_again(fresh_postgres: str, noon: WallMs) -> None:
    ledger = await open_ledger(fresh_postgres)
    record, _ = await ledger.keys.create(NewKey(tenant="t"), actor="x", now=noon)
    admin = create_engine(parse_url(fresh_postgres), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        cut = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )
        connection.execute(text(cut))
    admin.dispose()
    assert [k.id for k in await ledger.keys.all()] == [record.id]
    assert (await ledger.keys.revoke(record.id, actor="x", now=noon)).revoked_wall_ms == noon
    await ledger.close()
