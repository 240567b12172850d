"""Bytes split anywhere: every position of a short stream gives the same bytes within a dialect, the same words across two."""

import asyncio

import pytest
from clients_setup import MODEL_BY_DIALECT

from headway.lab.scripted_recording import Recordings
from headway.prove.forms import DIALECTS, PATHS, body_of, headers_of, sse_events
from headway.prove.rawhttp import RawConnection
from headway.prove.told import told_stream

AT_ONCE = 16


async def _streams(url: str, key: str, dialect: str, model: str, prompts: list[str]) -> list[bytes]:
    """The body of each stream, in order, over AT_ONCE connections."""
    out: list[bytes] = [b""] * len(prompts)
    waiting = iter(list(enumerate(prompts)))

    async def work() -> None:
        connection = await RawConnection.open(url)
        for place, prompt in waiting:
            body = body_of(dialect, model, prompt, stream=True)
            answer = await connection.request("POST", PATHS[dialect], headers_of(dialect, key), body)
            assert (answer.status, answer.torn) == (200, False), answer.body[:300]
            out[place] = answer.body
        connection.close()

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return out


@pytest.mark.parametrize("line_end", ["lf", "crlf"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_split_at_any_byte_changes_nothing_within_a_dialect(way, dialect, line_end):
    ask = f"<<recording=short crlf={'true' if line_end == 'crlf' else 'false'}"
    model = MODEL_BY_DIALECT[dialect]
    whole = asyncio.run(_streams(way.url, way.key, dialect, model, [f"{ask} merge=true>>"]))[0]
    same = whole.__eq__ if line_end == "lf" else lambda body: sse_events(body) == sse_events(whole)  # a last LF may be left out
    places = range(1, len(whole), 1 if line_end == "lf" else 3)
    seen = asyncio.run(_streams(way.url, way.key, dialect, model, [f"{ask} split_at={at} split_pause_ms=1>>" for at in places]))
    differing = {at: _difference(whole, body) for at, body in zip(places, seen, strict=True) if not same(body)}
    assert differing == {}


def _difference(whole: bytes, body: bytes) -> str:
    at = next((n for n, (a, b) in enumerate(zip(whole, body, strict=False)) if a != b), min(len(whole), len(body)))
    return f"{len(body)} bytes for {len(whole)}, first at {at}: {whole[at - 20 : at + 60]!r} became {body[at - 20 : at + 60]!r}"


@pytest.mark.parametrize("target", DIALECTS)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_split_at_any_byte_changes_no_word_between_dialects(translating, dialect, target):
    if dialect == target:
        pytest.skip("within a dialect the test above compares bytes")
    recorded = Recordings().find(target, "tools", streamed=True).body
    model = MODEL_BY_DIALECT[target]
    ask = "<<recording=tools>>"
    whole = asyncio.run(_streams(translating.url, translating.key, dialect, model, [ask]))[0]
    places = range(1, len(recorded), 5)
    for start in range(0, len(places), 200):
        chosen = places[start : start + 200]
        seen = asyncio.run(_split_recordings(translating, dialect, model, list(chosen)))
        expected = told_stream(dialect, whole)
        assert [at for at, body in zip(chosen, seen, strict=True) if told_stream(dialect, body) != expected] == []


async def _split_recordings(way, dialect: str, model: str, places: list[int]) -> list[bytes]:
    return await _streams(way.url, way.key, dialect, model, [f"<<recording=tools split_at={at}>>" for at in places])
