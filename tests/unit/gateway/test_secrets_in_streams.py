"""A provider's own key that its streamed answer repeats does not reach the caller; nothing else of the stream changes."""

import json
from pathlib import Path

import pytest
from gateway_bench import STREAM, Bench, FakeExchange, FakeReply, chat, chat_stream, settings

from headway.config.model import Feature, Provider
from headway.lab.scripted_recording import Recordings

KEY = "sk-canary-0123456789abcdef"


def bench(folder: Path, parts: list[bytes], preset: str = "vllm") -> Bench:
    (folder / "key").write_text(KEY)
    config = settings(seen=Feature(targets=("there/m",)))
    config.providers["there"] = Provider(preset=preset, base_url="http://there.test", key=f"file:{folder}/key")
    return Bench(lambda request: FakeExchange(200, STREAM, parts), config=config)


@pytest.mark.parametrize("piece", [7, 64, 10_000])
async def test_the_key_is_blanked_in_an_event_however_it_was_split(tmp_path: Path, piece: int) -> None:
    whole = b"".join(chat_stream(("so your key is ", KEY, " then")))
    made = bench(tmp_path, [whole[i : i + piece] for i in range(0, len(whole), piece)])
    reply = await made.call(chat("seen", stream=True, stream_options={"include_usage": True}))
    assert reply.body == whole.replace(KEY.encode(), b"[redacted]")


async def test_the_last_event_without_its_blank_line_too(tmp_path: Path) -> None:
    torn = b"".join(chat_stream(("hi",), done=False)) + b"data: " + json.dumps({"choices": [], "note": KEY}).encode() + b"\n"
    reply = await bench(tmp_path, [torn]).call(chat("seen", stream=True))
    assert KEY.encode() not in reply.body
    assert b"[redacted]" in reply.body


async def test_between_two_dialects(tmp_path: Path) -> None:
    recorded = Recordings()
    stream = next(
        recorded.find("anthropic", name, streamed=True).body for name in recorded.names("anthropic") if name.startswith("text")
    )
    said = b'"text":"'
    assert said in stream
    made = bench(tmp_path, [stream.replace(said, said + KEY.encode())], preset="anthropic")
    reply = await made.call(chat("seen", stream=True))
    assert b"[redacted]" in reply.body
    assert KEY.encode() not in reply.body


async def test_a_stream_that_passes_unread(tmp_path: Path) -> None:
    made = bench(tmp_path, [b'data: {"text":"a"}\n\n', b'data: {"text":"' + KEY.encode() + b'"}\n\n'])
    reply: FakeReply = await made.call(
        json.dumps({"model": "seen", "prompt": "x", "stream": True}).encode(), path="/v1/completions", unread=True
    )
    assert reply.body == b'data: {"text":"a"}\n\ndata: {"text":"[redacted]"}\n\n'


async def test_a_stream_without_it_passes_as_it_is(tmp_path: Path) -> None:
    parts = chat_stream(("Hel", "lo"))
    made = bench(tmp_path, parts)
    reply = await made.call(chat("seen", stream=True, stream_options={"include_usage": True}))
    assert reply.body == b"".join(parts)
