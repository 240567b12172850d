"""Whatever JSON comes, a codec answers or refuses in words: no other exception leaves it, and nothing of it grows without bound."""

import copy
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.calls.conversation import Conversation, Message, Role, Text
from headway.gateway.dialects.anthropic import AnthropicMessages
from headway.gateway.dialects.openai_chat import OpenAIChat
from headway.gateway.dialects.port import Dialect
from headway.gateway.dialects.responses import OpenAIResponses
from headway.kernel.errors import CallError

DIALECTS: dict[str, Dialect] = {"chat": OpenAIChat(), "responses": OpenAIResponses(), "anthropic": AnthropicMessages()}
MINE = ["responses", "anthropic"]

REQUESTS: dict[str, dict[str, Any]] = {
    "responses": {
        "model": "m",
        "instructions": "s",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "t"}, {"type": "input_image", "image_url": "data:image/png;base64,AA", "detail": "low"}]},
            {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "x"}], "encrypted_content": "e"},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "t", "annotations": []}, {"type": "refusal", "refusal": "n"}]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "o"}]},
        ],
        "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}],
        "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {}}, "verbosity": "low"},
        "reasoning": {"effort": "low", "summary": "auto"},
        "include": ["reasoning.encrypted_content"],
        "stream_options": {"include_obfuscation": False},
        "max_output_tokens": 20,
        "parallel_tool_calls": True,
    },
    "anthropic": {
        "model": "m",
        "max_tokens": 9,
        "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "t"}, {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA"}}]},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "h", "signature": "s"}, {"type": "redacted_thinking", "data": "d"}, {"type": "tool_use", "id": "c", "name": "f", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": [{"type": "text", "text": "o"}], "is_error": False}]},
        ],
        "tools": [{"name": "f", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "output_config": {"format": {"type": "json_schema", "schema": {}}, "effort": "low"},
        "metadata": {"user_id": "u"},
        "stop_sequences": ["x"],
    },
}  # fmt: skip

EVENTS: dict[str, list[dict[str, Any]]] = {
    "responses": [
        {"type": "response.created", "response": {"id": "r", "model": "m", "created_at": 1.5, "status": "in_progress"}},
        {"type": "response.output_item.added", "output_index": 0, "item": {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{"}},
        {"type": "response.function_call_arguments.delta", "output_index": 0, "delta": "}"},
        {"type": "response.reasoning_summary_text.delta", "output_index": 1, "summary_index": 0, "item_id": "i", "delta": "d"},
        {"type": "response.content_part.added", "output_index": 2, "content_index": 0, "part": {"type": "output_text", "text": "x"}},
        {"type": "response.output_text.delta", "output_index": 2, "content_index": 0, "delta": "d"},
        {"type": "response.output_item.done", "output_index": 2, "item": {"type": "message", "content": [{"type": "output_text", "text": "xd"}]}},
        {"type": "response.output_item.done", "output_index": 1, "item": {"type": "reasoning", "id": "i", "summary": [], "encrypted_content": "e"}},
        {"type": "response.completed", "response": {"id": "r", "status": "completed", "output": [], "usage": {"input_tokens": 1, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 0}}}},
    ],
    "anthropic": [
        {"type": "message_start", "message": {"id": "i", "model": "m", "usage": {"input_tokens": 1, "cache_creation": {"ephemeral_1h_input_tokens": 1}}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "id": "t", "name": "f", "input": {}}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "thinking", "thinking": "", "signature": ""}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "signature_delta", "signature": "s"}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    ],
}  # fmt: skip

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6)
)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3), max_leaves=6
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, below in inner for place in places(below, (*path, key)))]


def changed(value: Any, path: tuple[Any, ...], new: Any, drop: bool) -> Any:
    if not path:
        return new
    made = copy.deepcopy(value)
    holder = made
    for key in path[:-1]:
        holder = holder[key]
    if drop:
        del holder[path[-1]]
    else:
        holder[path[-1]] = new
    return made


