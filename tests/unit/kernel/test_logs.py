"""Log lines: one a line, no secret, bounded, and never in the way."""

import io
import json
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.kernel import logs as logs_module
from headway.kernel.limits import LOG_KINDS_REMEMBERED_MAX, LOG_LINE_CHARS_MAX, LOG_SAME_LINES_MAX, LOG_SAME_WINDOW_MS
from headway.kernel.logs import JsonLines, Logs, PlainLines, Repeats, setup
from headway.kernel.scrub import scrub

SECRETS = [
    "hw_" + "0" * 26 + "_s3cretS3cret",
    "http://127.0.0.1:8090/login?token=hwl_0123456789abcdefghjkmnpq",
    "sk-ant-api03-abcdefghijk",
    "sk-proj-AbCdEf0123456789",
    "Bearer abcdefghijklmnop",
    "bearer abcdefghijklmnop",
    "Basic dXNlcjpwYXNzd29yZA==",
    "AIzaSyA0123456789abcdefghijklmnopqrstuv",
    "ghp_0123456789abcdefghijABCDEFGHIJ012345",
    "xoxb-1234567890-abcdef",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abcdefghijk",
    "api_key=hunter2hunter2",
    '"password": "hunter22"',
    "AZURE_API_KEY: 0123456789abcdef",
    "postgresql://headway:hunter22@db/headway",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----",
]
TELLING = [
    "s3cretS3cret",
    "api03",
    "AbCdEf",
    "abcdefghijklmnop",
    "dXNlcj",
    "SyA0123",
    "ghp_",
    "xoxb",
    "eyJ",
    "hunter2",
    "0123456789abcdef",
    "MIIEow",
]


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    logs = setup("gateway", stream)
    stream.logs = logs  # type: ignore[attr-defined]
    yield stream
    logs.close()
    logs.close()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    stream.logs.close()  # type: ignore[attr-defined]
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def record(message: str, *args: object, **more: object) -> logging.LogRecord:
    found = logging.LogRecord("headway.x", logging.WARNING, "f.py", 1, message, args, None)
    found.__dict__.update(more)
    return found


def test_a_line(stream: io.StringIO) -> None:
    logging.getLogger("headway.x").warning(
        "control is %s", "away", extra={"fields": {"retry_in_ms": 250, "why": ("a", 1), "up": False}}
    )
    (line,) = lines(stream)
    assert str(line.pop("at")).endswith("Z")
    assert line == {
        "level": "warning",
        "process": "gateway",
        "logger": "headway.x",
        "message": "control is away",
        "retry_in_ms": 250,
        "why": "('a', 1)",
        "up": False,
    }


@pytest.mark.parametrize("secret", SECRETS)
def test_no_secret_in_message_field_or_traceback(stream: io.StringIO, secret: str) -> None:
    log = logging.getLogger("headway.x")
    log.warning("got %s here", secret, extra={"fields": {"header": secret, "message": "cannot replace the message"}})
    try:
        raise ValueError(f"bad {secret}")
    except ValueError:
        log.exception("failed")
    first, second = lines(stream)
    assert not any(part in json.dumps([first, second]) for part in TELLING), (first, second)
    assert str(first["message"]).startswith("got ")
    assert "ValueError" in str(second["traceback"])


@pytest.mark.parametrize(
    "text",
    ["tokens: 1234", "max_tokens=4096", "call_01jd8zk3m4aaaaaaaaaaaaaaaa", "model sk-learn", "risk-averse-approach", "Basic idea"],
)
def test_plain_words_stay(text: str) -> None:
    assert scrub(text) == text


@settings(max_examples=150, deadline=None)
@given(st.text(), st.dictionaries(st.text(), st.one_of(st.text(), st.integers(), st.floats(), st.none()), max_size=4))
def test_any_text_is_one_valid_line(message: str, fields: dict[str, object]) -> None:
    line = JsonLines("p").format(record("%s", message, fields=fields))
    assert "\n" not in line
    assert json.loads(line)["process"] == "p"
    plain = PlainLines("p").format(record("%s", message, fields=fields))
    assert plain.isprintable()


def test_lone_surrogates_and_very_long_lines() -> None:
    line = json.loads(JsonLines("p").format(record("bad \ud800" + "x" * 100_000)))
    assert len(line["message"]) < LOG_LINE_CHARS_MAX + 100
    assert line["message"].startswith("bad \\ud800x")
    assert "100005 characters" in line["message"]


def test_repeats_are_counted_not_written() -> None:
    now = 0
    repeats = Repeats(lambda: now)
    shown = [repeats.filter(record("away since %d", i)) for i in range(100)]
    assert sum(shown) == LOG_SAME_LINES_MAX
    assert repeats.filter(record("something else"))
    now = (LOG_SAME_WINDOW_MS + 1) * 1_000_000
    again = record("away since %d", 100)
    assert repeats.filter(again)
    assert json.loads(JsonLines("p").format(again))["repeated"] == 100 - LOG_SAME_LINES_MAX
    for i in range(LOG_KINDS_REMEMBERED_MAX + 10):
        repeats.filter(record(f"kind {i}"))
    assert len(repeats._seen) == LOG_KINDS_REMEMBERED_MAX


def test_a_stuck_disk_does_not_hold_up_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = threading.Event()

    class Stuck(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            stuck.wait(5)

    monkeypatch.setattr(logs_module.limits, "LOG_QUEUE_LINES_MAX", 10)
    monkeypatch.setattr(logs_module.limits, "LOG_CLOSE_WAIT_MS", 50)
    logs = Logs(Stuck(), logging.INFO)
    began = time.monotonic()
    for i in range(100):
        logging.getLogger("headway.x").warning(f"line {i}")  # noqa: G004
    assert time.monotonic() - began < 0.25
    assert logs.shed >= 88
    logs.close()
    assert time.monotonic() - began < 1
    stuck.set()


def test_files_are_private_and_set_up_twice_is_once(tmp_path: Path) -> None:
    path = tmp_path / "state" / "gateway.log"
    first = setup("gateway", path)
    second = setup("gateway", path)
    logging.getLogger("headway.x").warning("once")
    second.close()
    first.close()
    assert path.read_text().count("once") == 1
    assert path.stat().st_mode & 0o777 == 0o600


def test_people_get_plain_lines() -> None:
    stream = io.StringIO()
    stream.isatty = lambda: True  # type: ignore[method-assign]
    logs = setup("control", stream)
    logging.getLogger("headway.x").warning("a\x1b[31m b\nc", extra={"fields": {"n": 1}})
    logs.close()
    (line,) = stream.getvalue().splitlines()
    assert line.endswith("control warning headway.x: a\\x1b[31m b\\nc n=1")
