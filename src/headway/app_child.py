"""One child process of ``headway serve``: started, its log kept, started again when it dies, ended in time."""

import asyncio
import contextlib
import json
import os
import signal
from collections import deque
from collections.abc import Callable
from io import BufferedWriter
from pathlib import Path
from typing import Final

from headway.kernel.instants import mono_ns, ms_between
from headway.kernel.limits import LOG_FILE_BYTES_MAX, LOG_FILES_KEPT, LOG_LINE_CHARS_MAX, RESTART_BACKOFF_MS_MAX, RESTART_CALM_MS

_LINES_KEPT: Final = 20
_SHOWN_LEVELS: Final = ("warning", "error", "critical")
_FATAL_CODES: Final = (2, 3)
"""What the command line exits with when starting again would not help: configuration unusable, something missing."""


class LogFile:
    """Appends lines; over ``LOG_FILE_BYTES_MAX`` the file becomes ``.1`` and so on, ``LOG_FILES_KEPT`` old ones stay."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = self._open()
        self._size_bytes = self._file.tell()

    def write(self, line: bytes) -> None:
        """Add one line. A full disk loses the line, not the process."""
        with contextlib.suppress(OSError):
            if self._size_bytes + len(line) > LOG_FILE_BYTES_MAX:
                self._turn()
            self._size_bytes += self._file.write(line)
            self._file.flush()

    def close(self) -> None:
        self._file.close()

    def _open(self) -> BufferedWriter:
        return open(os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab")

    def _turn(self) -> None:
        self._file.close()
        for number in range(LOG_FILES_KEPT, 0, -1):
            older = self._path.with_name(f"{self._path.name}.{number}")
            newer = self._path.with_name(f"{self._path.name}.{number - 1}") if number > 1 else self._path
            if newer.exists():
                newer.replace(older)
        self._file, self._size_bytes = self._open(), 0


class Child:
    """``command`` as a child. ``show`` gets its name and what people should see."""

    def __init__(self, name: str, command: list[str], log: Path, show: Callable[[str, str], None]) -> None:
        self.name, self._command, self._show = name, command, show
        self._log_path = log
        self._last: deque[str] = deque(maxlen=_LINES_KEPT)
        self._process: asyncio.subprocess.Process | None = None
        self.starts = 0

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def keep_running(self, stop: asyncio.Event) -> int:
        """Until ``stop``, or until it exits with a code that says that starting again would not help; gives that code."""
        log = LogFile(self._log_path)
        wait_ms = 0
        try:
            while True:
                began = mono_ns()
                code = await self._run_once(log)
                if stop.is_set():
                    return 0
                calm = ms_between(began, mono_ns()) >= RESTART_CALM_MS
                if code in _FATAL_CODES and not calm:
                    self._tell_last()
                    return code
                wait_ms = 100 if calm or not wait_ms else min(2 * wait_ms, RESTART_BACKOFF_MS_MAX)
                self._show(self.name, f"ended ({_how(code)}); starting it again in {wait_ms} ms. Its log is {self._log_path}")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), wait_ms / 1000)
                    return 0
        finally:
            log.close()

    async def _run_once(self, log: LogFile) -> int:
        self.starts += 1
        self._process = process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,  # its end tells the child that the supervisor is gone
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # the terminal's Ctrl-C is for the supervisor alone
            limit=4 * LOG_LINE_CHARS_MAX,
        )
        assert process.stdout is not None
        while line := await _line(process.stdout):
            log.write(line)
            self._notice(line)
        return await process.wait()

    def _notice(self, line: bytes) -> None:
        """Keep the last lines for an explanation; show warnings and errors at once."""
        text = line.decode("utf-8", "replace").rstrip()
        level = ""
        if text.startswith("{"):
            with contextlib.suppress(ValueError):
                entry = json.loads(text)
                level, text = str(entry.get("level", "")).lower(), str(entry.get("message") or entry.get("event") or text)
        self._last.append(text)
        if level in _SHOWN_LEVELS:
            self._show(self.name, text)

    def _tell_last(self) -> None:
        for text in self._last:
            self._show(self.name, text)

    def signal(self, number: int) -> None:
        """Send a signal if it runs."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def end(self, within_s: float) -> None:
        """SIGTERM, then SIGKILL after ``within_s``."""
        if self._process is None or self._process.returncode is not None:
            return
        self.signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._process.wait(), within_s)
        except TimeoutError:
            self._show(self.name, f"did not end within {within_s:.0f} s and was killed")
            self.signal(signal.SIGKILL)
            await self._process.wait()


async def _line(stream: asyncio.StreamReader) -> bytes:
    """The next line; one that is longer than the limit comes in pieces."""
    try:
        return await stream.readuntil(b"\n")
    except asyncio.IncompleteReadError as error:
        return error.partial
    except asyncio.LimitOverrunError as error:
        return await stream.readexactly(error.consumed) + b"\n"


def _how(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit {code}"
