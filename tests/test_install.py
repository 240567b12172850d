"""The gateway's install stays small: at most 16 packages, and nothing heavy is imported by any of its modules."""

import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.markers import Marker

ROOT = Path(__file__).parents[1]
PACKAGES_MAX = 16
HEAVY = (
    "fastapi",
    "starlette",
    "pydantic",
    "pydantic_core",
    "sqlalchemy",
    "opentelemetry",
    "numpy",
    "pyarrow",
    "duckdb",
    "ibis",
    "jinja2",
    "pandas",
)
LINE = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)(?: ; (.*?))? \\$", re.MULTILINE)


def locked(name: str) -> dict[str, str]:
    """Packages and versions that ``requirements/NAME.txt`` installs on CPython 3.11 on Linux."""
    here = {
        "python_version": "3.11",
        "python_full_version": "3.11.9",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
    }
    here |= {
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "platform_machine": "x86_64",
        "extra": "",
    }
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return {package: version for package, version, marker in LINE.findall(text) if not marker or Marker(marker).evaluate(here)}


def test_the_gateway_installs_at_most_sixteen_packages() -> None:
    packages = locked("gateway")
    assert "uvicorn" in packages
    assert len(packages) <= PACKAGES_MAX, sorted(packages)


def test_locks_agree_with_each_other() -> None:
    dev = locked("dev")
    for name in ("gateway", "serve", "build"):
        assert locked(name).items() <= dev.items(), name


@pytest.mark.parametrize("path", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda path: path.name)
def test_locks_have_hashes_and_no_address(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"://|--(extra-)?index-url|--find-links", text)
    for block in re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]:
        assert "--hash=sha256:" in block, block.splitlines()[0]


def test_importing_the_gateway_loads_nothing_heavy() -> None:
    import headway.gateway

    names = ["headway.gateway", *(m.name for m in pkgutil.walk_packages(headway.gateway.__path__, "headway.gateway."))]
    assert len(names) > 20
    code = f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\nprint(sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-W", "error::ImportWarning", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_importing_headway_does_nothing() -> None:
    code = "import sys, headway; print(len([m for m in sys.modules if m.startswith('headway')]), 'asyncio' in sys.modules, headway.__version__)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.startswith("1 False ")
