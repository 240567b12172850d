"""What a watcher passes on and sees is the same however an upstream's bytes are split, also where the upstream writes nonsense."""

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headway.calls.conversation import DialectName
from headway.gateway.dialects.registry import REGISTRY
from headway.prove.forms import body_of

CHAT_BITS = [
    b'data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"hi"}}],"usage":null}',
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}',
    b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}',
    b'data: {"error":{"message":"no"}}',
    b"data: [DONE]",
    b',"usage"',
    b":null",
    b' "usage" : null , ',
]
OTHER_BITS = [
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"x","model":"m"}}',
    b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"hi"}}',
    b'data: {"type":"message_stop"}',
    b'data: {"type":"response.output_text.delta","delta":"hi"}',
    b'data: {"type":"response.completed","response":{"status":"completed","output":[]}}',
]
ENDS = [b"\n", b"\r\n", b"\r", b"\n\n", b"\r\n\r\n", b"\r\r"]
PIECES = st.sampled_from([*CHAT_BITS, *OTHER_BITS, *ENDS, *ENDS, b"data: ", b": ping", b"\xef\xbb\xbf", b"\xff"])


def watched(name: DialectName, reads: list[bytes]) -> tuple[bytes, object]:
    dialect = REGISTRY[name]
    watcher = dialect.watcher(dialect.scan(body_of(str(name), "m", "hello", stream=True)))
    out = b"".join([watcher.feed(read) for read in reads]) + watcher.finish()
    seen = msgspec.to_builtins(watcher.seen)
    del seen["output_chars"]  # an estimate, made of whole reads
    return out, seen


def split_at(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    return [data[a:b] for a, b in zip(places, places[1:], strict=False)]


@pytest.mark.parametrize("name", list(REGISTRY))
@settings(max_examples=250, deadline=None)
@given(st.lists(PIECES, max_size=14), st.lists(st.integers(0, 400), max_size=8))
@example([b'data: {"choices":[]', b',"usage"', b"\n\n", b":null", b"\n\n"], [29])
@example([CHAT_BITS[0], b"\r\n\r\n", CHAT_BITS[2], b"\r\n\r\n", b"data: [DONE]", b"\r\n\r\n"], [len(CHAT_BITS[0]) + 3])
def test_any_split_gives_equal_bytes(name: DialectName, bits: list[bytes], cuts: list[int]) -> None:
    data = b"".join(bits)
    whole = watched(name, [data])
    assert watched(name, split_at(data, cuts)) == whole
    assert watched(name, [data[i : i + 1] for i in range(len(data))]) == whole


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_every_line_end_passes_whole_at_every_cut(end: bytes) -> None:
    """Between CR and LF too: no line end is gained or lost, also where an event before or after the cut is taken out."""
    events = [CHAT_BITS[0].replace(b',"usage":null', b""), CHAT_BITS[1], CHAT_BITS[2], b"data: [DONE]"]
    data = b"".join(event + end * 2 for event in events)
    kept = b"".join(event + end * 2 for event in events if b"prompt_tokens" not in event)
    for cut in range(len(data) + 1):
        assert watched(DialectName.OPENAI_CHAT, [data[:cut], data[cut:]])[0] == kept, cut


def test_an_event_that_ends_with_cr_is_not_kept_waiting() -> None:
    dialect = REGISTRY[DialectName.OPENAI_CHAT]
    watcher = dialect.watcher(dialect.scan(body_of("openai-chat", "m", "hello", stream=True)))
    assert watcher.feed(b"data: {}\r\r") == b"data: {}\r\r"
