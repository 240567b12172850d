"""Chat requests and whole answers to and from conversations: nothing changes its meaning, and what is lost is named."""

import json

import msgspec
import pytest
from openai.types.chat import ChatCompletion

from headway.calls.conversation import (
    Answer,
    AnswerFormat,
    Conversation,
    Image,
    Message,
    Refusal,
    Role,
    StopReason,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
    Usage,
)
from headway.gateway.dialects.openai_chat import OpenAIChat
from headway.kernel.errors import BadRequest, UpstreamFailed

CHAT = OpenAIChat()
RAW = msgspec.Raw


def decode(**members: object) -> tuple[Conversation, tuple[str, ...]]:
    return CHAT.decode_request(json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], **members}).encode())


def encode(*messages: Message, **members: object) -> tuple[dict[str, object], tuple[str, ...]]:
    body, lost = CHAT.encode_request(Conversation(model="m", messages=messages, **members))
    return json.loads(body), lost


RICH = [
    {"role": "system", "content": "Be brief."},
    {
        "role": "user",
        "name": "ann",
        "content": [
            {"type": "text", "text": "what is"},
            {"type": "image_url", "image_url": {"url": "https://x/a.png", "detail": "low"}},
        ],
    },
    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]},
    {
        "role": "assistant",
        "content": "Let me see.",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"n": 1.0}'}},
            {"id": "c2", "type": "function", "function": {"name": "look", "arguments": "{broken"}},
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "a cat"},
    {"role": "tool", "tool_call_id": "c2", "content": "a dog"},
    {"role": "user", "content": "thanks"},
]


def test_messages_decoded() -> None:
    conversation, lost = decode(messages=RICH)
    assert lost == ()
    assert conversation.messages == (
        Message(role=Role.SYSTEM, parts=(Text(text="Be brief."),)),
        Message(role=Role.USER, name="ann", parts=(Text(text="what is"), Image(url="https://x/a.png", detail="low"))),
        Message(role=Role.USER, parts=(Image(media_type="image/png", data_base64="AAAA"),)),
        Message(
            role=Role.ASSISTANT,
            parts=(
                Text(text="Let me see."),
                ToolUse(id="c1", name="look", arguments='{"n": 1.0}'),
                ToolUse(id="c2", name="look", arguments="{broken"),
            ),
        ),
        Message(
            role=Role.USER,
            parts=(
                ToolResult(tool_use_id="c1", content=(Text(text="a cat"),)),
                ToolResult(tool_use_id="c2", content=(Text(text="a dog"),)),
            ),
        ),
        Message(role=Role.USER, parts=(Text(text="thanks"),)),
    )


FULL = {
    "tools": [
        {
            "type": "function",
            "function": {"name": "look", "description": "looks", "parameters": {"type": "object", "x": 1.50}, "strict": True},
        }
    ],
    "tool_choice": {"type": "function", "function": {"name": "look"}},
    "parallel_tool_calls": False,
    "response_format": {"type": "json_schema", "json_schema": {"name": "out", "schema": {"type": "object"}, "strict": True}},
    "max_tokens": 9,
    "temperature": 0.5,
    "top_p": 0.25,
    "stop": ["a", "b"],
    "seed": 7,
    "frequency_penalty": 0.5,
    "presence_penalty": -0.5,
    "reasoning_effort": "low",
    "user": "u",
    "stream": True,
    "stream_options": {"include_usage": True},
    "logprobs": True,
    "n": 2,
    "metadata": {"k": "v"},
    "service_tier": "flex",
    "logit_bias": {"50": -1},
}


def test_a_request_survives_there_and_back() -> None:
    conversation, lost = decode(messages=RICH, **FULL)
    assert lost == ()
    assert conversation.tool_choice == ToolChoice(mode="named", name="look", parallel=False)
    assert conversation.format == AnswerFormat(kind="json_schema", name="out", schema=RAW(b'{"type": "object"}'), strict=True)
    assert conversation.want_stream_usage
    assert set(conversation.extras) == {"logprobs", "n", "metadata", "service_tier", "logit_bias"}
    body, lost = CHAT.encode_request(conversation)
    assert lost == ()
    assert json.loads(body) == {"model": "m", "messages": RICH, **FULL}
    assert b'"x": 1.5' in body  # schemas travel verbatim


