"""One way to log for both processes: JSON lines to a file or to standard error, plain lines on a terminal.

    log = logging.getLogger(__name__)
    log.warning("control is away", extra={"fields": {"retry_in_ms": 250}})

Key-like text is blanked. A line is one line whatever is in it. The same message more than LOG_SAME_LINES_MAX times in LOG_SAME_WINDOW_MS is counted
instead of written. A slow disk never holds up the caller: lines wait in a bounded queue for one thread, and what does not fit is counted.
"""

import logging
import logging.handlers
import os
import queue
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import msgspec

from headway.kernel import limits
from headway.kernel.scrub import scrub

_OWN_FIELD = "fields"


def setup(
    process: str,
    to: Path | TextIO | None = None,
    *,
    json: bool | None = None,
    level: int = logging.INFO,
) -> "Logs":
    """Send everything that is logged in this process to ``to`` (a file, a stream; standard error when None). Replaces an earlier set-up.

    ``json`` None means JSON unless ``to`` is a terminal. ``OSError`` when the file cannot be opened. Close the result at the end of the process.
    """
    target: logging.Handler
    if isinstance(to, Path):
        to.parent.mkdir(parents=True, exist_ok=True)
        target = _PrivateFile(to, maxBytes=limits.LOG_FILE_BYTES_MAX, backupCount=limits.LOG_FILES_KEPT, encoding="utf-8")
        as_json = json is not False
    else:
        stream = to if to is not None else sys.stderr
        target = logging.StreamHandler(stream)
        as_json = json if json is not None else not stream.isatty()
    target.setFormatter(JsonLines(process) if as_json else PlainLines(process))
    return Logs(target, level)


class Logs:
    """What ``setup`` installed. ``shed`` counts lines that did not fit the queue."""

    def __init__(self, target: logging.Handler, level: int) -> None:
        self._queue: queue.Queue[logging.LogRecord | None] = queue.Queue(limits.LOG_QUEUE_LINES_MAX)
        self._handler = _Waiting(self._queue)
        self._handler.addFilter(Repeats())
        self._target = target
        self._thread = threading.Thread(target=self._write, name="logs", daemon=True)
        self._thread.start()
        root = logging.getLogger()
        for old in root.handlers[:]:
            if isinstance(old, _Waiting):
                root.removeHandler(old)
                old.close()
        root.addHandler(self._handler)
        root.setLevel(level)
        logging.captureWarnings(True)

    @property
    def shed(self) -> int:
        return self._handler.shed

    def close(self) -> None:
        """Write what waits, for at most LOG_CLOSE_WAIT_MS, and let go of the file. Further lines go to Python's last resort."""
        root = logging.getLogger()
        if self._handler not in root.handlers and not self._thread.is_alive():
            return
        root.removeHandler(self._handler)
        logging.captureWarnings(False)
        wait_s = limits.LOG_CLOSE_WAIT_MS / 1000
        with suppress(queue.Full):
            self._queue.put(None, timeout=wait_s)
        self._thread.join(wait_s)
        if not self._thread.is_alive():
            self._target.close()

    def _write(self) -> None:
        while (record := self._queue.get()) is not None:
            self._target.handle(record)


class _Waiting(logging.handlers.QueueHandler):
    """Puts records into the queue; a full queue sheds and counts."""

    def __init__(self, waiting: "queue.Queue[logging.LogRecord | None]") -> None:
        super().__init__(waiting)
        self.shed = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Freeze the message here, where its arguments still mean what they meant; the rest is formatted by the thread."""
        record.msg, record.args = record.getMessage(), None
        if record.exc_info:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
            record.exc_info = None
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.shed += 1


class _PrivateFile(logging.handlers.RotatingFileHandler):
    """Readable by the owner only, bounded in size and number."""

    def _open(self) -> "TextIO":  # type: ignore[override]
        file = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return os.fdopen(file, "a", encoding=self.encoding, errors="backslashreplace")


class Repeats(logging.Filter):
    """Lets the first LOG_SAME_LINES_MAX of a message through in each window and says at the next window how many it kept back.

    The same message is the same logger, level and template; at most LOG_KINDS_REMEMBERED_MAX are remembered, the oldest forgotten first.
    """

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        super().__init__()
        self._clock = clock
        self._seen: OrderedDict[tuple[str, int, str], list[int]] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        now = self._clock()
        key = (record.name, record.levelno, str(record.msg))
        state = self._seen.get(key)
        if state is None or now - state[0] > limits.LOG_SAME_WINDOW_MS * 1_000_000:
            if state is not None and state[1] > limits.LOG_SAME_LINES_MAX:
                record.repeated = state[1] - limits.LOG_SAME_LINES_MAX
            self._seen[key] = [now, 1]
            self._seen.move_to_end(key)
            while len(self._seen) > limits.LOG_KINDS_REMEMBERED_MAX:
                self._seen.popitem(last=False)
            return True
        state[1] += 1
        return state[1] <= limits.LOG_SAME_LINES_MAX


class JsonLines(logging.Formatter):
    """One JSON object a line: at, level, process, logger, message, then the caller's fields, then the traceback."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "at": _instant(record.created),
            "level": record.levelname.lower(),
            "process": self._process,
            "logger": record.name,
            "message": _text(record.getMessage()),
        }
        for name, value in _fields(record).items():
            line.setdefault(name, value)
        if record.exc_text:
            line["traceback"] = _text(record.exc_text)
        return msgspec.json.encode(line).decode()


class PlainLines(logging.Formatter):
    """For people: time, level, logger, message, fields as name=value, then the traceback indented."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={value}" for name, value in _fields(record).items())
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        line = _one_line(
            f"{clock} {self._process} {record.levelname.lower():7} {record.name}: {_text(record.getMessage())}{fields}"
        )
        if record.exc_text:
            line += "".join(f"\n    {_one_line(each)}" for each in _text(record.exc_text).splitlines())
        return line


def _fields(record: logging.LogRecord) -> Mapping[str, object]:
    """What the caller gave as ``extra={"fields": {...}}``, scrubbed, and how many repeats were kept back."""
    given = getattr(record, _OWN_FIELD, None)
    fields: dict[str, object] = {}
    if isinstance(given, Mapping):
        for name, value in given.items():
            plain = isinstance(value, bool | int | float) or value is None
            fields[str(name)] = value if plain else _text(str(value))
    repeated = getattr(record, "repeated", 0)
    if repeated:
        fields["repeated"] = repeated
    return fields


def _text(text: str) -> str:
    """Scrubbed, bounded, and without what UTF-8 cannot hold."""
    if len(text) > limits.LOG_LINE_CHARS_MAX:
        text = f"{text[: limits.LOG_LINE_CHARS_MAX]}… ({len(text)} characters)"
    return scrub(text).encode("utf-8", "backslashreplace").decode()


def _one_line(text: str) -> str:
    """No control character reaches a terminal, and no text can pretend to be a line of its own."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _instant(created: float) -> str:
    whole = int(created)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{int((created - whole) * 1000):03d}Z"
