"""A Postgres for tests: the server at HEADWAY_TEST_PG, or a throw-away cluster of this machine."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

NOBODY = "nobody"
START_S = 30


class NoPostgres(Exception):
    """Neither a server was given nor the programs to start one are here."""


@contextmanager
def server() -> Iterator[str]:
    """The address of a server that may create databases. ``NoPostgres`` says what is missing."""
    if given := os.environ.get("HEADWAY_TEST_PG"):
        yield given
        return
    initdb, postgres = _binary("initdb"), _binary("postgres")
    if initdb is None or postgres is None:
        raise NoPostgres("no HEADWAY_TEST_PG, and no initdb and postgres on this machine")
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
    process = subprocess.Popen(
        [postgres, "-D", data, *options], user=user, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=_env()
    )
    try:
        url = f"postgresql://headway@/postgres?host={folder}"
        _wait_for(url, process)
        yield url
    finally:
        process.send_signal(signal.SIGINT)  # at once, whoever is connected still
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def _binary(name: str) -> str | None:
    found = shutil.which(name)
    candidates = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}")) if found is None else []
    return found or (str(candidates[-1]) if candidates else None)


def _env() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"}


def _wait_for(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert process.poll() is None, "the throw-away Postgres did not start"
        try:
            psycopg.connect(url).close()
            return
        except psycopg.OperationalError:
            time.sleep(0.05)
    raise AssertionError("the throw-away Postgres did not answer")
