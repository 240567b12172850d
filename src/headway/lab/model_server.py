"""The local real model as a process: ``llama-server`` on a port of loopback, ready when its health says so, gone when told.

Used by ``headway model start``, ``make run`` and the tests marked ``llama``. It lists itself as model ``smollm2``.
"""

import http.client
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from headway.lab.model_build import ModelError, ModelFolder

MODEL_NAME: Final = "smollm2"
SLOTS: Final = 6
CONTEXT_TOKENS: Final = 8_192
START_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 10.0


def command(folder: ModelFolder, port: int, more: Sequence[str] = ()) -> list[str]:
    """The words that start it; of flags given twice the later, in ``more``, holds. ModelError when it was not built."""
    server = folder.server()
    if server is None or not folder.weights.is_file():
        raise ModelError(f"there is no local model in {folder.root}. Run make model; it takes some minutes, once.")
    flags = [
        "-np",
        str(SLOTS),
        "-c",
        str(CONTEXT_TOKENS),
        "--kv-unified",
        "--metrics",
        "-t",
        "2",
        "--jinja",
        "-a",
        MODEL_NAME,
        *more,
    ]
    return [str(server), "-m", str(folder.weights), "--host", "127.0.0.1", "--port", str(port), *flags]


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ModelServer:
    """A running server. As a context manager it is stopped at the end. ``port`` 0 takes a free one; ``more`` are further flags."""

    def __init__(self, folder: ModelFolder, port: int = 0, log: Path | None = None, more: Sequence[str] = ()) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        words = command(folder, self.port, more)
        self._log = log or folder.root / "server.log"
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(words, stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True)

    @property
    def pid(self) -> int:
        return self._process.pid

    def running(self) -> bool:
        return self._process.poll() is None

    def wait_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Until it answers. ModelError when it ends or takes longer."""
        until = time.monotonic() + timeout_s
        while not self.healthy():
            if not self.running():
                raise ModelError(f"the local model ended at once (exit {self._process.returncode}). Its log is {self._log}.")
            if time.monotonic() > until:
                raise ModelError(f"the local model was not ready after {timeout_s:.0f} s. Its log is {self._log}.")
            time.sleep(0.1)

    def healthy(self) -> bool:
        """Whether it says that it can take calls."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def stop(self) -> None:
        """End it and wait."""
        if self.running():
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        try:
            self.wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
