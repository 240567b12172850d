"""The product as its users start it: processes on free ports in a folder of their own, driven and killed from outside.

Only the command line, HTTP and the state folder are used here; nothing is imported from the gateway or control.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from headway.prove.rawhttp import Broken, RawAnswer, get_json, request, until

START_WITHIN_S = 30.0
STOP_WITHIN_S = 15.0
UPSTREAM_KEY = "sk-upstream-key-that-must-not-leak"


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def command(*words: str) -> list[str]:
    """``headway WORDS`` of this environment."""
    script = Path(sys.executable).with_name("headway")
    return [str(script), *words] if script.exists() else [sys.executable, "-c", "from headway.cli import main; main()", *words]


class Child:
    """A process of ours with its output in a file. ``name`` is for messages."""

    def __init__(self, name: str, words: Sequence[str], *, cwd: Path, env: Mapping[str, str] | None = None) -> None:
        self.name, self.words, self.cwd = name, list(words), cwd
        self.env = {**os.environ, **(env or {})}
        self.log = cwd / f"{name}.out"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was not started"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                self.words, cwd=self.cwd, env=self.env, stdout=out, stderr=out, stdin=subprocess.DEVNULL
            )

    def kill(self) -> None:
        """``kill -9``: nothing is flushed."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> int | None:
        """Asked to stop; killed when it does not within STOP_WITHIN_S. The exit status, None when it was not running."""
        if self._process is None:
            return None
        if self.running:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                self.kill()
        return self._process.returncode

    def tail(self, lines: int = 20) -> str:
        """The last lines it printed."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""


class Upstream:
    """The scripted upstream as a process."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        words = [sys.executable, "-m", "headway.lab.scripted", "--port", str(self.port), *arguments]
        self.child = Child("upstream", words, cwd=folder)

    async def start(self) -> None:
        self.child.start()
        await until(
            f"the scripted upstream answers\n{self.child.tail()}", lambda: answers(self.url, "/health"), within_s=START_WITHIN_S
        )

    async def script(self, *scripts: Mapping[str, object]) -> None:
        """Queue scripts, see ``headway.lab.scripted_script``."""
        answer = await request(self.url, "POST", "/_script", (), json.dumps(scripts).encode())
        if answer.status != 200:
            raise ValueError(answer.body.decode())

    async def forget(self) -> None:
        """No queued scripts, no records."""
        await request(self.url, "DELETE", "/_script")
        await request(self.url, "DELETE", "/_seen")

    async def seen(self, contains: str = "", *, last: int = 20, bodies: bool = True) -> dict[str, object]:
        report = await get_json(self.url, f"/_seen?contains={contains}&last={last}&bodies={int(bodies)}")
        assert isinstance(report, dict)
        return report

    def stop(self) -> None:
        self.child.stop()


class Product:
    """Gateway and control as two processes, so that either can be killed alone. Use as ``async with``."""

    def __init__(self, folder: Path, configuration: str, *, env: Mapping[str, str] | None = None) -> None:
        """``configuration`` is headway.toml without [gateway] listen and [control] listen, which are added here."""
        self.folder = folder
        self.gateway_port, self.control_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.gateway_port}"
        self.control_url = f"http://127.0.0.1:{self.control_port}"
        self.state = folder / ".headway"
        self.write(configuration)
        self.env = {"HEADWAY_UPSTREAM_KEY": UPSTREAM_KEY, **(env or {})}
        self.gateway = Child("gateway", command("gateway"), cwd=folder, env=self.env)
        self.control = Child("control", command("control"), cwd=folder, env=self.env)

    def write(self, configuration: str) -> None:
        """Replace headway.toml. Tables [gateway] and [control] of ``configuration`` must not name ``listen``."""
        text = configuration
        for table, port in (("gateway", self.gateway_port), ("control", self.control_port)):
            line = f'listen = "127.0.0.1:{port}"\n'
            text = text.replace(f"[{table}]\n", f"[{table}]\n{line}", 1) if f"[{table}]\n" in text else f"{text}\n[{table}]\n{line}"
        whole = self.folder / "headway.toml.new"
        whole.write_text(text)
        whole.replace(self.folder / "headway.toml")

    async def __aenter__(self) -> "Product":
        try:
            await self.start()
        except BaseException:
            self.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop()

    async def start(self) -> None:
        await self.start_control()
        await self.start_gateway()

    async def start_gateway(self, *, ready: bool = True) -> float:
        """Seconds until it answers."""
        self.gateway.start()
        path = "/health/ready" if ready else "/health/live"
        return await self._up(self.gateway, self.url, path)

    async def start_control(self) -> float:
        self.control.start()
        return await self._up(self.control, self.control_url, "/health/live")

    async def _up(self, child: Child, url: str, path: str) -> float:
        began = time.monotonic()
        while not await answers(url, path):
            if not child.running or time.monotonic() - began > START_WITHIN_S:
                raise RuntimeError(f"{child.name} does not answer {path} (running: {child.running}); it said:\n{child.tail()}")
            await asyncio.sleep(0.01)
        return time.monotonic() - began

    def stop(self) -> None:
        for child in (self.gateway, self.control):
            child.stop()

    # --- control's API -----------------------------------------------------------------------------------------------

    def token(self) -> str:
        """The owner's bearer token out of the state folder."""
        return (self.state / "control.token").read_text().strip()

    async def api(self, method: str, path: str, body: object = None) -> RawAnswer:
        headers = [("authorization", f"Bearer {self.token()}"), ("content-type", "application/json")]
        return await request(
            self.control_url, method, f"/api/v1{path}", headers, b"" if body is None else json.dumps(body).encode()
        )

    async def api_json(self, path: str) -> dict[str, object]:
        answer = await self.api("GET", path)
        if answer.status != 200:
            raise ValueError(f"GET /api/v1{path}: {answer.status} {answer.body[:300]!r}")
        value = answer.json()
        assert isinstance(value, dict)
        return value

    async def new_key(self, tenant: str = "default", name: str = "driver") -> str:
        """A key, known to the gateway when this returns."""
        answer = await self.api("POST", "/keys", {"tenant": tenant, "name": name})
        if answer.status != 201:
            raise ValueError(f"no key: {answer.status} {answer.body[:300]!r}")
        made = answer.json()
        assert isinstance(made, dict)
        key = str(made["secret"])
        await until("the gateway knows the new key", lambda: self.lets_in(key), within_s=10)
        return key

    async def lets_in(self, key: str) -> bool:
        answer = await request(self.url, "GET", "/v1/models", [("authorization", f"Bearer {key}")])
        return answer.status == 200


async def answers(url: str, path: str) -> bool:
    """Whether a GET comes back with 200."""
    with contextlib.suppress(OSError, Broken):
        return (await request(url, "GET", path)).status == 200
    return False
