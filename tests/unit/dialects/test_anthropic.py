"""Anthropic's Messages dialect by itself: requests, answers, streams, what is seen of them, prefixes."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.calls.conversation import (
    Alive,
    Answer,
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
from headway.gateway.dialects.anthropic import AnthropicMessages
from headway.gateway.dialects.port import Dialect
from headway.kernel.errors import BadRequest, BudgetExhausted, CannotCarry, Overloaded, UpstreamFailed
from headway.kernel.limits import ANTHROPIC_MAX_TOKENS_DEFAULT

A: Dialect = AnthropicMessages()


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]} | fields).encode()


def decoded(**fields: Any) -> Conversation:
    conversation, lost = A.decode_request(body(**fields))
    assert lost == ()
    return conversation


def encoded(**fields: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    fields = {"model": "m", "messages": (Message(role=Role.USER, parts=(Text(text="hi"),)),)} | fields
    made, lost = A.encode_request(Conversation(**fields))
    return json.loads(made), lost


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


# --- requests ------------------------------------------------------------------------------------------------------------


FULL = {
    "model": "claude-x",
    "max_tokens": 4000,
    "system": [{"type": "text", "text": "be brief", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
    "messages": [
        {
            "role": "user",
            "content": [{"type": "text", "text": "look"}, {"type": "image", "source": {"type": "url", "url": "https://x/i.png"}}],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hmm", "signature": "sig=="},
                {"type": "redacted_thinking", "data": "xyz"},
                {"type": "text", "text": "I call"},
                {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"b": 1.50, "a": [1]}},
                {"type": "tool_use", "id": "toolu_2", "name": "g", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "one"}]},
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_2",
                    "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}],
                    "is_error": True,
                },
                {"type": "text", "text": "go on"},
            ],
        },
    ],
    "tools": [{"name": "f", "description": "does f", "input_schema": {"type": "object", "properties": {"a": {}}}, "strict": True}],
    "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    "thinking": {"type": "enabled", "budget_tokens": 2000},
    "stop_sequences": ["END"],
    "metadata": {"user_id": "u1"},
    "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
    "stream": True,
}


def test_a_full_request_comes_back_equal() -> None:
    conversation, lost = A.decode_request(json.dumps(FULL).encode())
    assert lost == ()
    made, lost_again = A.encode_request(conversation)
    assert lost_again == ()
    assert json.loads(made) == FULL


def test_numbers_and_order_in_arguments_and_schemas_survive() -> None:
    text = b'{"model":"m","max_tokens":1,"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"i","name":"f","input":{"z":1.0,"a":1e400}}]}]}'
    made, _ = A.encode_request(A.decode_request(text)[0])
    assert b'{"z":1.0,"a":1e400}' in made


def test_plain_strings() -> None:
    conversation = decoded(system="s", messages=[{"role": "user", "content": "u"}])
    assert [(m.role, m.parts) for m in conversation.messages] == [(Role.SYSTEM, (Text(text="s"),)), (Role.USER, (Text(text="u"),))]


def test_a_tool_result_may_be_a_string_or_missing() -> None:
    blocks = [{"type": "tool_result", "tool_use_id": "a", "content": "out"}, {"type": "tool_result", "tool_use_id": "b"}]
    parts = decoded(messages=[{"role": "user", "content": blocks}]).messages[0].parts
    assert parts == (ToolResult(tool_use_id="a", content=(Text(text="out"),)), ToolResult(tool_use_id="b", content=()))


@pytest.mark.parametrize(
    ("fields", "lost"),
    [
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "t"}, {"type": "document", "source": {}}]}]},
            ("document",),
        ),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "t", "citations": [{}]}]}]}, ("citations",)),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "t"}, {"type": "server_tool_use", "id": "x"}]}]},
            ("server_tool_use",),
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "text", "text": "t"}, {"type": "image", "source": {"type": "file", "file_id": "f"}}],
                    }
                ]
            },
            ("image.file",),
        ),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, ("tools.web_search_20250305",)),
        ({"tools": [{"name": "f", "input_schema": {}, "cache_control": {"type": "ephemeral"}}]}, ("cache_control",)),
        ({"tools": [{"name": "f", "input_schema": {}, "defer_loading": True}]}, ("tools.defer_loading",)),
        ({"tools": [{"name": "f", "input_schema": {}, "defer_loading": False}]}, ()),
        ({"thinking": {"type": "between_tools"}}, ("thinking.between_tools",)),
        ({"thinking": {"type": "adaptive"}}, ()),
        ({"metadata": {"user_id": "u", "team": "t"}}, ("metadata.team",)),
        ({"output_config": {"speed": "x"}}, ("output_config.speed",)),
    ],
)
def test_what_has_no_place_is_named(fields: dict[str, Any], lost: tuple[str, ...]) -> None:
    assert A.decode_request(body(**fields))[1] == lost


def test_unknown_top_level_fields_are_extras_verbatim() -> None:
    extras = decoded(container="c", speed=None, service_tier="standard_only").extras
    assert {name: bytes(value) for name, value in extras.items()} == {"container": b'"c"', "service_tier": b'"standard_only"'}


def test_nothing_left_to_say_is_refused() -> None:
    with pytest.raises(CannotCarry, match="document"):
        A.decode_request(body(messages=[{"role": "user", "content": [{"type": "document", "source": {}}]}]))


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]}, r"messages\[0\]\.content\[0\]\.text"),
        ({"messages": [{"role": "tool", "content": "x"}]}, r"messages\[0\]\.role"),
        ({"messages": "x"}, "messages"),
        ({"messages": None}, "messages"),
        ({"temperature": "hot"}, "temperature"),
        ({"tools": [{"name": "f"}]}, r"tools\[0\]\.input_schema"),
        ({"tool_choice": {"type": "tool"}}, r"tool_choice\.name"),
    ],
)
def test_wrong_fields_are_named_by_their_place(fields: dict[str, Any], place: str) -> None:
    with pytest.raises(BadRequest, match=place):
        A.decode_request(body(**fields))


@pytest.mark.parametrize(
    ("thinking", "effort", "budget"),
    [
        ({"type": "disabled"}, "none", None),
        ({"type": "enabled", "budget_tokens": 1024}, "low", 1024),
        ({"type": "enabled", "budget_tokens": 10_000}, "medium", 10_000),
        ({"type": "enabled", "budget_tokens": 31_999}, "high", 31_999),
        ({"type": "adaptive"}, None, None),
    ],
)
def test_thinking_becomes_effort(thinking: dict[str, Any], effort: str | None, budget: int | None) -> None:
    conversation = decoded(thinking=thinking)
    assert (conversation.reasoning_effort, conversation.reasoning_budget_tokens) == (effort, budget)


@pytest.mark.parametrize(
    ("effort", "thinking"),
    [
        (None, None),
        ("none", {"type": "disabled"}),
        ("minimal", {"type": "enabled", "budget_tokens": 1_024}),
        ("low", {"type": "enabled", "budget_tokens": 2_048}),
        ("medium", {"type": "enabled", "budget_tokens": 8_192}),
        ("high", {"type": "enabled", "budget_tokens": 16_384}),
        ("xhigh", {"type": "enabled", "budget_tokens": 32_768}),
        ("something new", {"type": "enabled", "budget_tokens": 8_192}),
    ],
)
def test_effort_becomes_thinking_with_room_for_the_answer(effort: str | None, thinking: dict[str, Any] | None) -> None:
    made, lost = encoded(reasoning_effort=effort)
    assert made.get("thinking") == thinking
    assert made["max_tokens"] == ANTHROPIC_MAX_TOKENS_DEFAULT + (thinking or {}).get("budget_tokens", 0)
    assert lost == ()


def test_the_callers_maximum_holds_against_thinking() -> None:
    made, lost = encoded(reasoning_effort="high", max_tokens=8_000)
    assert (made["max_tokens"], made["thinking"]["budget_tokens"], lost) == (8_000, 4_000, ())
    made, lost = encoded(reasoning_effort="high", max_tokens=500)
    assert (made["max_tokens"], made.get("thinking"), lost) == (500, None, ("reasoning_effort",))


def test_a_forced_tool_wins_over_thinking() -> None:
    made, lost = encoded(reasoning_effort="low", tools=(Tool(name="f"),), tool_choice=ToolChoice(mode="required"))
    assert "thinking" not in made
    assert lost == ("reasoning_effort",)


def test_sampling_that_thinking_forbids_is_named() -> None:
    made, lost = encoded(reasoning_effort="low", temperature=0.2, top_k=5, top_p=0.5)
    assert not {"temperature", "top_k", "top_p"} & set(made)
    assert lost == ("temperature", "top_p", "top_k")
    made, lost = encoded(temperature=1.7)
    assert (made["temperature"], lost) == (1.0, ("temperature",))
    made, lost = encoded(temperature=0.3, top_p=0.5, top_k=7, stop=("x",))
    assert (made["temperature"], made["top_p"], made["top_k"], made["stop_sequences"], lost) == (0.3, 0.5, 7, ["x"], ())


@pytest.mark.parametrize(
    ("choice", "made"),
    [
        (ToolChoice(mode="auto"), {"type": "auto"}),
        (ToolChoice(mode="required", parallel=True), {"type": "any", "disable_parallel_tool_use": False}),
        (ToolChoice(mode="named", name="f", parallel=False), {"type": "tool", "name": "f", "disable_parallel_tool_use": True}),
        (ToolChoice(mode="none", parallel=False), {"type": "none"}),
    ],
)
def test_tool_choice(choice: ToolChoice, made: dict[str, Any]) -> None:
    assert encoded(tools=(Tool(name="f"),), tool_choice=choice)[0]["tool_choice"] == made
    assert "tool_choice" not in encoded(tool_choice=choice)[0]  # without tools it would be refused


def test_a_tool_without_a_schema_gets_an_empty_object() -> None:
    made, _ = encoded(tools=(Tool(name="f"),))
    assert made["tools"] == [{"name": "f", "input_schema": {"type": "object", "properties": {}}}]


def test_turns_of_one_role_merge_and_results_come_first() -> None:
    made, lost = encoded(
        messages=(
            Message(role=Role.USER, parts=(Text(text="a"),)),
            Message(role=Role.USER, parts=(Text(text="b"),)),
            Message(role=Role.ASSISTANT, parts=(ToolUse(id="1", name="f", arguments="{}"),)),
            Message(role=Role.ASSISTANT, parts=(ToolUse(id="2", name="f", arguments=""),)),
            Message(role=Role.USER, parts=(Text(text="c"),)),
            Message(role=Role.USER, parts=(ToolResult(tool_use_id="1", content=()),)),
            Message(role=Role.USER, parts=(ToolResult(tool_use_id="2", content=()), Text(text=""))),
        )
    )
    assert lost == ()
    assert [(m["role"], [b["type"] for b in m["content"]]) for m in made["messages"]] == [
        ("user", ["text", "text"]),
        ("assistant", ["tool_use", "tool_use"]),
        ("user", ["tool_result", "tool_result", "text"]),
    ]


def test_system_text_after_the_first_turn_is_lifted_and_named() -> None:
    def system(role: Role, text: str) -> Message:
        return Message(role=role, parts=(Text(text=text),))

    user = Message(role=Role.USER, parts=(Text(text="u"),))
    made, lost = encoded(messages=(system(Role.SYSTEM, "a"), system(Role.DEVELOPER, "b"), user))
    assert ([b["text"] for b in made["system"]], lost) == (["a", "b"], ())
    made, lost = encoded(messages=(system(Role.SYSTEM, "a"), user, system(Role.DEVELOPER, "b")))
    assert ([b["text"] for b in made["system"]], lost) == (["a", "b"], ("system.order",))
    assert [m["role"] for m in made["messages"]] == ["user"]


def test_ids_that_anthropic_refuses_stay_paired() -> None:
    made, _ = encoded(
        messages=(
            Message(role=Role.ASSISTANT, parts=(ToolUse(id="call:1.x", name="f", arguments="{}"),)),
            Message(role=Role.USER, parts=(ToolResult(tool_use_id="call:1.x", content=()),)),
        )
    )
    assert made["messages"][0]["content"][0]["id"] == made["messages"][1]["content"][0]["tool_use_id"] == "call_1_x"


@pytest.mark.parametrize("arguments", ["[1]", "{torn", '"x"', "{}trailing"])
def test_arguments_that_are_no_object_are_shown_whole_and_named(arguments: str) -> None:
    made, lost = encoded(messages=(Message(role=Role.ASSISTANT, parts=(ToolUse(id="1", name="f", arguments=arguments),)),))
    assert made["messages"][0]["content"][0]["input"] == {"invalid_json": arguments}
    assert lost == ("tool_use.arguments",)


@pytest.mark.parametrize(
    ("fields", "lost"),
    [
        ({"format": AnswerFormat(kind="json_object")}, ("json_object",)),
        ({"seed": 1}, ("seed",)),
        ({"frequency_penalty": 0.5, "presence_penalty": 0.0}, ("frequency_penalty",)),
        (
            {"extras": {"logit_bias": raw({"1": 2}), "n": raw(1), "store": raw(False), "logprobs": raw(True)}},
            ("logit_bias", "logprobs"),
        ),
        ({"extras": {"service_tier": raw("flex")}}, ("service_tier",)),
        ({"extras": {"service_tier": raw("auto")}}, ()),
        ({"messages": (Message(role=Role.USER, parts=(Text(text="x"),), name="bob"),)}, ("messages.name",)),
        ({"messages": (Message(role=Role.ASSISTANT, parts=(Thinking(text="unsigned"), Text(text="x"))),)}, ("thinking",)),
        (
            {"messages": (Message(role=Role.ASSISTANT, parts=(Thinking(encrypted="theirs", id="rs_1"), Text(text="x"))),)},
            ("thinking",),
        ),
        ({"messages": (Message(role=Role.ASSISTANT, parts=(Refusal(text="no"),)),)}, ("refusal",)),
        ({"messages": (Message(role=Role.USER, parts=(Image(url="https://x", detail="high"),)),)}, ("image.detail",)),
    ],
)
def test_what_anthropic_lacks_is_named(fields: dict[str, Any], lost: tuple[str, ...]) -> None:
    assert encoded(**fields)[1] == lost


# --- scan, splice, errors ------------------------------------------------------------------------------------------------


def test_scan_and_splice_change_only_what_they_must() -> None:
    text = b'{ "model" : "a/b", "stream":true,\n "system":"s", "messages":[ ] , "x":1.0 }'
    scan = A.scan(text)
    assert (scan.model, scan.stream, scan.max_tokens, scan.prompt_bytes) == ("a/b", True, None, 6)
    assert text[: scan.prefix_end].endswith(b"[ ]")
    assert A.splice(text, scan, model="c", want_usage=True) == text.replace(b'"a/b"', b'"c"')
    assert json.loads(A.splice(text, scan, model="c", want_usage=True, max_tokens=5))["max_tokens"] == 5
    assert A.splice(text, scan, model="a/b", want_usage=True) is text
    named = A.scan(body())
    assert json.loads(A.splice(body(), named, model="m", want_usage=False, max_tokens=5))["max_tokens"] == 100


def test_error_bodies_and_events() -> None:
    error = BudgetExhausted("The budget is spent.")
    assert json.loads(A.error_body(error, request_id="r1")) == {
        "type": "error",
        "error": {"type": "rate_limit_error", "message": "The budget is spent."},
        "request_id": "r1",
    }
    event = A.error_event(Overloaded("full"))
    assert event.startswith(b"event: error\ndata: ")
    assert event.endswith(b"\n\n")
    assert json.loads(event.split(b"data: ")[1]) == {"type": "error", "error": {"type": "overloaded_error", "message": "full"}}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (UpstreamFailed("x"), "api_error"),
        (UpstreamFailed("x", status=400, code="context_length_exceeded"), "invalid_request_error"),
        (UpstreamFailed("x", status=429, code="insufficient_quota"), "billing_error"),
        (UpstreamFailed("x", status=429, code="slow_down"), "rate_limit_error"),
        (UpstreamFailed("x", status=418, code="teapot"), "api_error"),
        (UpstreamFailed("x", status=529, code="overloaded_error"), "overloaded_error"),
    ],
)
def test_a_providers_refusal_keeps_its_meaning(error: UpstreamFailed, kind: str) -> None:
    assert json.loads(A.error_body(error, request_id="r"))["error"]["type"] == kind


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}', ("overloaded_error", "Overloaded")),
        (b'{"error":{"message":"no","type":"invalid_request_error","code":null}}', ("invalid_request_error", "no")),
        (b'{"type":"message"}', ("", "")),
        (b"<html>", ("", "")),
        (b'{"error":7}', ("", "")),
    ],
)
def test_errors_of_providers(text: bytes, found: tuple[str, str]) -> None:
    assert A.decode_error(500, text) == found


# --- answers -------------------------------------------------------------------------------------------------------------


ANSWER = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-x",
    "content": [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "redacted_thinking", "data": "d"},
        {"type": "text", "text": "hello"},
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}},
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 10,
        "cache_creation_input_tokens": 30,
        "cache_read_input_tokens": 200,
        "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
        "output_tokens": 7,
        "output_tokens_details": {"thinking_tokens": 3},
    },
}


def test_a_whole_answer_comes_back_equal() -> None:
    answer = A.decode_answer(json.dumps(ANSWER).encode())
    assert answer.usage == Usage(
        input_tokens=240, output_tokens=7, cached_tokens=200, cache_write_tokens=30, cache_write_1h_tokens=20, reasoning_tokens=3
    )
    assert json.loads(A.encode_answer(answer, model="claude-x")) == ANSWER


def test_hosted_blocks_of_an_answer_are_passed_over() -> None:
    content = [{"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}, {"type": "text", "text": "x"}]
    assert A.decode_answer(json.dumps(ANSWER | {"content": content}).encode()).parts == (Text(text="x"),)


@pytest.mark.parametrize(
    "text", [b"{}", b"[]", b"", b'{"type":"message","content":[{}]}', b'{"type":"message","usage":{"input_tokens":"x"}}']
)
def test_what_is_no_answer_is_the_upstreams_fault(text: bytes) -> None:
    with pytest.raises(UpstreamFailed):
        A.decode_answer(text)


def test_an_error_with_status_200_is_told_as_one() -> None:
    with pytest.raises(UpstreamFailed, match="Overloaded") as failed:
        A.decode_answer(b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}')
    assert failed.value.reason == "overloaded_error"


@pytest.mark.parametrize(
    ("reason", "stop"),
    [
        ("end_turn", StopReason.END),
        ("max_tokens", StopReason.LENGTH),
        ("stop_sequence", StopReason.STOP_SEQUENCE),
        ("tool_use", StopReason.TOOL_USE),
        ("pause_turn", StopReason.PAUSE),
        ("refusal", StopReason.REFUSAL),
    ],
)
def test_stop_reasons_both_ways(reason: str, stop: StopReason) -> None:
    text = json.dumps(ANSWER | {"stop_reason": reason, "content": []}).encode()
    answer = A.decode_answer(text)
    assert answer.stop is stop
    assert json.loads(A.encode_answer(answer, model="m"))["stop_reason"] == reason
    assert A.see_answer(text).stop is stop


@pytest.mark.parametrize(
    ("stop", "parts", "reason"),
    [
        (StopReason.CONTENT_FILTER, (), "refusal"),
        (StopReason.UNKNOWN, (), "end_turn"),
        (StopReason.END, (ToolUse(id="1", name="f", arguments="{}"),), "tool_use"),
        (StopReason.LENGTH, (ToolUse(id="1", name="f", arguments="{}"),), "max_tokens"),
        (StopReason.END, (Refusal(text="no"),), "refusal"),
    ],
)
def test_stops_of_other_dialects(stop: StopReason, parts: tuple[Any, ...], reason: str) -> None:
    made = json.loads(A.encode_answer(Answer(id="x", model="m", parts=parts, stop=stop), model="m"))
    assert made["stop_reason"] == reason
    assert made["id"] == "msg_x"


# --- streams -------------------------------------------------------------------------------------------------------------


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(b"event: %s\ndata: %s\n\n" % (e["type"].encode(), json.dumps(e).encode()) for e in events)


STREAM = sse(
    {"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x", "content": [], "usage": {"input_tokens": 10, "cache_read_input_tokens": 5, "output_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}},
    {"type": "ping"},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hmm"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "sig"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "server_tool_use", "id": "s", "name": "web", "input": {}}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
    {"type": "content_block_stop", "index": 1},
    {"type": "content_block_start", "index": 2, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 2, "delta": {"type": "text_delta", "text": 'He said "error" → message_stop é'}},
    {"type": "content_block_delta", "index": 2, "delta": {"type": "text_delta", "text": " ok"}},
    {"type": "content_block_stop", "index": 2},
    {"type": "content_block_start", "index": 3, "content_block": {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}},
    {"type": "content_block_delta", "index": 3, "delta": {"type": "input_json_delta", "partial_json": ""}},
    {"type": "content_block_delta", "index": 3, "delta": {"type": "input_json_delta", "partial_json": '{"a": '}},
    {"type": "content_block_delta", "index": 3, "delta": {"type": "input_json_delta", "partial_json": "1}"}},
    {"type": "content_block_stop", "index": 3},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": None}, "usage": {"output_tokens": 42}},
    {"type": "message_stop"},
)  # fmt: skip

DELTAS = [
    Started(id="msg_1", model="claude-x", usage=Usage(input_tokens=15, cached_tokens=5)),
    PartStarted(index=0, kind="thinking"),
    Alive(),
    PartDelta(index=0, text="hmm"),
    PartDelta(index=0, signature="sig"),
    PartEnded(index=0),
    PartStarted(index=1, kind="text"),
    PartDelta(index=1, text='He said "error" → message_stop é'),
    PartDelta(index=1, text=" ok"),
    PartEnded(index=1),
    PartStarted(index=2, kind="tool_use", id="toolu_1", name="f"),
    PartDelta(index=2, text=""),
    PartDelta(index=2, text='{"a": '),
    PartDelta(index=2, text="1}"),
    PartEnded(index=2),
    Finished(stop=StopReason.TOOL_USE, usage=Usage(input_tokens=15, output_tokens=42, cached_tokens=5)),
]


def run(pieces: list[bytes]) -> list[Any]:
    decoder = A.decoder()
    return [delta for piece in pieces for delta in decoder.feed(piece)] + list(decoder.finish())


def test_a_stream_is_the_same_split_at_every_byte() -> None:
    assert run([STREAM]) == DELTAS
    assert run([STREAM[i : i + 1] for i in range(len(STREAM))]) == DELTAS
    for at in range(len(STREAM)):
        assert run([STREAM[:at], STREAM[at:]]) == DELTAS


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_line_ends_and_splits_do_not_matter(cuts: list[int]) -> None:
    text = STREAM.replace(b"\n", b"\r\n")
    edges = [0, *sorted(cuts), len(text)]
    assert run([text[a:b] for a, b in zip(edges, edges[1:], strict=False)]) == DELTAS


def test_a_stream_cut_anywhere_never_finishes() -> None:
    for at in range(len(STREAM) - len(b"\n\n")):
        assert not any(isinstance(delta, Finished) for delta in run([STREAM[:at]]))


def test_errors_in_a_stream() -> None:
    error = sse({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})
    cut = STREAM[: STREAM.index(b"event: content_block_start")]
    assert run([cut + error + STREAM])[-1] == Failed(kind="overloaded_error", message="Overloaded")


def test_a_comment_is_a_sign_of_life() -> None:
    assert run([b": keep-alive\n\n"]) == [Alive()]


def test_a_tool_whose_input_comes_with_its_start() -> None:
    start = {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
    }
    deltas = run([sse(start, {"type": "content_block_stop", "index": 0})])
    assert json.loads("".join(d.text for d in deltas if isinstance(d, PartDelta))) == {"a": 1}


def test_a_stream_that_is_none_is_the_upstreams_fault() -> None:
    with pytest.raises(UpstreamFailed):
        run([b"data: hello\n\n"])


# --- watching ------------------------------------------------------------------------------------------------------------


def test_the_watcher_passes_every_byte_and_sees_the_facts() -> None:
    for size in (1, 7, 100, len(STREAM)):
        watcher = A.watcher(A.scan(body(stream=True)))
        out = b"".join(watcher.feed(STREAM[i : i + size]) for i in range(0, len(STREAM), size)) + watcher.finish()
        seen = watcher.seen
        assert out == STREAM
        assert (seen.id, seen.model, seen.stop, seen.started, seen.ended, seen.failed) == (
            "msg_1",
            "claude-x",
            StopReason.TOOL_USE,
            True,
            True,
            "",
        )
        assert seen.usage == Usage(input_tokens=15, output_tokens=42, cached_tokens=5)
        assert seen.events == STREAM.count(b"\n\n")


def test_the_watcher_knows_a_cut_stream() -> None:
    watcher = A.watcher(A.scan(body()))
    cut = STREAM[: STREAM.index(b"event: message_delta")] + b"event: message_del"
    out = watcher.feed(cut) + watcher.finish()
    assert out == STREAM[: STREAM.index(b"event: message_delta")]
    assert (watcher.seen.ended, watcher.seen.stop, watcher.seen.usage) == (False, None, Usage(input_tokens=15, cached_tokens=5))


def test_the_watcher_sees_an_error_and_not_a_talk_of_errors() -> None:
    watcher = A.watcher(A.scan(body()))
    watcher.feed(STREAM[: STREAM.index(b"event: message_delta")])
    assert watcher.seen.failed == ""
    watcher.feed(sse({"type": "error", "error": {"type": "api_error", "message": "broken"}}))
    assert (watcher.seen.failed, watcher.seen.failed_message, watcher.seen.ended) == ("api_error", "broken", False)


def test_text_for_policies_is_what_a_reader_sees() -> None:
    assert A.watcher(A.scan(body())).text_of(STREAM) == 'He said "error" → message_stop é ok'


def test_a_whole_answer_is_seen() -> None:
    seen = A.see_answer(json.dumps(ANSWER).encode())
    assert (seen.id, seen.model, seen.stop, seen.started, seen.ended) == ("msg_1", "claude-x", StopReason.TOOL_USE, True, True)
    assert seen.usage is not None
    assert (seen.usage.input_tokens, seen.output_chars) == (240, 5)
    assert A.see_answer(b"<html>").ended is False
    assert A.see_answer(b'{"type":"error","error":{"type":"api_error","message":"x"}}').failed == "api_error"


# --- prefixes ------------------------------------------------------------------------------------------------------------


LONG = body(
    system=[{"type": "text", "text": "rules  "}],
    tools=[{"name": "f", "input_schema": {"type":  "object"}}],
    stream=True,
    thinking={"type": "enabled", "budget_tokens": 50_000},
    messages=[
        {"role": "user", "content": "first " * 20},
        {"role": "assistant", "content": [{"type": "text", "text": "calling"}, {"type": "tool_use", "id": "1", "name": "f", "input": {}}, {"type": "tool_use", "id": "2", "name": "f", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "out é" * 30}, {"type": "tool_result", "tool_use_id": "2", "content": [{"type": "text", "text": "more " * 30}]}]},
        {"role": "assistant", "content": "noted"},
        {"role": "user", "content": [{"type": "text", "text": "question " * 50}]},
    ],
)  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 1200))
def test_a_prefix_is_valid_and_keeps_tools_and_system_byte_equal(tokens: int) -> None:
    short = A.prefix(LONG, tokens, 4.0)
    whole, cut = A.scan(LONG), A.scan(short)
    made = json.loads(short)
    assert (made["max_tokens"], "stream" in made, "thinking" in made) == (1, False, False)
    for key in ("system", "tools"):
        assert short[slice(*cut.spans[key])] == LONG[slice(*whole.spans[key])]
    assert made["messages"][-1]["role"] == "user"
    conversation, lost = A.decode_request(short)
    assert lost == ()
    uses = [p.id for m in conversation.messages for p in m.parts if isinstance(p, ToolUse)]
    results = [p.tool_use_id for m in conversation.messages for p in m.parts if isinstance(p, ToolResult)]
    assert uses == results
    assert _said(json.loads(LONG)).startswith(_said(made))


def _said(request: dict[str, Any]) -> str:
    """All text of the user and the tools, in order."""
    texts = []
    for message in request["messages"]:
        content = message["content"]
        for block in [{"text": content}] if isinstance(content, str) else content:
            inner = block.get("content", block.get("text", ""))
            texts.append(inner if isinstance(inner, str) else "".join(b["text"] for b in inner))
    return "".join(texts)


def test_prefixes_grow_with_the_tokens_asked_for() -> None:
    lengths = [len(A.prefix(LONG, tokens, 4.0)) for tokens in range(5, 260, 10)]
    assert lengths == sorted(lengths)
    assert lengths[-1] > lengths[0] + 800
    assert json.loads(A.prefix(LONG, 10_000, 4.0))["messages"] == json.loads(LONG)["messages"]


def test_the_shortest_prefix_is_the_users_first_character() -> None:
    """An image is kept or not; what stands behind one that is not kept is no beginning of the prompt."""
    image = {"type": "image", "source": {"type": "url", "url": "https://x/" + "i" * 50}}
    text = {"type": "text", "text": "then this"}
    begun = {"role": "assistant", "content": "I begin " * 9}
    made = A.prefix(body(messages=[begun, {"role": "user", "content": [text, image]}]), 1, 4.0)
    assert json.loads(made)["messages"] == [{"role": "user", "content": [{"type": "text", "text": "t"}]}]
    with pytest.raises(BadRequest):
        A.prefix(body(messages=[begun, {"role": "user", "content": [image, text]}]), 1, 4.0)


def test_a_prefix_that_would_end_in_the_assistants_turn_ends_before_it() -> None:
    asked = [{"role": "user", "content": "q" * 40}, {"role": "assistant", "content": "a" * 400}, {"role": "user", "content": "z"}]
    assert json.loads(A.prefix(body(messages=asked), 50, 4.0))["messages"] == asked[:1]