def test_small_spellings() -> None:
    assert decode(stop="x")[0].stop == ("x",)
    assert decode(stop=None)[0].stop == ()
    assert decode(max_tokens=1, max_completion_tokens=2)[0].max_tokens == 2
    assert decode(response_format={"type": "text"})[0].format is None
    assert decode(response_format={"type": "json_object"})[0].format == AnswerFormat(kind="json_object")
    assert decode(tool_choice="required")[0].tool_choice == ToolChoice(mode="required")
    assert decode(tool_choice="any")[0].tool_choice == ToolChoice(mode="required")
    assert decode(parallel_tool_calls=True)[0].tool_choice == ToolChoice(parallel=True)
    assert decode(top_k=4)[0].top_k == 4
    assert decode(messages=[{"role": "assistant", "content": None, "reasoning_content": "hm", "refusal": "no"}])[0].messages[
        0
    ].parts == (
        Thinking(text="hm"),
        Refusal(text="no"),
    )
    cached = decode(messages=[{"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]}])
    assert cached[0].messages[0].parts == (Text(text="x", cache_control=RAW(b'{"type": "ephemeral"}')),)
    assert cached[1] == ()


def test_legacy_functions_become_tools() -> None:
    conversation, lost = decode(
        functions=[{"name": "f", "parameters": {}}],
        function_call={"name": "f"},
        messages=[
            {"role": "user", "content": "go"},
            {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
            {"role": "function", "name": "f", "content": "42"},
        ],
    )
    assert lost == ()
    assert conversation.tools == (Tool(name="f", schema=RAW(b"{}")),)
    assert conversation.tool_choice == ToolChoice(mode="named", name="f")
    call, result = conversation.messages[1].parts[0], conversation.messages[2].parts[0]
    assert isinstance(call, ToolUse)
    assert isinstance(result, ToolResult)
    assert call.id == result.tool_use_id
    assert decode(function_call="none")[0].tool_choice == ToolChoice(mode="none")


@pytest.mark.parametrize(
    ("members", "lost"),
    [
        ({"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}, {"type": "file", "file": {}}]}]}, ("content.input_audio", "content.file")),
        ({"messages": [{"role": "assistant", "content": "x", "audio": {"id": "a"}}]}, ("messages.audio",)),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "c", "type": "custom", "custom": {"name": "f", "input": ""}}]}]}, ("messages.tool_calls.custom",)),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, ("tools.custom",)),
        ({"tool_choice": {"type": "allowed_tools", "allowed_tools": {}}}, ("tool_choice.allowed_tools",)),
        ({"response_format": {"type": "grammar"}}, ("response_format.grammar",)),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "a", "description": "d"}}}, ("response_format.json_schema.description",)),
        ({"stream": True, "stream_options": {"include_obfuscation": True}}, ("stream_options.include_obfuscation",)),
        ({"audio": {"voice": "x"}, "n": 2}, ()),
    ],
)  # fmt: skip
def test_what_a_conversation_has_no_place_for_is_named(members: dict[str, object], lost: tuple[str, ...]) -> None:
    assert decode(**members)[1] == lost


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"messages": None}, "messages"), ({"messages": "hi"}, "messages"), ({"messages": [1]}, "messages[0]"), ({"messages": [{}]}, "messages[0].role"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role"), ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"), ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].image_url"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"), ({"temperature": "hot"}, "temperature"), ({"stop": 5}, "stop"),
        ({"seed": 10**30}, "seed"), ({"max_tokens": "many"}, "max_tokens"), ({"response_format": {}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"), ({"stream_options": 1}, "stream_options"),
    ],
)  # fmt: skip
def test_bad_requests_name_the_place(members: dict[str, object], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        decode(**members)
    assert caught.value.param == param


def test_what_other_dialects_say_becomes_chat() -> None:
    body, lost = encode(
        Message(role=Role.DEVELOPER, parts=(Text(text="be "), Text(text="good", cache_control=RAW(b"{}")))),
        Message(
            role=Role.ASSISTANT,
            parts=(Thinking(text="hm", signature="s"), Text(text="a"), Text(text="b"), ToolUse(id="c1", name="f", arguments="{}")),
        ),
        Message(
            role=Role.USER,
            parts=(
                ToolResult(
                    tool_use_id="c1", content=(Text(text="x"), Image(media_type="image/png", data_base64="QQ==")), is_error=True
                ),
                Text(text="and now?"),
            ),
        ),
        Message(role=Role.ASSISTANT, parts=(Refusal(text="no"),)),
        max_tokens=5,
        top_k=3,
        reasoning_budget_tokens=2000,
        reasoning_summary="auto",
        tools=(Tool(name="f"),),
        tool_choice=ToolChoice(mode="auto", parallel=False),
        extras={
            "container": RAW(b'"c"'),
            "service_tier": RAW(b'"standard_only"'),
            "n": RAW(b"1"),
            "store": RAW(b"true"),
            "background": RAW(b"false"),
        },
    )
    assert body == {
        "model": "m",
        "messages": [
            {"role": "system", "content": [{"type": "text", "text": "be "}, {"type": "text", "text": "good"}]},
            {
                "role": "assistant",
                "content": "ab",
                "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "x"},
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,QQ=="}},
                    {"type": "text", "text": "and now?"},
                ],
            },
            {"role": "assistant", "content": None, "refusal": "no"},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
        "parallel_tool_calls": False,
        "max_tokens": 5,
        "reasoning_effort": "low",
        "n": 1,
        "store": True,
    }
    assert set(lost) == {
        "cache_control",
        "thinking",
        "tool_result.is_error",
        "top_k",
        "reasoning_summary",
        "container",
        "service_tier",
    }


# --- answers -------------------------------------------------------------------------------------------------------------


def answer_body(message: dict[str, object], reason: str = "stop", **more: object) -> bytes:
    choices = [{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": reason}]
    return json.dumps(
        {"id": "c1", "object": "chat.completion", "created": 5, "model": "gpt-x", "choices": choices, **more}
    ).encode()


CALL = {"id": "t1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}


@pytest.mark.parametrize(
    ("message", "reason", "parts", "stop"),
    [
        ({"content": "hi"}, "stop", (Text(text="hi"),), StopReason.END),
        ({"content": "hi", "reasoning_content": "mm"}, "length", (Thinking(text="mm"), Text(text="hi")), StopReason.LENGTH),
        ({"content": "hi", "reasoning": "mm"}, "stop", (Thinking(text="mm"), Text(text="hi")), StopReason.END),
        ({"content": None, "tool_calls": [CALL]}, "tool_calls", (ToolUse(id="t1", name="f", arguments='{"a": 1}'),), StopReason.TOOL_USE),
        ({"content": None, "tool_calls": [CALL]}, "stop", (ToolUse(id="t1", name="f", arguments='{"a": 1}'),), StopReason.TOOL_USE),
        ({"content": "", "function_call": {"name": "f", "arguments": {}}}, "function_call", (ToolUse(id="call_0", name="f", arguments="{}"),), StopReason.TOOL_USE),
        ({"content": None, "refusal": "no"}, "stop", (Refusal(text="no"),), StopReason.REFUSAL),
        ({"content": ""}, "content_filter", (), StopReason.CONTENT_FILTER),
        ({"content": "x"}, "novel", (Text(text="x"),), StopReason.UNKNOWN),
        (
            {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "mm"}]}, {"type": "text", "text": "hi"}]},
            "stop", (Thinking(text="mm"), Text(text="hi")), StopReason.END,
        ),
    ],
)  # fmt: skip
def test_answers_decoded(message: dict[str, object], reason: str, parts: tuple[object, ...], stop: StopReason) -> None:
    answer = CHAT.decode_answer(answer_body(message, reason, system_fingerprint="fp"))
    assert (answer.id, answer.model, answer.created_s, answer.fingerprint) == ("c1", "gpt-x", 5, "fp")
    assert (answer.parts, answer.stop, answer.usage) == (parts, stop, Usage())