def refusal_of(action: Callable[[], object]) -> CallError | None:
    """The refusal in words, if there was one; any other exception is a fault and leaves the test."""
    try:
        action()
    except CallError as error:
        return error
    return None


@pytest.mark.parametrize("name", MINE)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_requests_are_read_or_refused(name: str, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(places(REQUESTS[name])[1:]))
    body = json.dumps(changed(REQUESTS[name], path, data.draw(JSON), data.draw(st.booleans()))).encode()

    def translate() -> None:
        conversation, lost = DIALECTS[name].decode_request(body)
        assert all(isinstance(word, str) for word in lost)
        for target in DIALECTS.values():
            target.encode_request(conversation)

    refused = refusal_of(translate)
    assert refused is None or (refused.message and refused.http_status in (400, 422))


@pytest.mark.parametrize("name", MINE)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_streams_are_read_or_blamed_on_the_upstream(name: str, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(places(EVENTS[name])[1:]))
    events = changed(EVENTS[name], path, data.draw(JSON), data.draw(st.booleans()))
    stream = b"".join(b"data: %s\n\n" % json.dumps(event).encode() for event in events)
    conversation = Conversation(model="m", messages=(Message(role=Role.USER, parts=(Text(text="x"),)),))
    encoders = [target.encoder(conversation) for target in DIALECTS.values()]
    decoder = DIALECTS[name].decoder()

    def translate() -> None:
        for delta in (*decoder.feed(stream), *decoder.finish()):
            for encoder in encoders:
                encoder.encode(delta)

    failed = refusal_of(translate)
    assert failed is None or failed.http_status == 502
    watcher = DIALECTS[name].watcher(DIALECTS[name].scan(json.dumps(REQUESTS[name]).encode()))
    assert watcher.feed(stream) + watcher.finish() == stream
    watcher.text_of(stream)


@pytest.mark.parametrize("name", MINE)
@settings(max_examples=100, deadline=None)
@given(body=JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=30))
def test_answers_and_errors_of_any_form(name: str, body: bytes) -> None:
    dialect = DIALECTS[name]
    kind, message = dialect.decode_error(500, body)
    assert isinstance(kind, str)
    assert isinstance(message, str)
    dialect.see_answer(body)
    failed = refusal_of(lambda: dialect.decode_answer(body))
    assert failed is None or failed.http_status == 502


@pytest.mark.parametrize("name", MINE)
def test_depth_is_no_way_in(name: str) -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    key = b"input" if name == "responses" else b"messages"
    with pytest.raises(CallError):
        DIALECTS[name].decode_request(b'{"model":"m","' + key + b'":' + deep + b"}")
    with pytest.raises(CallError):
        DIALECTS[name].decode_answer(deep)
    with pytest.raises(CallError):
        DIALECTS[name].decoder().feed(b"data: " + deep + b"\n\n")


@pytest.mark.parametrize("name", MINE)
def test_names_of_what_is_lost_are_fit_for_a_header(name: str) -> None:
    word = "x\r\nset-cookie: a=b; é" + "y" * 1000
    content = (
        [{"type": "text", "text": "t"}, {"type": word}]
        if name == "anthropic"
        else [{"type": "input_text", "text": "t"}, {"type": word}]
    )
    turns = [{"role": "user", "content": content}]
    body = {"model": "m", "max_tokens": 9, "messages": turns, "input": turns, word: 1}
    conversation, before = DIALECTS[name].decode_request(json.dumps(body).encode())
    for target in DIALECTS.values():
        lost = (*before, *target.encode_request(conversation)[1])
        assert lost
        assert all(re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", each) for each in lost)


@pytest.mark.parametrize("name", MINE)
def test_a_refusal_does_not_repeat_a_long_word(name: str) -> None:
    turns = [{"role": "r" * 100_000, "content": "x"}]
    with pytest.raises(CallError) as refused:
        DIALECTS[name].decode_request(json.dumps({"model": "m", "messages": turns, "input": turns}).encode())
    assert len(refused.value.message) < 200
