"""A ledger on SQLite and on Postgres: the same tests run on both. Postgres is HEADWAY_TEST_PG, or a throw-away cluster of this machine."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from throwaway_postgres import NoPostgres, server

from headway.kernel.ids import new_id
from headway.kernel.instants import WallMs, wall_ms
from headway.ledger.store import Ledger, open_ledger, parse_url, sqlite_url


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The address of a server that may create databases. Skips, with the reason, where there is none."""
    try:
        with server() as url:
            yield url
    except NoPostgres as missing:
        pytest.skip(str(missing))


@pytest.fixture
def fresh_postgres(postgres_url: str) -> Iterator[str]:
    """The address of an empty database."""
    name = new_id("t", wall_ms())
    admin = create_engine(parse_url(postgres_url), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield parse_url(postgres_url).set(database=name).render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "ledger.db")
    return str(request.getfixturevalue("fresh_postgres"))


@pytest.fixture
async def ledger(ledger_url: str) -> AsyncIterator[Ledger]:
    opened = await open_ledger(ledger_url)
    yield opened
    await opened.close()


@pytest.fixture
def noon() -> WallMs:
    """2026-11-24 12:00 UTC: neither end of a day nor of a month is near."""
    return WallMs(1_795_521_600_000)
