"""``make test`` and ``make test-all``: say what this machine cannot run and why, run the rest, hold the pure rooms to their coverage.

Exit code 0 when everything that ran passed; pytest's code otherwise.
"""

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from headway.lab.model_build import model_folder

ROOT = Path(__file__).resolve().parents[1]
PURE_ROOMS = ("headway.kernel", "headway.stats", "headway.calls", "headway.estate")
PURE_TESTS = tuple(f"tests/unit/{room.rpartition('.')[2]}" for room in PURE_ROOMS)
COVERAGE_FLOOR = 95
"""Percent of lines and branches of the pure rooms that their own tests must reach."""


class Part(NamedTuple):
    """Something that tests need, and how to get it. ``skips`` is a pytest marker or a folder of tests."""

    name: str
    there: Callable[[], bool]
    skips: str
    get: str


def chromium() -> bool:
    return any(shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))


def postgres() -> bool:
    """A server to use, or the programs to start one for the tests."""
    found = shutil.which("initdb") or any(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return bool(os.environ.get("HEADWAY_TEST_PG") or found)


def local_model() -> bool:
    return model_folder().ready()


PARTS = (
    Part("Chromium", chromium, "web", "apt install chromium"),
    Part("Redis", lambda: shutil.which("redis-server") is not None, "counters that gateways share", "apt install redis-server"),
    Part(
        "Postgres",
        postgres,
        "postgres",
        "apt install postgresql, or set HEADWAY_TEST_PG to a server where tests may create databases",
    ),
)
HEAVY_PARTS = (
    Part("the local model", local_model, "llama", "make model"),
    Part("Java 17", lambda: shutil.which("java") is not None, "Spark in tests/engines", "apt install openjdk-17-jre-headless"),
    Part("npm", lambda: shutil.which("npm") is not None, "the Vercel AI SDK in tests/clients", "apt install npm"),
    Part("nginx", lambda: shutil.which("nginx") is not None, "make bench, and nginx as second opinion", "apt install nginx-light"),
    Part(
        "HAProxy", lambda: shutil.which("haproxy") is not None, "HAProxy as second opinion in tests/security", "apt install haproxy"
    ),
    Part("Playwright", lambda: importlib.util.find_spec("playwright") is not None, "web", "make setup"),
)


def missing(parts: tuple[Part, ...]) -> Iterator[Part]:
    """The parts that are not here, each told once."""
    for part in parts:
        if not part.there():
            print(f"not run here: {part.skips} (no {part.name}; {part.get})", flush=True)
            yield part


def pytest(*words: str) -> int:
    """Run pytest in a process of its own; code 5, no test collected, counts as a failure."""
    print("$ pytest " + " ".join(words), flush=True)
    return subprocess.run([sys.executable, "-m", "pytest", *words], cwd=ROOT, check=False).returncode


def pure(marks: str) -> int:
    """The pure rooms' own tests, with their coverage printed and held to its floor. Alone, since all that runs under coverage runs at half its speed."""
    measured = [f"--cov={room}" for room in PURE_ROOMS]
    report = ["--cov-branch", "--cov-report=term:skip-covered", f"--cov-fail-under={COVERAGE_FLOOR}"]
    return pytest(*PURE_TESTS, "-q", "-m", marks, *measured, *report)


def unit(marks: str) -> int:
    """Unit tests of the other rooms."""
    return pytest("tests/unit", "-q", "-m", marks, *(f"--ignore={folder}" for folder in PURE_TESTS))


def rest(marks: str) -> int:
    """Everything else of the gate: house, install, documents, security, web."""
    files = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests").glob("test_*.py"))
    folders = [f"tests/{name}" for name in ("security", "web") if any((ROOT / "tests" / name).rglob("test_*.py"))]
    return pytest(*files, *folders, "-q", "-m", marks)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="also the slow and heavy tests")
    given = parser.parse_args()
    start = time.monotonic()
    absent = {part.skips for part in missing(PARTS)}
    heavy_absent = {part.skips for part in missing(HEAVY_PARTS)} if given.all else {"slow", "llama"}
    if not given.all:
        print("not run here: slow, llama, tests/clients and tests/engines (make test-all runs them)", flush=True)
    marks = " and ".join(f"not {mark}" for mark in ("web", "postgres", "llama", "slow") if mark in absent | heavy_absent)
    codes = [pure(marks), unit(marks), rest(marks)]
    if given.all:
        codes.append(pytest("tests/clients", "-q"))
        codes.append(pytest("tests/engines", "-q"))
    print(f"took {time.monotonic() - start:.0f} s", flush=True)
    return next((code for code in codes if code), 0)


if __name__ == "__main__":
    sys.exit(main())
