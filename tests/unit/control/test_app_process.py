"""The process put together: it starts without its ledger, answers, takes the ledger up when it comes, and stops cleanly."""

import asyncio
import socket

import httpx2
import pytest

from headway.config.load import load
from headway.control.listener import bound
from headway.control.process import ControlProcess, Ready
from headway.facts.files import FactFiles
from headway.facts.parquet_store import ParquetStore
from headway.kernel.errors import ConfigError

TOML = """
[control]
listen = "127.0.0.1:8090"
store = "{store}"
[providers.local]
preset = "llama.cpp"
base_url = "http://127.0.0.1:9"
models = ["small"]
[features.search]
targets = ["local/small"]
"""


class Running:
    """A control process on this loop."""

    def __init__(self, folder, store=""):
        path = folder / "headway.toml"
        path.write_text(TOML.format(store=store))
        self.state = folder / "state"
        self.files = FactFiles.open(self.state / "facts")
        self.process = ControlProcess(load(path), self.state, ParquetStore(self.files))
        self.ready: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()

    async def start(self, host="127.0.0.1"):
        self.task = asyncio.create_task(self.process.run(host, 0, self.ready.set_result))
        done, _ = await asyncio.wait((self.task, self.ready), timeout=20, return_when=asyncio.FIRST_COMPLETED)
        if self.task in done:
            self.files.close()
            self.task.result()
        return await self.ready

    async def stop(self):
        self.process.stop.set()
        await asyncio.wait_for(self.task, 20)
        self.files.close()

    def token(self):
        return (self.state / "control.token").read_text().strip()


@pytest.fixture
def folder(tmp_path):
    return tmp_path


async def test_it_starts_signs_the_owner_in_and_stops(folder):
    running = Running(folder)
    ready = await running.start()
    async with httpx2.AsyncClient(headers={"accept": "text/html"}) as browser:
        landed = await browser.get(ready.login)
        assert "Signed in as local owner" in landed.text
        home = (await browser.get(ready.board + "/?_format=json")).json()
        assert home["sentence"].startswith("No gateway is connected")
        assert home["problem"] == ""
    headers = {"authorization": f"Bearer {running.token()}"}
    async with httpx2.AsyncClient(headers=headers) as program:
        found = (await program.get(ready.board + "/api/v1/generation")).json()
        assert found["number"] == 1
        assert found["features"] == [{"name": "search", "targets": ["local/small"], "strict": False, "records_text": False}]
        assert (await program.get(ready.board + "/api/v1/calls")).json()["calls"] == []
        assert "headway_control_segments_total 0" in (await program.get(ready.board + "/metrics")).text
    await running.stop()
    assert not (running.state / "link.sock").exists()


async def test_a_watching_browser_does_not_hold_up_the_stop(folder):
    running = Running(folder)
    ready = await running.start()
    headers = {"authorization": f"Bearer {running.token()}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=20) as program,
        program.stream("GET", ready.board + "/api/v1/calls/stream") as stream,
    ):
        lines = stream.aiter_lines()
        assert (await anext(lines)).startswith("retry")
        began = asyncio.get_running_loop().time()
        await running.stop()
        assert asyncio.get_running_loop().time() - began < 2.5
        assert [line async for line in lines][-1:] == [""]


async def test_without_its_ledger_it_says_so_and_takes_it_up_when_it_comes(folder):
    late = folder / "not yet"
    running = Running(folder, store=f"sqlite:///{late / 'ledger.db'}")
    ready = await running.start()
    assert ready.login == ""
    async with httpx2.AsyncClient() as program:
        assert (await program.get(ready.board + "/health/live")).status_code == 200
        found = (await program.get(ready.board + "/health/ready")).json()
        assert found["status"] == "degraded"
        assert "ledger" in found["detail"][0]
        late.mkdir()
        for _ in range(200):
            found = (await program.get(ready.board + "/health/ready")).json()
            if found["generation"] == 1 and (running.state / "control.token").exists():
                break
            await asyncio.sleep(0.05)
        assert found["status"] == "ready"
        answer = await program.get(ready.board + "/api/v1/me", headers={"authorization": f"Bearer {running.token()}"})
        assert answer.json()["role"] == "owner"
    await running.stop()


async def test_beyond_loopback_only_once_somebody_has_a_password(folder):
    running = Running(folder)
    with pytest.raises(ConfigError, match="no user has a password yet"):
        await running.start(host="0.0.0.0")


async def test_a_port_in_use_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port} cannot be listened on"):
            bound("127.0.0.1", port)
