"""OpenAI's Responses dialect by itself: requests, answers, streams, what is seen of them, prefixes."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.calls.conversation import (
    Alive,
    AnswerFormat,
    Conversation,
    Failed,
    Finished,
    Image,
    Message,
    PartDelta,
    PartEnded,
    PartStarted,
    Refusal,
    Role,
    Started,
    StopReason,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
    Usage,
)
from headway.gateway.dialects.port import Dialect
from headway.gateway.dialects.responses import OpenAIResponses
from headway.kernel.errors import BadRequest, Overloaded, RateLimited, UpstreamFailed

R: Dialect = OpenAIResponses()


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "input": "hi"} | fields).encode()


def decoded(**fields: Any) -> Conversation:
    conversation, lost = R.decode_request(body(**fields))
    assert lost == ()
    return conversation


def encoded(**fields: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    fields = {"model": "m", "messages": (Message(role=Role.USER, parts=(Text(text="hi"),)),)} | fields
    made, lost = R.encode_request(Conversation(**fields))
    return json.loads(made), lost


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


# --- requests ------------------------------------------------------------------------------------------------------------


FULL = {
    "model": "gpt-x",
    "instructions": "be brief",
    "input": [
        {"type": "message", "role": "developer", "content": "and kind"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "look"}, {"type": "input_image", "image_url": "https://x/i.png", "detail": "high"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "enc"},
        {"type": "message", "role": "assistant", "content": "I call"},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"b": 1.50}'},
        {"type": "function_call", "call_id": "c2", "name": "g", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "one"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "auto"}]},
        {"type": "message", "role": "user", "content": "go on"},
    ],
    "tools": [{"type": "function", "name": "f", "description": "does f", "parameters": {"type": "object"}, "strict": True}],
    "tool_choice": {"type": "function", "name": "f"},
    "parallel_tool_calls": False,
    "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}, "verbosity": "low"},
    "reasoning": {"effort": "high", "summary": "auto"},
    "include": ["reasoning.encrypted_content"],
    "max_output_tokens": 400,
    "temperature": 0.5,
    "top_p": 0.9,
    "user": "u1",
    "stream": True,
    "store": False,
    "metadata": {"k": "v"},
}  # fmt: skip


def test_a_full_request_comes_back_equal() -> None:
    conversation, lost = R.decode_request(json.dumps(FULL).encode())
    assert lost == ()
    made, lost_again = R.encode_request(conversation)
    assert lost_again == ()
    assert json.loads(made) == FULL


def test_items_of_one_turn_are_one_message() -> None:
    roles = [m.role for m in R.decode_request(json.dumps(FULL).encode())[0].messages]
    assert roles == [Role.SYSTEM, Role.DEVELOPER, Role.USER, Role.ASSISTANT, Role.USER, Role.USER]


def test_a_string_is_a_user_message() -> None:
    assert decoded().messages == (Message(role=Role.USER, parts=(Text(text="hi"),)),)


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": {"id": "conv_1"}}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"background": True}, "background"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, r"input\[0\]\.id"),
        ({"input": [{"id": "msg_1"}]}, r"input\[0\]\.id"),
        ({"input": None}, "input"),
        ({"input": [{"role": "tool", "content": "x"}]}, r"input\[0\]\.role"),
        ({"input": [{"type": "function_call", "name": "f"}]}, r"input\[0\]\.call_id"),
    ],
)
def test_what_cannot_be_served_is_refused_precisely(fields: dict[str, Any], word: str) -> None:
    with pytest.raises(BadRequest, match=word) as refused:
        R.decode_request(body(**fields))
    assert refused.value.param is not None


@pytest.mark.parametrize(
    ("fields", "lost"),
    [
        ({"tools": [{"type": "web_search"}]}, ("tools.web_search",)),
        ({"tools": [{"type": "custom", "name": "patch"}]}, ("tools.custom",)),
        ({"tools": [{"type": "function", "name": "f", "parameters": {}, "strict": False, "output_schema": {"type": "object"}}]}, ("tools.output_schema",)),
        ({"tool_choice": {"type": "file_search"}}, ("tool_choice.file_search",)),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": "x"}, {"type": "input_file", "file_id": "f"}]}]}, ("input_file",)),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": "x"}, {"type": "input_image", "file_id": "f"}]}]}, ("input_image.file_id",)),
        ({"input": [{"role": "user", "content": "x"}, {"type": "web_search_call", "id": "w"}]}, ("web_search_call",)),
        ({"input": [{"role": "assistant", "content": "x", "phase": "commentary"}]}, ("phase",)),
        ({"input": [{"id": "m", "status": "completed", "type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "x", "annotations": [], "logprobs": []}]}]}, ()),
        ({"input": [{"role": "assistant", "content": [{"type": "output_text", "text": "x", "annotations": [{"type": "url_citation"}]}]}]}, ("annotations",)),
        ({"reasoning": {"effort": "low", "mode": "pro"}}, ("reasoning.mode",)),
        ({"stream_options": {"include_obfuscation": True}}, ("stream_options.include_obfuscation",)),
        ({"stream_options": {"include_obfuscation": False}}, ()),
        ({"background": False, "previous_response_id": None, "include": ["reasoning.encrypted_content"]}, ()),
    ],
)  # fmt: skip
def test_what_has_no_place_is_named(fields: dict[str, Any], lost: tuple[str, ...]) -> None:
    assert R.decode_request(body(**fields))[1] == lost


def test_extras_are_verbatim() -> None:
    conversation = decoded(store=True, include=["message.output_text.logprobs", "reasoning.encrypted_content"], truncation="auto")
    assert {name: bytes(value) for name, value in conversation.extras.items()} == {
        "store": b"true",
        "include": b'["message.output_text.logprobs"]',
        "truncation": b'"auto"',
    }


def test_allowed_tools_are_the_tools() -> None:
    tools = [{"type": "function", "name": name, "parameters": {}} for name in "fgh"]
    choice = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": n} for n in "hf"]}
    conversation = decoded(tools=tools, tool_choice=choice, parallel_tool_calls=True)
    assert [tool.name for tool in conversation.tools] == ["f", "h"]
    assert conversation.tool_choice == ToolChoice(mode="required", parallel=True)


@pytest.mark.parametrize("mode", ["auto", "none", "required"])
def test_tool_choice(mode: str) -> None:
    tools = [{"type": "function", "name": "f", "parameters": {}}]
    conversation = decoded(tools=tools, tool_choice=mode)
    assert conversation.tool_choice == ToolChoice(mode=mode)
    made, _ = R.encode_request(conversation)
    assert json.loads(made)["tool_choice"] == mode


def test_tools_are_not_strict_unless_said() -> None:
    made, _ = encoded(tools=(Tool(name="f"), Tool(name="g", schema=raw({"type": "object"}), strict=True)))
    assert made["tools"] == [
        {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}, "strict": False},
        {"type": "function", "name": "g", "parameters": {"type": "object"}, "strict": True},
    ]


def test_calls_are_stateless_unless_the_caller_says_otherwise() -> None:
    assert encoded()[0]["store"] is False
    assert encoded(extras={"store": raw(True)})[0]["store"] is True


def test_encrypted_reasoning_is_asked_for_where_there_is_reasoning() -> None:
    assert "include" not in encoded()[0]
    assert "include" not in encoded(reasoning_effort="none")[0]
    made, _ = encoded(reasoning_budget_tokens=9_000, extras={"include": raw(["message.output_text.logprobs"])})
    assert made["reasoning"] == {"effort": "medium"}
    assert made["include"] == ["reasoning.encrypted_content", "message.output_text.logprobs"]


@pytest.mark.parametrize(
    ("fields", "lost"),
    [
        ({"stop": ("x",), "seed": 0, "top_k": 4, "frequency_penalty": 1.0}, ("top_k", "frequency_penalty", "stop")),
        ({"max_tokens": 5}, ("max_tokens",)),
        ({"extras": {"logit_bias": raw({"1": 2}), "n": raw(2), "service_tier": raw("standard_only")}}, ("logit_bias", "n", "service_tier")),
        ({"messages": (Message(role=Role.USER, parts=(ToolResult(tool_use_id="1", content=(), is_error=True),)),)}, ("tool_result.is_error",)),
        ({"messages": (Message(role=Role.ASSISTANT, parts=(Thinking(text="t", signature="s"),)),)}, ("thinking",)),
        ({"messages": (Message(role=Role.USER, parts=(Text(text="x", cache_control=raw({"type": "ephemeral"})),), name="bob"),)}, ("messages.name", "cache_control")),
    ],
)  # fmt: skip
def test_what_responses_lacks_is_named(fields: dict[str, Any], lost: tuple[str, ...]) -> None:
    assert encoded(**fields)[1] == lost


def test_too_small_a_maximum_is_raised_to_what_the_provider_takes() -> None:
    assert encoded(max_tokens=5)[0]["max_output_tokens"] == 16
    assert encoded(max_tokens=17)[0]["max_output_tokens"] == 17


def test_json_object_and_no_format() -> None:
    assert encoded(format=AnswerFormat(kind="json_object"))[0]["text"] == {"format": {"type": "json_object"}}
    assert decoded(text={"format": {"type": "json_object"}}).format == AnswerFormat(kind="json_object")
    assert decoded(text={"format": {"type": "text"}}).format is None


def test_parts_keep_their_order() -> None:
    parts = (Text(text="a"), ToolUse(id="1", name="f", arguments="{}"), Text(text="b"), Image(url="https://i"), Refusal(text="no"))
    made, lost = encoded(messages=(Message(role=Role.ASSISTANT, parts=parts),))
    assert lost == ()
    assert [item["type"] for item in made["input"]] == ["message", "function_call", "message"]
    assert [content["type"] for content in made["input"][2]["content"]] == ["output_text", "input_image", "refusal"]


# --- scan, splice, errors ------------------------------------------------------------------------------------------------


def test_scan_and_splice_change_only_what_they_must() -> None:
    text = b'{ "model" : "a/b", "stream":true,\n "instructions":"s", "input":[ ] , "x":1.0 }'
    scan = R.scan(text)
    assert (scan.model, scan.stream, scan.max_tokens, scan.prompt_bytes) == ("a/b", True, None, 6)
    assert text[: scan.prefix_end].endswith(b"[ ]")
    assert R.splice(text, scan, model="c", want_usage=True) == text.replace(b'"a/b"', b'"c"')
    assert json.loads(R.splice(text, scan, model="c", want_usage=True, max_tokens=50))["max_output_tokens"] == 50
    assert R.splice(text, scan, model="a/b", want_usage=True) is text


def test_error_bodies_and_events() -> None:
    assert json.loads(R.error_body(RateLimited("slow down", param="x"), request_id="r1")) == {
        "error": {"message": "slow down", "type": "rate_limit_error", "param": "x", "code": "rate_limited"}
    }
    first, last = (json.loads(part.split(b"data: ")[1]) for part in R.error_event(Overloaded("full")).split(b"\n\n")[:2])
    assert first["type"] == "error"
    assert (first["code"], first["message"]) == ("overloaded", "full")
    assert first["error"] == {"type": "server_error", "code": "overloaded", "message": "full", "param": None}
    assert (last["type"], last["response"]["status"], last["response"]["error"]["message"]) == ("response.failed", "failed", "full")


def test_the_error_event_can_name_the_response_that_it_ends() -> None:
    responses = OpenAIResponses()
    watcher = R.watcher(R.scan(body()))
    watcher.feed(sse(*EVENTS[:14]))
    first, last = (
        json.loads(part.split(b"data: ")[1]) for part in responses.error_event(Overloaded("full"), watcher.seen).split(b"\n\n")[:2]
    )
    assert (first["sequence_number"], last["sequence_number"], last["response"]["id"]) == (14, 15, "resp_1")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            b'{"error":{"message":"no","type":"invalid_request_error","code":"context_length_exceeded"}}',
            ("context_length_exceeded", "no"),
        ),
        (b'{"error":{"message":"no","type":"server_error","code":null}}', ("server_error", "no")),
        (b'{"error":"boom"}', ("error", "boom")),
        (b'{"object":"response","error":null}', ("", "")),
        (b"<html>", ("", "")),
    ],
)
def test_errors_of_providers(text: bytes, found: tuple[str, str]) -> None:
    assert R.decode_error(500, text) == found


# --- answers -------------------------------------------------------------------------------------------------------------


ANSWER: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1700000000,
    "status": "completed",
    "model": "gpt-x",
    "error": None,
    "incomplete_details": None,
    "output": [
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "a"}, {"type": "summary_text", "text": "b"}], "encrypted_content": "enc"},
        {"type": "web_search_call", "id": "ws_1", "status": "completed"},
        {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [{"type": "output_text", "text": "hello", "annotations": []}]},
        {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": '{"a":1}', "status": "completed"},
    ],
    "usage": {"input_tokens": 20, "input_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 0}, "output_tokens": 9, "output_tokens_details": {"reasoning_tokens": 4}, "total_tokens": 29},
}  # fmt: skip


def test_a_whole_answer_is_read_and_written() -> None:
    answer = R.decode_answer(json.dumps(ANSWER).encode())
    assert answer.parts == (
        Thinking(text="a\n\nb", encrypted="enc", id="rs_1"),
        Text(text="hello"),
        ToolUse(id="c1", name="f", arguments='{"a":1}'),
    )
    assert answer.usage == Usage(input_tokens=20, output_tokens=9, cached_tokens=5, cache_write_tokens=0, reasoning_tokens=4)
    assert answer.stop is StopReason.TOOL_USE
    again = R.decode_answer(R.encode_answer(answer, model="gpt-x"))
    assert again == answer


@pytest.mark.parametrize(
    ("fields", "stop"),
    [
        ({"output": []}, StopReason.END),
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, StopReason.LENGTH),
        ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, StopReason.CONTENT_FILTER),
        ({"output": [{"type": "message", "content": [{"type": "refusal", "refusal": "no"}]}]}, StopReason.REFUSAL),
    ],
)
def test_stop_reasons_both_ways(fields: dict[str, Any], stop: StopReason) -> None:
    text = json.dumps(ANSWER | fields).encode()
    answer = R.decode_answer(text)
    assert answer.stop is stop
    assert R.decode_answer(R.encode_answer(answer, model="m")).stop is stop
    assert R.see_answer(text).stop is stop


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (b"{}", "object"),
        (b"<html>", "JSON"),
        (b'{"error":{"message":"too long","type":"invalid_request_error"}}', "too long"),
        (json.dumps(ANSWER | {"status": "failed", "error": {"code": "server_error", "message": "broken"}}).encode(), "broken"),
        (json.dumps(ANSWER | {"status": "in_progress"}).encode(), "not finished"),
    ],
)
def test_what_is_no_answer_is_the_upstreams_fault(text: bytes, word: str) -> None:
    with pytest.raises(UpstreamFailed, match=word):
        R.decode_answer(text)


def test_unknown_usage_is_null() -> None:
    answer = R.decode_answer(json.dumps(ANSWER | {"usage": None}).encode())
    assert answer.usage == Usage()
    assert json.loads(R.encode_answer(answer, model="m"))["usage"] is None


# --- streams -------------------------------------------------------------------------------------------------------------


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(
        b"event: %s\ndata: %s\n\n" % (e["type"].encode(), json.dumps(e | {"sequence_number": i}).encode())
        for i, e in enumerate(events)
    )


def text_delta(delta: str, output: int = 2) -> dict[str, Any]:
    return {
        "type": "response.output_text.delta",
        "item_id": "msg_1",
        "output_index": output,
        "content_index": 0,
        "delta": delta,
        "logprobs": [],
    }


EVENTS: list[dict[str, Any]] = [
    {"type": "response.created", "response": ANSWER | {"status": "in_progress", "output": [], "usage": None}},
    {"type": "response.in_progress", "response": ANSWER | {"status": "in_progress", "output": [], "usage": None}},
    {"type": "response.output_item.added", "output_index": 0, "item": {"type": "reasoning", "id": "rs_1", "summary": []}},
    {"type": "response.reasoning_summary_part.added", "item_id": "rs_1", "output_index": 0, "summary_index": 0, "part": {"type": "summary_text", "text": ""}},
    {"type": "response.reasoning_summary_text.delta", "item_id": "rs_1", "output_index": 0, "summary_index": 0, "delta": "a"},
    {"type": "response.reasoning_summary_text.done", "item_id": "rs_1", "output_index": 0, "summary_index": 0, "text": "a"},
    {"type": "response.reasoning_summary_text.delta", "item_id": "rs_1", "output_index": 0, "summary_index": 1, "delta": "b"},
    {"type": "response.output_item.done", "output_index": 0, "item": ANSWER["output"][0]},
    {"type": "response.output_item.added", "output_index": 1, "item": {"type": "web_search_call", "id": "ws_1", "status": "in_progress"}},
    {"type": "response.output_item.done", "output_index": 1, "item": ANSWER["output"][1]},
    {"type": "keepalive"},
    {"type": "response.output_item.added", "output_index": 2, "item": {"type": "message", "id": "msg_1", "role": "assistant", "status": "in_progress", "content": []}},
    {"type": "response.content_part.added", "item_id": "msg_1", "output_index": 2, "content_index": 0, "part": {"type": "output_text", "text": "", "annotations": []}},
    text_delta('"error" response.completed → é'),
    text_delta(" ok"),
    {"type": "response.output_text.done", "item_id": "msg_1", "output_index": 2, "content_index": 0, "text": '"error" response.completed → é ok', "logprobs": []},
    {"type": "response.content_part.done", "item_id": "msg_1", "output_index": 2, "content_index": 0, "part": {"type": "output_text", "text": "…", "annotations": []}},
    {"type": "response.output_item.done", "output_index": 2, "item": ANSWER["output"][2] | {"content": [{"type": "output_text", "text": '"error" response.completed → é ok'}]}},
    {"type": "response.output_item.added", "output_index": 3, "item": {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": ""}},
    {"type": "response.function_call_arguments.delta", "item_id": "fc_1", "output_index": 3, "delta": '{"a":'},
    {"type": "response.function_call_arguments.delta", "item_id": "fc_1", "output_index": 3, "delta": "1}"},
    {"type": "response.function_call_arguments.done", "item_id": "fc_1", "output_index": 3, "arguments": '{"a":1}'},
    {"type": "response.output_item.done", "output_index": 3, "item": ANSWER["output"][3]},
    {"type": "response.completed", "response": ANSWER},
]  # fmt: skip
STREAM = sse(*EVENTS)

DELTAS = [
    Started(id="resp_1", model="gpt-x", created_s=1700000000),
    PartStarted(index=0, kind="thinking", id="rs_1"),
    PartDelta(index=0, text="a"),
    PartDelta(index=0, text="\n\nb"),
    PartDelta(index=0, encrypted="enc"),
    PartEnded(index=0),
    Alive(),
    PartStarted(index=1, kind="text"),
    PartDelta(index=1, text='"error" response.completed → é'),
    PartDelta(index=1, text=" ok"),
    PartEnded(index=1),
    PartStarted(index=2, kind="tool_use", id="c1", name="f"),
    PartDelta(index=2, text='{"a":'),
    PartDelta(index=2, text="1}"),
    PartEnded(index=2),
    Finished(
        stop=StopReason.TOOL_USE,
        usage=Usage(input_tokens=20, output_tokens=9, cached_tokens=5, cache_write_tokens=0, reasoning_tokens=4),
    ),
]


def run(pieces: list[bytes]) -> list[Any]:
    decoder = R.decoder()
    return [delta for piece in pieces for delta in decoder.feed(piece)] + list(decoder.finish())


def test_a_stream_is_the_same_split_at_every_byte() -> None:
    assert run([STREAM]) == DELTAS
    assert run([STREAM[i : i + 1] for i in range(len(STREAM))]) == DELTAS
    for at in range(0, len(STREAM), 3):
        assert run([STREAM[:at], STREAM[at:]]) == DELTAS


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_line_ends_and_splits_do_not_matter(cuts: list[int]) -> None:
    text = STREAM.replace(b"\n", b"\r\n")
    edges = [0, *sorted(cuts), len(text)]
    assert run([text[a:b] for a, b in zip(edges, edges[1:], strict=False)]) == DELTAS


def test_a_stream_cut_anywhere_never_finishes() -> None:
    for at in range(0, len(STREAM) - 2, 5):
        assert not any(isinstance(delta, Finished) for delta in run([STREAM[:at]]))


def test_engines_that_announce_nothing_or_send_text_whole() -> None:
    lean = [e for e in EVENTS if not e["type"].startswith(("response.content_part", "response.reasoning_summary_part"))]
    assert run([sse(*lean)]) == DELTAS
    whole = [e for e in EVENTS if not e["type"].endswith(".delta")]
    said = {"": ""}
    for delta in run([sse(*whole)]):
        match delta:
            case PartStarted():
                said[f"{delta.index}{delta.kind}"] = ""
            case PartDelta():
                key = next(k for k in said if k.startswith(str(delta.index)))
                said[key] += delta.text
    assert said == {"": "", "0thinking": "a\n\nb", "1text": '"error" response.completed → é ok', "2tool_use": '{"a":1}'}


def test_only_the_done_events_of_items() -> None:
    items = [e for e in EVENTS if e["type"] in ("response.created", "response.output_item.done", "response.completed")]
    deltas = run([sse(*items)])
    assert [d.text for d in deltas if isinstance(d, PartDelta) and d.text] == [
        "a\n\nb",
        '"error" response.completed → é ok',
        '{"a":1}',
    ]
    assert [d.kind for d in deltas if isinstance(d, PartStarted)] == ["thinking", "text", "tool_use"]


@pytest.mark.parametrize(
    ("event", "failed"),
    [
        ({"type": "error", "code": "rate_limit_exceeded", "message": "slow", "param": None}, Failed(kind="rate_limit_exceeded", message="slow")),
        ({"type": "error", "error": {"type": "server_error", "code": None, "message": "broken"}}, Failed(kind="server_error", message="broken")),
        ({"type": "response.failed", "response": {"id": "resp_1", "status": "failed", "error": {"code": "server_error", "message": "x"}}}, Failed(kind="server_error", message="x")),
    ],
)  # fmt: skip
def test_errors_in_a_stream(event: dict[str, Any], failed: Failed) -> None:
    assert run([sse(*EVENTS[:5], event, *EVENTS)])[-1] == failed


def test_an_incomplete_stream_says_why() -> None:
    last = {
        "type": "response.incomplete",
        "response": ANSWER | {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
    }
    finished = run([sse(EVENTS[0], text_delta("x"), last)])[-1]
    assert (type(finished), finished.stop) == (Finished, StopReason.LENGTH)


# --- watching ------------------------------------------------------------------------------------------------------------


def test_the_watcher_passes_every_byte_and_sees_the_facts() -> None:
    for size in (1, 7, 100, len(STREAM)):
        watcher = R.watcher(R.scan(body(stream=True)))
        out = b"".join(watcher.feed(STREAM[i : i + size]) for i in range(0, len(STREAM), size)) + watcher.finish()
        seen = watcher.seen
        assert out == STREAM
        assert (seen.id, seen.model, seen.stop, seen.started, seen.ended, seen.failed) == (
            "resp_1",
            "gpt-x",
            StopReason.TOOL_USE,
            True,
            True,
            "",
        )
        assert seen.usage is not None
        assert (seen.usage.input_tokens, seen.usage.output_tokens) == (20, 9)
        assert seen.events == len(EVENTS)


def test_the_watcher_knows_a_cut_stream() -> None:
    watcher = R.watcher(R.scan(body()))
    end = STREAM.index(b"event: response.completed")
    assert watcher.feed(STREAM[: end + 30]) + watcher.finish() == STREAM[:end]
    assert (watcher.seen.ended, watcher.seen.stop, watcher.seen.usage, watcher.seen.failed) == (False, None, None, "")


def test_the_watcher_sees_errors() -> None:
    watcher = R.watcher(R.scan(body()))
    watcher.feed(sse(*EVENTS[:14]))
    watcher.feed(sse({"type": "error", "error": {"type": "server_error", "code": None, "message": "broken"}}))
    assert (watcher.seen.failed, watcher.seen.failed_message, watcher.seen.ended) == ("server_error", "broken", False)
    watcher = R.watcher(R.scan(body()))
    watcher.feed(R.error_event(Overloaded("full")))
    assert (watcher.seen.failed, watcher.seen.ended) == ("overloaded", False)


def test_text_for_policies_is_what_a_reader_sees() -> None:
    assert R.watcher(R.scan(body())).text_of(STREAM) == '"error" response.completed → é ok'


def test_characters_are_counted_without_reading_each_event() -> None:
    watcher = R.watcher(R.scan(body()))
    for _ in range(50):
        watcher.feed(sse(text_delta("four")))
    assert watcher.seen.output_chars == 200


# --- prefixes ------------------------------------------------------------------------------------------------------------


LONG = body(
    instructions="rules  ",
    tools=[{"type": "function", "name": "f", "parameters": {"type":  "object"}}],
    stream=True,
    stream_options={"include_obfuscation": False},
    max_output_tokens=9000,
    input=[
        {"role": "user", "content": "first " * 20},
        {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "e" * 100},
        {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
        {"type": "function_call", "call_id": "2", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": "out é" * 30},
        {"type": "function_call_output", "call_id": "2", "output": [{"type": "input_text", "text": "more " * 30}]},
        {"role": "assistant", "content": "noted"},
        {"role": "user", "content": [{"type": "input_text", "text": "question " * 50}]},
    ],
)  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 1200))
def test_a_prefix_is_valid_and_keeps_tools_and_instructions_byte_equal(tokens: int) -> None:
    short = R.prefix(LONG, tokens, 4.0)
    whole, cut = R.scan(LONG), R.scan(short)
    made = json.loads(short)
    assert (made["max_output_tokens"], made["store"], "stream" in made, "stream_options" in made) == (16, False, False, False)
    for key in ("instructions", "tools"):
        assert short[slice(*cut.spans[key])] == LONG[slice(*whole.spans[key])]
    last = made["input"][-1]
    assert last.get("role") == "user" or last["type"] == "function_call_output"
    parts = [p for m in R.decode_request(short)[0].messages for p in m.parts]
    assert [p.id for p in parts if isinstance(p, ToolUse)] == [p.tool_use_id for p in parts if isinstance(p, ToolResult)]


def test_prefixes_grow_with_the_tokens_asked_for() -> None:
    lengths = [len(R.prefix(LONG, tokens, 4.0)) for tokens in range(5, 400, 10)]
    assert lengths == sorted(lengths)
    assert lengths[-1] > lengths[0] + 800
    assert json.loads(R.prefix(LONG, 10_000, 4.0))["input"] == json.loads(LONG)["input"]
    assert json.loads(R.prefix(body(input="x" * 100), 10, 4.0))["input"] == "x" * 40


def test_the_shortest_prefix_is_the_callers_first_character() -> None:
    image = {"type": "input_image", "image_url": "https://x/" + "i" * 50, "detail": "auto"}
    asked = [{"role": "assistant", "content": "I begin " * 9}, {"role": "user", "content": "then this " * 9}]
    assert json.loads(R.prefix(body(input=asked), 1, 4.0))["input"] == [{"role": "user", "content": "t"}]
    with pytest.raises(BadRequest):
        R.prefix(body(input=[{"role": "user", "content": [image]}]), 1, 4.0)


def test_a_prefix_that_would_end_in_the_assistants_item_ends_before_it() -> None:
    asked = [{"role": "user", "content": "q" * 40}, {"role": "assistant", "content": "a" * 400}, {"role": "user", "content": "z"}]
    assert json.loads(R.prefix(body(input=asked), 50, 4.0))["input"] == asked[:1]
