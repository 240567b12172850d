"""The proofs' own reading of the dialects, held against the recordings: what it accepts and what it refuses."""

import json

import pytest

from headway.lab.scripted_recording import Recordings
from headway.prove.forms import DIALECTS, sse_events, stream_end
from headway.prove.told import told, told_stream

RECORDINGS = Recordings()


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("name", ["text", "unicode", "tools", "schema", "reasoning", "length"])
def test_a_stream_tells_what_the_whole_answer_tells(dialect, name):
    whole = RECORDINGS.find(dialect, name, streamed=False)
    stream = RECORDINGS.find(dialect, name, streamed=True)
    assert told_stream(dialect, stream.body) == told(dialect, json.loads(whole.body))
    assert stream_end(dialect, stream.body).clean


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_error_event_and_a_torn_stream_are_told_apart(dialect):
    failed = stream_end(dialect, RECORDINGS.find(dialect, "error_mid", streamed=True).body)
    assert (failed.clean, failed.error, failed.after) == (False, True, 0)
    assert failed.message
    torn = stream_end(dialect, RECORDINGS.find(dialect, "text", streamed=True).body[:-30])
    assert (torn.clean, torn.error) == (False, False)


def test_orders_that_clients_choke_on_are_refused():
    chat = RECORDINGS.find("openai-chat", "text", streamed=True).body
    with pytest.raises(ValueError, match="DONE"):
        told_stream("openai-chat", chat + b"data: [DONE]\n\n")
    messages = RECORDINGS.find("anthropic", "text", streamed=True).events()
    with pytest.raises(ValueError, match="not found"):
        told_stream("anthropic", b"".join(event for event in messages if b"block_start" not in event))
    responses = RECORDINGS.find("openai-responses", "text", streamed=True).events()
    with pytest.raises(ValueError, match="sequence"):
        told_stream("openai-responses", b"".join(responses[:2] + responses[3:]))


def test_comments_line_ends_and_torn_events_are_read_as_the_rules_say():
    stream = b": hi\n\ndata: a\r\n\r\nevent: x\ndata:b\ndata: c\n\nid: 3\n\ndata: torn"
    assert [(e.event, e.data) for e in sse_events(stream)] == [("", "a"), ("x", "b\nc"), ("", "")]
