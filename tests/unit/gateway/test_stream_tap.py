"""The tap finds the text of any read, keeps little, and raises for nothing that a provider can send."""

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.calls.conversation import DialectName, StopReason, Usage
from headway.gateway.stream_tap import StreamTap

FORMS = {
    DialectName.OPENAI_CHAT: lambda text: {"choices": [{"index": 0, "delta": {"content": text}}]},
    DialectName.OPENAI_RESPONSES: lambda text: {"type": "response.output_text.delta", "sequence_number": 7, "delta": text},
    DialectName.ANTHROPIC: lambda text: {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}},
}


def looked_at(tap: StreamTap, *reads: bytes) -> StreamTap:
    tap.kept += reads
    tap.look()
    assert tap.kept == []
    return tap


@pytest.mark.parametrize("dialect", list(DialectName))
@pytest.mark.parametrize("compact", [True, False])
@given(texts=st.lists(st.text(max_size=40), min_size=1, max_size=6))
@settings(max_examples=40, deadline=None)
def test_the_text_is_heard_as_it_was_said(dialect: DialectName, compact: bool, texts: list[str]) -> None:
    separators = (",", ":") if compact else (", ", ": ")
    reads = [b"data: %b\n\n" % json.dumps(FORMS[dialect](each), separators=separators).encode() for each in texts]
    tap = looked_at(StreamTap(dialect), *reads)
    said = "".join(texts)
    assert tap.health.chars == len(said.lstrip() if said else said)
    assert tap.health._tail == said.lstrip()


@given(data=st.binary(max_size=300), dialect=st.sampled_from(list(DialectName)))
@settings(max_examples=150, deadline=None)
def test_garbage_is_no_error(data: bytes, dialect: DialectName) -> None:
    tap = looked_at(StreamTap(dialect), data, b'{"content":"' + data + b'"}', b'"delta":"' + data, b'"text":"\\ud800' + data)
    tap.health.fault(StopReason.END, Usage())


def test_a_hostile_read_takes_no_time() -> None:
    for piece in (b'content":"', b'content":"\\', b"\\" * 50, b'"delta":"\\\n', b'content":"a\\"'):
        began = time.thread_time()
        for dialect in DialectName:
            looked_at(StreamTap(dialect), piece * (500_000 // len(piece)))
        assert time.thread_time() - began < 1.0, piece
