"""Encoded bodies are refused before a byte is decoded, on every route that reads one; nothing encoded is asked for upstream."""

import gzip
import zlib

import pytest
from stage import Line, Stage, routes

from headway.prove.forms import CHAT, MESSAGES, PATHS, body_of, headers_of
from headway.prove.world import MODEL_BY_DIALECT

BOMB = gzip.compress(b" " * 30_000_000)
ENCODINGS = ("gzip", "GZIP", "x-gzip", "deflate", "br", "zstd", "compress", "identity, gzip", "gzip, gzip", "aws-chunked", "")


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("path", sorted({path for method, path in routes() if method == "POST"}))
async def test_an_encoded_body_is_refused(stage: Stage, line: Line, path: str, encoding: str) -> None:
    await stage.upstream.forget()
    fields = [("authorization", f"Bearer {stage.key}"), ("content-type", "application/json"), ("content-encoding", encoding)]
    for body in (BOMB, zlib.compress(b'{"model":"harbour-chat"}'), body_of(CHAT, MODEL_BY_DIALECT[CHAT], "plain all the same")):
        answer = await line.send("POST", path, fields, body)
        assert answer is not None
        assert answer.status == 415, answer.body
        told = answer.json()
        assert isinstance(told, dict)
        assert ("type" in told) == path.startswith("/v1/messages")
    assert await stage.seen() == []


async def test_identity_is_no_encoding(stage: Stage, line: Line) -> None:
    fields = headers_of(CHAT, stage.key, ("content-encoding", "identity"))
    answer = await line.send("POST", PATHS[CHAT], fields, body_of(CHAT, MODEL_BY_DIALECT[CHAT], "hello"))
    assert answer is not None
    assert answer.status == 200


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("dialect", [CHAT, MESSAGES])
async def test_an_encoded_answer_is_never_passed_off_as_plain(stage: Stage, line: Line, dialect: str, stream: bool) -> None:
    """We ask for plain bytes; an upstream that compresses all the same is a failure of its own, not a riddle for the caller."""
    await stage.upstream.script({"gzip": True})
    answer = await line.send(
        "POST", PATHS[dialect], headers_of(dialect, stage.key), body_of(dialect, MODEL_BY_DIALECT[dialect], "hi", stream=stream)
    )
    await stage.upstream.forget()
    assert answer is not None
    assert answer.status == 502 or b"\x1f\x8b" not in answer.body[:2]
