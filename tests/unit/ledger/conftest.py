"""A ledger on SQLite and on Postgres: the same tests run on both. Postgres is HEADWAY_TEST_PG, or a throw-away cluster of this machine."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from headway.kernel.ids import new_id
from headway.kernel.instants import WallMs, wall_ms
from headway.ledger.store import Ledger, open_ledger, parse_url, sqlite_url

NOBODY = "nobody"


def _binary(name: str) -> str | None:
    found = shutil.which(name)
    candidates = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}")) if found is None else []
    return found or (str(candidates[-1]) if candidates else None)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The address of a server that may create databases. Skips, with the reason, where there is none."""
    if given := os.environ.get("HEADWAY_TEST_PG"):
        yield given
        return
    initdb, postgres = _binary("initdb"), _binary("postgres")
    if initdb is None or postgres is None:
        pytest.skip("no HEADWAY_TEST_PG, and no initdb and postgres on this machine")
    folder = Path(tempfile.mkdtemp(prefix="hwpg", dir="/tmp"))
    user = NOBODY if os.geteuid() == 0 else None  # Postgres refuses to run as root
    if user:
        shutil.chown(folder, user)
    data = folder / "data"
    subprocess.run(
        [initdb, "-D", data, "-U", "headway", "-A", "trust", "-N", "-E", "UTF8"],
        check=True,
        capture_output=True,
        user=user,
        cwd=folder,
        env=_env(),
    )
    options = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={folder}", "-c", "fsync=off", "-c", "shared_buffers=16MB"]
    server = subprocess.Popen(
        [postgres, "-D", data, *options], user=user, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=_env()
    )
    try:
        url = f"postgresql://headway@/postgres?host={folder}"
        _wait_for(folder / ".s.PGSQL.5432", server)
        yield url
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def _env() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"}


def _wait_for(path: Path, server: "subprocess.Popen[bytes]") -> None:
    deadline = wall_ms() + 30_000
    while wall_ms() < deadline:
        assert server.poll() is None, "the throw-away Postgres did not start"
        if path.exists():
            with socket.socket(socket.AF_UNIX) as probe:
                if probe.connect_ex(str(path)) == 0:
                    return
        subprocess.run(["sleep", "0.05"], check=True)
    raise AssertionError("the throw-away Postgres did not answer")


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