@pytest.mark.parametrize(
    ("usage", "read"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}, Usage(input_tokens=3, output_tokens=2)),
        ({"prompt_tokens": 3, "prompt_tokens_details": None, "completion_tokens_details": {"reasoning_tokens": None}}, Usage(input_tokens=3)),
        ({"prompt_tokens": 9, "completion_tokens": 2, "prompt_cache_hit_tokens": 4}, Usage(input_tokens=9, output_tokens=2, cached_tokens=4)),
        (
            {"prompt_tokens": 9, "completion_tokens": 8, "total_tokens": 17, "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 5}, "completion_tokens_details": {"reasoning_tokens": 6}},
            Usage(input_tokens=9, output_tokens=8, cached_tokens=4, cache_write_tokens=5, reasoning_tokens=6),
        ),
        ({"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 17, "completion_tokens_details": {"reasoning_tokens": 6}}, Usage(input_tokens=9, output_tokens=8, reasoning_tokens=6)),
        (None, Usage()), ("none", Usage()), ({"prompt_tokens": "x"}, Usage()),
    ],
)  # fmt: skip
def test_usage_is_what_was_reported(usage: object, read: Usage) -> None:
    assert CHAT.decode_answer(answer_body({"content": "x"}, usage=usage)).usage == read


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"choices":[]}',
        b'{"choices":null}',
        b'{"choices":[{}]}',
        b'{"choices":[1]}',
        b'{"choices":[{"message":5}]}',
        b"\xff",
    ],
)
def test_what_is_no_answer_is_the_upstreams_failure(body: bytes) -> None:
    with pytest.raises(UpstreamFailed):
        CHAT.decode_answer(body)


