"""One scripted upstream and one Headway for the whole suite.

``HEADWAY_URL`` (with ``HEADWAY_KEY``) runs the suite against a Headway that stands already, configured as CONFIGURATION below with its
providers at ``HEADWAY_UPSTREAM``. ``HEADWAY_PASS_THROUGH=1`` puts the bare proxy of benchmarks/gateway/floor.py in its place, which
proves the suite itself: what fails there is no fault of Headway.
"""

import asyncio
import os
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from clients_setup import configuration

from headway.prove.product import Child, Product, Upstream, answers, free_port
from headway.prove.rawhttp import until

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent


class Way(NamedTuple):
    """Where the suite sends its calls. ``product`` is None for a Headway of somebody else's and for the bare proxy."""

    url: str
    key: str
    product: Product | None
    translates: bool


@pytest.fixture(scope="session")
def upstream(tmp_path_factory):
    served = Upstream(tmp_path_factory.mktemp("upstream"))
    asyncio.run(served.start())
    yield served
    served.stop()


@pytest.fixture(scope="session")
def way(upstream, tmp_path_factory):
    if url := os.environ.get("HEADWAY_URL"):
        yield Way(url, os.environ["HEADWAY_KEY"], None, True)
        return
    folder = tmp_path_factory.mktemp("headway")
    if os.environ.get("HEADWAY_PASS_THROUGH"):
        port = free_port()
        words = [sys.executable, str(ROOT / "benchmarks/gateway/floor.py"), "--port", str(port), "--upstream", upstream.url]
        floor = Child("floor", words, cwd=folder)
        floor.start()
        url = f"http://127.0.0.1:{port}"
        asyncio.run(until("the bare proxy answers", lambda: answers(url, "/health"), within_s=20))
        yield Way(url, "any-key", None, False)
        floor.stop()
        return
    product = Product(folder, configuration(upstream.url))

    async def start() -> str:
        await product.start()
        return await product.new_key()

    try:
        key = asyncio.run(start())
        yield Way(product.url, key, product, True)
    finally:
        product.stop()


@pytest.fixture(scope="session")
def headway_url(way):
    return way.url


@pytest.fixture
def translating(way):
    """Tests of what only a gateway that knows the dialects can do."""
    if not way.translates:
        pytest.skip("the bare proxy does not translate")
    return way


@pytest.fixture(scope="session")
def clients_python():
    """The interpreter that has the clients: of HEADWAY_CLIENTS_PYTHON, of .venv-clients, or this one (official clients only)."""
    for candidate in (os.environ.get("HEADWAY_CLIENTS_PYTHON"), ROOT / ".venv-clients/bin/python"):
        if candidate and Path(candidate).exists():
            return str(candidate)
    return sys.executable


@pytest.fixture(scope="session")
def node():
    found = shutil.which("node")
    if found is None:
        pytest.skip("node is not installed")
    if not (HERE / "node/node_modules/ai").exists():
        pytest.skip("the npm packages are not installed: run `npm ci` in tests/clients/node")
    return found
