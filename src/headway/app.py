"""``headway serve``: gateway and control as two processes, watched, logged and started again when they die.

The supervisor holds no traffic: when it is gone, its children see the end of their standard input and drain. SIGTERM and SIGINT stop the
gateway first (it drains), then control; a second one does not wait. SIGHUP is passed to control, which loads the configuration again.
"""

import asyncio
import contextlib
import fcntl
import http.client
import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from headway.app_child import Child
from headway.config.addresses import port_problem, reach
from headway.config.load import Loaded
from headway.kernel.errors import ConfigError
from headway.kernel.limits import SERVE_READY_S, SERVE_STOP_S


def serve(config_path: Path | None, loaded: Loaded, *, quiet: bool = False) -> int:
    """Run both until told to stop. 0 after a clean stop; otherwise the exit code of the child that would not start.

    ConfigError when a port is taken, the state folder cannot be written, or another supervisor runs in it.
    """
    state_dir = loaded.state_dir
    with _alone_in(state_dir):
        for setting, listen in (
            ("gateway.listen", loaded.settings.gateway.listen),
            ("control.listen", loaded.settings.control.listen),
        ):
            _must_be_free(setting, listen)
        return asyncio.run(Supervisor(config_path, loaded, quiet=quiet).run())


@contextlib.contextmanager
def _alone_in(state_dir: Path) -> Iterator[None]:
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (state_dir / "serve.lock").open("w")
    except OSError as error:
        fix = "set state.dir to a folder that this user can write to"
        raise ConfigError(f"state folder {state_dir} cannot be written: {error.strerror}", where="state.dir", fix=fix) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fix = "stop it, or give this one another state.dir"
            raise ConfigError(f"another headway serve runs in {state_dir}", where="state.dir", fix=fix) from None
        yield


def _must_be_free(setting: str, listen: str) -> None:
    """ConfigError, precise, when one cannot listen there."""
    problem = port_problem(listen)
    if problem:
        fix = f"stop what listens there (ss -ltnp shows it), or give {setting} another port"
        raise ConfigError(f"{listen} cannot be listened on: {problem}", where=setting, fix=fix)


class Supervisor:
    """Both children and the signals."""

    def __init__(self, config_path: Path | None, loaded: Loaded, *, quiet: bool = False) -> None:
        self._loaded, self._quiet = loaded, quiet
        words = ["--state-dir", str(loaded.state_dir), *(["--config", str(config_path)] if config_path else []), "--supervised"]
        self.control = Child(
            "control", [sys.executable, "-m", "headway", "control", *words], loaded.state_dir / "control.log", self._show
        )
        self.gateway = Child(
            "gateway", [sys.executable, "-m", "headway", "gateway", *words], loaded.state_dir / "gateway.log", self._show
        )
        self._stop = asyncio.Event()
        self._signals = 0

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._told_to_stop)
        loop.add_signal_handler(signal.SIGHUP, lambda: self.control.signal(signal.SIGHUP))
        watches = [asyncio.create_task(child.keep_running(self._stop)) for child in (self.control, self.gateway)]
        greeting = asyncio.create_task(self._greet())
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait([*watches, stopping], return_when=asyncio.FIRST_COMPLETED)
        self._stop.set()
        greeting.cancel()
        await self._end()
        codes = [code for code in await asyncio.gather(*watches) if code]
        return codes[0] if codes and not self._signals else 0

    async def _end(self) -> None:
        """The gateway drains while control still takes its facts; then control."""
        drain_s = self._loaded.settings.gateway.drain_s
        await self.gateway.end(drain_s + SERVE_STOP_S)
        await self.control.end(SERVE_STOP_S)

    def _told_to_stop(self) -> None:
        self._signals += 1
        if self._signals == 1:
            self._say("stopping: the gateway drains; once more to stop at once")
            self._stop.set()
        else:
            for child in (self.gateway, self.control):
                child.signal(signal.SIGKILL)

    async def _greet(self) -> None:
        """Once both answer: where they are, how to sign in, a first call."""
        settings = self._loaded.settings
        gateway, control = reach(settings.gateway.listen), reach(settings.control.listen)
        for name, url in (("gateway", gateway), ("control", control)):
            if not await self._answers(url):
                self._say(f"{name} does not answer yet at {url}; its log is {self._loaded.state_dir / (name + '.log')}")
                return
        link = await asyncio.to_thread(login_path, control, self._loaded.state_dir / "control.token")
        self._say(f"gateway  {gateway}/v1")
        self._say(f"board    {control}{link}" + ("   (signs you in once; headway login prints another)" if link else ""))
        self._say(first_call(self._loaded, gateway))

    async def _answers(self, url: str) -> bool:
        for _ in range(int(SERVE_READY_S / 0.05)):
            if await asyncio.to_thread(is_live, url):
                return True
            await asyncio.sleep(0.05)
        return False

    def _say(self, text: str) -> None:
        if not self._quiet:
            print(text, flush=True)

    def _show(self, name: str, text: str) -> None:
        print(f"{name}: {text}", file=sys.stderr, flush=True)


def first_call(loaded: Loaded, gateway: str) -> str:
    """A line to paste: the first feature, and the key where one is needed."""
    model = next(iter(loaded.settings.features), "FEATURE")
    key = "" if loaded.settings.open_access else ' -H "authorization: Bearer $HEADWAY_KEY"'
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello"}]})
    made = "" if loaded.settings.open_access else "a key     headway keys create\n"
    return f"{made}try      curl {gateway}/v1/chat/completions -H 'content-type: application/json'{key} -d '{body}'"


def is_live(url: str) -> bool:
    """Whether a process of ours answers there."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=1)
    try:
        connection.request("GET", "/health/live")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def login_path(control: str, token_file: Path) -> str:
    """Path of a one-time sign-in; empty when control gives none."""
    parts = urlsplit(control)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=5)
    try:
        token = token_file.read_text().strip()
        headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        connection.request("POST", "/api/v1/login-links", b"{}", headers)
        response = connection.getresponse()
        return str(json.loads(response.read())["path"]) if response.status < 300 else ""
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        return ""
    finally:
        connection.close()