def test_an_error_with_status_200_keeps_its_words() -> None:
    with pytest.raises(UpstreamFailed, match="too busy") as caught:
        CHAT.decode_answer(b'{"error":{"message":"too busy","code":"overloaded"}}')
    assert caught.value.reason == "overloaded"


def test_an_answer_is_what_the_client_library_expects() -> None:
    answer = Answer(
        id="msg_1",
        model="claude",
        parts=(Thinking(text="mm", signature="s"), Text(text="a"), Text(text="b"), ToolUse(id="t", name="f", arguments="{}")),
        stop=StopReason.TOOL_USE,
        usage=Usage(input_tokens=9, output_tokens=4, cached_tokens=2, cache_write_tokens=3, reasoning_tokens=1),
        created_s=12,
    )
    raw = CHAT.encode_answer(answer, model="claude-real")
    read = ChatCompletion.model_validate_json(raw, strict=True)
    assert (read.id, read.model, read.created, read.object) == ("msg_1", "claude-real", 12, "chat.completion")
    message = read.choices[0].message
    assert (message.content, message.refusal, read.choices[0].finish_reason) == ("ab", None, "tool_calls")
    assert message.model_extra == {"reasoning_content": "mm"}
    assert message.tool_calls is not None
    assert message.tool_calls[0].model_dump() == {"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    assert read.usage is not None
    assert (
        read.usage.total_tokens,
        read.usage.prompt_tokens_details.cached_tokens,
        read.usage.completion_tokens_details.reasoning_tokens,
    ) == (13, 2, 1)  # type: ignore[union-attr]
    again = CHAT.decode_answer(raw)
    assert again.usage == answer.usage
    assert again.stop is StopReason.TOOL_USE


@pytest.mark.parametrize(
    ("parts", "stop", "reason", "content"),
    [
        ((), StopReason.END, "stop", ""), ((Refusal(text="no"),), StopReason.REFUSAL, "stop", None), ((Text(text="x"),), StopReason.REFUSAL, "content_filter", "x"),
        ((Text(text="x"),), StopReason.STOP_SEQUENCE, "stop", "x"), ((Text(text="x"),), StopReason.LENGTH, "length", "x"), ((Text(text="x"),), StopReason.PAUSE, "stop", "x"),
        ((ToolUse(id="t", name="f", arguments=""),), StopReason.UNKNOWN, "tool_calls", None), ((Text(text="x"),), StopReason.CONTENT_FILTER, "content_filter", "x"),
    ],
)  # fmt: skip
def test_stop_reasons(parts: tuple[object, ...], stop: StopReason, reason: str, content: str | None) -> None:
    read = ChatCompletion.model_validate_json(
        CHAT.encode_answer(Answer(id="a", model="m", parts=parts, stop=stop), model="m"), strict=True
    )  # type: ignore[arg-type]
    assert (read.choices[0].finish_reason, read.choices[0].message.content) == (reason, content)
    assert read.usage is None  # unknown is not 0
