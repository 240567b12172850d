"""What is said through Headway is on no disk of it, unless a feature asked for that, and then redacted and with a day on which it goes."""

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from stage import Line, Stage

from headway.facts.segments import read_segment

PROMPT, ANSWER, QUOTED = "heron-weir-seventeen", "kestrel-lock-nineteen", "bittern-sluice-thirty"
KEPT_PROMPT, KEPT_ANSWER, MAIL = "wader-dam-forty", "plover-quay-fifty", "ada@example.org"
KEEP_DAYS = 3
RECORDING = f"""
[features.kept]
targets = ["chat/harbour-chat"]
record = {{ text = true, keep_days = {KEEP_DAYS} }}
"""
SECONDS = 30


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The state folder of a product through which all five were said, whole and as a stream; still running."""
    stage = Stage(tmp_path_factory.mktemp("said"), more=RECORDING)
    try:
        stage.start()
        asyncio.run(_say(stage))
        yield stage.folder
    finally:
        stage.stop()


async def _say(stage: Stage) -> None:
    line = Line(stage.product.url)
    headers = [("authorization", f"Bearer {stage.key}"), ("content-type", "application/json")]
    await stage.upstream.script(
        {"match": PROMPT, "text": f"it said {ANSWER}", "times": 2},
        {"match": QUOTED, "status": 400, "message": f"cannot use '{QUOTED}'"},
        {"match": KEPT_PROMPT, "text": f"it said {KEPT_ANSWER}"},
    )
    for model, text, stream in (
        ("harbour-chat", PROMPT, False),
        ("harbour-chat", PROMPT, True),
        ("harbour-chat", QUOTED, False),
        ("kept", f"{KEPT_PROMPT} {MAIL}", False),
    ):
        body = {"model": model, "stream": stream, "messages": [{"role": "user", "content": text}]}
        answer = await line.send("POST", "/v1/chat/completions", headers, json.dumps(body).encode())
        assert answer is not None
        assert answer.status == (400 if text == QUOTED else 200), answer.body
        if text == PROMPT:
            assert ANSWER.encode() in answer.body
    line.close()
    for _ in range(SECONDS * 10):
        if len(_rows(stage.folder, "call")) >= 4 and _rows(stage.folder, "recording"):
            return
        await asyncio.sleep(0.1)
    raise AssertionError("the calls did not come to the facts")


def _rows(folder: Path, table: str) -> list[dict[str, Any]]:
    return [row for path in folder.rglob(f"facts/{table}/*.parquet") for row in pq.read_table(path, partitioning=None).to_pylist()]


def _texts(path: Path) -> Iterator[bytes]:
    """The bytes of a file, and what they hold once unpacked."""
    yield path.read_bytes()
    if path.suffix == ".parquet":
        yield str(pq.read_table(path, partitioning=None).to_pylist()).encode()
        yield str(pq.read_metadata(path).to_dict()).encode()
    elif path.suffix in (".seg", ".open"):
        yield str(read_segment(path.read_bytes()).facts).encode()
    elif path.suffix == ".db":
        with sqlite3.connect(path) as database:
            yield "\n".join(database.iterdump()).encode()


def _holders(folder: Path, word: str) -> list[str]:
    """Files that hold ``word``. A segment that control took meanwhile is a row of a table now: then all are read again."""
    for _ in range(20):
        try:
            return _holders_now(folder, word)
        except FileNotFoundError:
            continue
    raise AssertionError("files come and go faster than they can be read")


def _holders_now(folder: Path, word: str) -> list[str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith("upstream")]
    assert len(files) > 5
    return [str(path.relative_to(folder)) for path in files if any(word.encode() in text for text in _texts(path))]


@pytest.mark.parametrize("word", [PROMPT, ANSWER, QUOTED])
def test_nothing_that_was_said_is_on_the_disk(said: Path, word: str) -> None:
    assert _holders(said, word) == []


@pytest.mark.parametrize("word", [KEPT_PROMPT, KEPT_ANSWER])
def test_a_feature_that_records_keeps_text_in_its_table_only(said: Path, word: str) -> None:
    found = _holders(said, word)
    assert found, "the feature asked for it"
    assert all("/facts/recording/" in place or "/spool/" in place for place in found), found


def test_recorded_text_is_redacted_and_has_its_day(said: Path) -> None:
    assert _holders(said, MAIL) == []
    (row,) = _rows(said, "recording")
    assert "[email]" in row["prompt"]
    assert row["keep_until_wall_ms"] - row["at_wall_ms"] == pytest.approx(KEEP_DAYS * 24 * 3600 * 1000, abs=60_000)
