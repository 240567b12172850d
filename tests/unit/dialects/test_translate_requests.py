"""Requests and whole answers between all three dialects: what is common survives, what is not is named."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.calls.conversation import (
    Answer,
    AnswerFormat,
    Conversation,
    DialectName,
    Image,
    Message,
    Part,
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
from headway.gateway.dialects.anthropic import AnthropicMessages
from headway.gateway.dialects.openai_chat import OpenAIChat
from headway.gateway.dialects.port import Dialect
from headway.gateway.dialects.responses import OpenAIResponses

DIALECTS: dict[str, Dialect] = {
    "chat": OpenAIChat(),
    "responses": OpenAIResponses(),
    "anthropic": AnthropicMessages(),
}
PAIRS = [(source, target) for source in DIALECTS for target in DIALECTS]


def through(source: str, target: str, body: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    conversation, before = DIALECTS[source].decode_request(json.dumps(body).encode())
    made, after = DIALECTS[target].encode_request(conversation)
    return json.loads(made), tuple(dict.fromkeys((*before, *after)))


def test_each_dialect_knows_its_name_and_path() -> None:
    assert [(d.name, d.path) for d in DIALECTS.values()] == [
        (DialectName.OPENAI_CHAT, "/v1/chat/completions"),
        (DialectName.OPENAI_RESPONSES, "/v1/responses"),
        (DialectName.ANTHROPIC, "/v1/messages"),
    ]


# --- one agent's turn, written by hand in each dialect -------------------------------------------------------------------


SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}
PNG = "iVBORw0KGgo="

SAME: dict[str, dict[str, Any]] = {
    "chat": {
        "model": "m",
        "max_tokens": 300,
        "temperature": 0.5,
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "weather?"}, {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}]},
            {"role": "assistant", "content": "I look", "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}},
                {"id": "c2", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rome"}'}},
            ]},
            {"role": "tool", "tool_call_id": "c1", "content": "snow"},
            {"role": "tool", "tool_call_id": "c2", "content": "sun"},
            {"role": "user", "content": "and?"},
        ],
        "tools": [{"type": "function", "function": {"name": "weather", "description": "tells", "parameters": SCHEMA, "strict": True}}],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True}},
        "user": "u1",
    },
    "responses": {
        "model": "m",
        "max_output_tokens": 300,
        "temperature": 0.5,
        "instructions": "be brief",
        "input": [
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "weather?"}, {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "auto"}]},
            {"type": "message", "role": "assistant", "content": "I look"},
            {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"city":"Oslo"}'},
            {"type": "function_call", "call_id": "c2", "name": "weather", "arguments": '{"city":"Rome"}'},
            {"type": "function_call_output", "call_id": "c1", "output": "snow"},
            {"type": "function_call_output", "call_id": "c2", "output": "sun"},
            {"type": "message", "role": "user", "content": "and?"},
        ],
        "tools": [{"type": "function", "name": "weather", "description": "tells", "parameters": SCHEMA, "strict": True}],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "text": {"format": {"type": "json_schema", "name": "answer", "schema": SCHEMA, "strict": True}},
        "store": False,
        "user": "u1",
    },
    "anthropic": {
        "model": "m",
        "max_tokens": 300,
        "temperature": 0.5,
        "system": [{"type": "text", "text": "be brief"}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "weather?"}, {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}]},
            {"role": "assistant", "content": [
                {"type": "text", "text": "I look"},
                {"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Oslo"}},
                {"type": "tool_use", "id": "c2", "name": "weather", "input": {"city": "Rome"}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "snow"}]},
                {"type": "tool_result", "tool_use_id": "c2", "content": [{"type": "text", "text": "sun"}]},
                {"type": "text", "text": "and?"},
            ]},
        ],
        "tools": [{"name": "weather", "description": "tells", "input_schema": SCHEMA, "strict": True}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
        "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
        "metadata": {"user_id": "u1"},
    },
}  # fmt: skip


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_an_agents_turn_says_the_same_in_every_dialect(source: str, target: str) -> None:
    """Arguments are compared as JSON: spaces in them are the writer's own."""
    made, lost = through(source, target, SAME[source])
    assert lost == ()
    assert _plain(made) == _plain(SAME[target])


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: json.loads(v) if k == "arguments" else _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list) else value


# --- generated conversations ---------------------------------------------------------------------------------------------


WORDS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20)
IDS = st.from_regex(r"[a-z]{1,8}", fullmatch=True)
ARGUMENTS = st.dictionaries(WORDS, st.integers(-1000, 1000), max_size=3).map(lambda d: msgspec.json.encode(d).decode())
TEXTS = WORDS.map(lambda t: Text(text=t))
IMAGES = st.sampled_from([Image(url="https://x/i.png"), Image(media_type="image/png", data_base64=PNG)])
TOOLS = st.builds(
    Tool, name=IDS, description=WORDS, schema=st.just(msgspec.Raw(b'{"type":"object"}')), strict=st.sampled_from([None, True])
)


@st.composite
def turns(draw: st.DrawFn) -> tuple[Message, ...]:
    """System text first, then what user and assistant say in turn, with tools called and answered."""
    messages = [Message(role=Role.SYSTEM, parts=(draw(TEXTS),))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        messages.append(Message(role=Role.USER, parts=tuple(draw(st.lists(TEXTS | IMAGES, min_size=1, max_size=3)))))
        uses = [ToolUse(id=f"c{i}", name=draw(IDS), arguments=draw(ARGUMENTS)) for i in range(draw(st.integers(0, 3)))]
        said: list[Part] = [draw(TEXTS)] if draw(st.booleans()) or not uses else []
        messages.append(Message(role=Role.ASSISTANT, parts=(*said, *uses)))
        if uses:
            results = tuple(ToolResult(tool_use_id=use.id, content=(draw(TEXTS),)) for use in uses)
            messages.append(Message(role=Role.USER, parts=results))
    return tuple(messages)


CONVERSATIONS = st.builds(
    Conversation,
    model=WORDS,
    messages=turns(),
    tools=st.lists(TOOLS, min_size=1, max_size=2, unique_by=lambda t: t.name).map(tuple),
    tool_choice=st.sampled_from(
        [None, ToolChoice(), ToolChoice(mode="required"), ToolChoice(mode="none"), ToolChoice(mode="named", name="f")]
    ),
    format=st.sampled_from([None, AnswerFormat(kind="json_schema", schema=msgspec.Raw(b'{"type":"object"}'), strict=True)]),
    max_tokens=st.integers(16, 5000),
    temperature=st.sampled_from([None, 0.25, 1.0]),
    top_p=st.sampled_from([None, 0.5]),
    user=st.none() | WORDS,
    stream=st.booleans(),
)


def normal(c: Conversation) -> dict[str, Any]:
    """What must survive: turns with neighbours of one role joined, results first; strictness of tools as a plain yes or no."""
    joined: list[tuple[str, list[Part]]] = []
    for message in c.messages:
        if joined and joined[-1][0] == message.role.value:
            joined[-1][1].extend(message.parts)
        else:
            joined.append((message.role.value, list(message.parts)))
    for _, parts in joined:
        parts.sort(key=lambda part: not isinstance(part, ToolResult))
    fields = ("model", "tool_choice", "format", "max_tokens", "temperature", "top_p", "user", "stream")
    tools = [(t.name, t.description, bytes(t.schema), bool(t.strict)) for t in c.tools]
    return {name: getattr(c, name) for name in fields} | {"turns": joined, "tools": tools}


@pytest.mark.parametrize(("first", "second"), PAIRS)
@settings(max_examples=25, deadline=None)
@given(conversation=CONVERSATIONS)
def test_what_all_three_can_say_survives_two_dialects(first: str, second: str, conversation: Conversation) -> None:
    made, lost = DIALECTS[first].encode_request(conversation)
    between, lost_between = DIALECTS[first].decode_request(made)
    made_again, lost_again = DIALECTS[second].encode_request(between)
    back, lost_back = DIALECTS[second].decode_request(made_again)
    assert (lost, lost_between, lost_again, lost_back) == ((), (), (), ())
    assert normal(back) == normal(conversation)


# --- what one dialect has and another has not ----------------------------------------------------------------------------


ONLY: dict[str, dict[str, Any]] = {
    "chat": {
        "model": "m",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "t"}, {"type": "input_audio", "input_audio": {}}]}],
        "stop": ["x"],
        "seed": 1,
        "frequency_penalty": 0.5,
        "logit_bias": {"1": 1},
        "n": 2,
        "response_format": {"type": "json_object"},
        "prediction": {"type": "content", "content": "p"},
        "a_new_field": 1,
    },
    "responses": {
        "model": "m",
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "t"}, {"type": "input_file", "file_id": "f"}]}],
        "tools": [{"type": "web_search"}],
        "reasoning": {"effort": "low", "summary": "auto", "context": "all_turns"},
        "truncation": "auto",
        "max_tool_calls": 3,
        "prompt_cache_key": "k",
        "a_new_field": 1,
    },
    "anthropic": {
        "model": "m",
        "max_tokens": 2000,
        "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "t"}, {"type": "document", "source": {}}]},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "h", "signature": "s"}, {"type": "tool_use", "id": "1", "name": "f", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "x", "is_error": True}]},
        ],
        "tools": [{"type": "web_search_20250305", "name": "web_search"}],
        "top_k": 5,
        "container": "c",
        "a_new_field": 1,
    },
}  # fmt: skip

LOST: dict[tuple[str, str], set[str]] = {
    ("chat", "responses"): {"content.input_audio", "stop", "seed", "frequency_penalty", "logit_bias", "n", "prediction", "a_new_field"},
    ("chat", "anthropic"): {"content.input_audio", "seed", "frequency_penalty", "logit_bias", "n", "json_object", "prediction", "a_new_field"},
    ("responses", "chat"): {"input_file", "tools.web_search", "reasoning.context", "reasoning_summary", "truncation", "max_tool_calls", "a_new_field"},
    ("responses", "anthropic"): {"input_file", "tools.web_search", "reasoning.context", "truncation", "max_tool_calls", "prompt_cache_key", "a_new_field"},
    ("anthropic", "chat"): {"document", "tools.web_search_20250305", "thinking", "tool_result.is_error", "top_k", "container", "a_new_field"},
    ("anthropic", "responses"): {"document", "tools.web_search_20250305", "thinking", "tool_result.is_error", "cache_control", "top_k", "container", "a_new_field"},
}  # fmt: skip


@pytest.mark.parametrize(("source", "target"), LOST)
def test_everything_lost_is_named(source: str, target: str) -> None:
    _, lost = through(source, target, ONLY[source])
    assert set(lost) - {"cache_control"} == LOST[source, target] - {"cache_control"}
    if target == "responses" and source == "anthropic":
        assert "cache_control" in lost


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_a_plain_call_loses_nothing(source: str, target: str) -> None:
    asked = {"model": "m", "input" if source == "responses" else "messages": [{"role": "user", "content": "hi"}]}
    if source == "anthropic":
        asked["max_tokens"] = 99
    made, lost = through(source, target, asked)
    assert lost == ()
    assert set(made) <= {"model", "messages", "input", "max_tokens", "max_output_tokens", "store"}


def test_fields_of_one_name_and_two_meanings_are_not_mixed_up() -> None:
    asked = {"model": "m", "input": "hi", "context_management": [{"type": "compaction"}]}
    made, lost = through("responses", "anthropic", asked)
    assert "context_management" not in made
    assert lost == ("context_management",)
    asked = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "logprobs": True, "top_logprobs": 3}
    assert through("chat", "responses", asked)[1] == ("logprobs", "top_logprobs")


# --- reasoning that must come back ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "thought",
    [Thinking(text="hm", signature="sig=="), Thinking(encrypted="redacted"), Thinking(text="", signature="sig")],
)
def test_anthropics_thinking_returns_through_a_responses_caller(thought: Thinking) -> None:
    responses, anthropic = DIALECTS["responses"], DIALECTS["anthropic"]
    answer = Answer(id="1", model="m", parts=(thought, ToolUse(id="c", name="f", arguments="{}")), stop=StopReason.TOOL_USE)
    shown = json.loads(responses.encode_answer(answer, model="m"))["output"]
    asked = {
        "model": "m",
        "input": [*shown, {"type": "function_call_output", "call_id": "c", "output": "x"}],
        "reasoning": {"effort": "low"},
    }
    made, lost = through("responses", "anthropic", asked)
    assert lost == ()
    assert made["messages"][0]["content"][0] == json.loads(anthropic.encode_answer(answer, model="m"))["content"][0]
    assert made["thinking"]["type"] == "enabled"


def test_openais_reasoning_returns_through_an_anthropic_caller() -> None:
    item = {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": "hm"}],
        "encrypted_content": "enc.with.dots",
    }
    answer = Answer(
        id="1", model="m", parts=(Thinking(text="hm", encrypted="enc.with.dots", id="rs_1"), Text(text="x")), stop=StopReason.END
    )
    content = json.loads(DIALECTS["anthropic"].encode_answer(answer, model="m"))["content"]
    asked = {
        "model": "m",
        "max_tokens": 99,
        "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": content}],
    }
    made, lost = through("anthropic", "responses", asked)
    assert lost == ()
    assert made["input"][1] == item


def test_one_providers_secret_is_never_given_to_another() -> None:
    item = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "openai-secret"}
    made, lost = through("responses", "anthropic", {"model": "m", "input": [{"role": "user", "content": "a"}, item]})
    assert "openai-secret" not in json.dumps(made)
    assert lost == ("thinking",)


def test_thinking_is_left_out_where_a_chat_caller_lost_the_thoughts() -> None:
    asked = {**SAME["chat"], "reasoning_effort": "medium", "tool_choice": "auto", "max_tokens": 20_000}
    made, lost = through("chat", "anthropic", asked)
    assert "thinking" not in made
    assert lost == ("reasoning_effort",)


# --- answers -------------------------------------------------------------------------------------------------------------


ANSWERS = st.builds(
    Answer,
    id=IDS.map(lambda i: f"msg_{i}"),
    model=WORDS,
    parts=st.builds(
        lambda text, uses: (*text, *(ToolUse(id=f"c{i}", name=n, arguments=a) for i, (n, a) in enumerate(uses))),
        st.lists(TEXTS, max_size=1),
        st.lists(st.tuples(IDS, ARGUMENTS), max_size=3),
    ),
    stop=st.sampled_from([StopReason.END, StopReason.LENGTH, StopReason.CONTENT_FILTER]),
    usage=st.builds(
        Usage,
        input_tokens=st.integers(100, 999),
        output_tokens=st.integers(1, 99),
        cached_tokens=st.integers(0, 99),
        reasoning_tokens=st.integers(0, 9),
    ),
)


@pytest.mark.parametrize("name", DIALECTS)
@settings(max_examples=40, deadline=None)
@given(answer=ANSWERS)
def test_answers_survive_every_dialect(name: str, answer: Answer) -> None:
    dialect = DIALECTS[name]
    body = dialect.encode_answer(answer, model="shown")
    back = dialect.decode_answer(body)
    stop = answer.stop
    if stop is StopReason.END and any(isinstance(part, ToolUse) for part in answer.parts):
        stop = StopReason.TOOL_USE
    if stop is StopReason.CONTENT_FILTER and name == "anthropic":
        stop = StopReason.REFUSAL
    usage = answer.usage
    for field in ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens"):
        assert getattr(back.usage, field) == getattr(usage, field)
    assert (back.parts, back.stop, back.model) == (answer.parts, stop, "shown")
    seen = dialect.see_answer(body)
    assert (seen.model, seen.stop, seen.usage, seen.ended) == ("shown", stop, back.usage, True)


@pytest.mark.parametrize("name", DIALECTS)
def test_refusals_survive_or_become_anthropics(name: str) -> None:
    answer = Answer(id="1", model="m", parts=(Refusal(text="I will not"),), stop=StopReason.REFUSAL)
    back = DIALECTS[name].decode_answer(DIALECTS[name].encode_answer(answer, model="m"))
    assert back.stop is StopReason.REFUSAL
    assert [part.text for part in back.parts if isinstance(part, Text | Refusal)] == ["I will not"]


@pytest.mark.parametrize("name", ["responses", "anthropic"])
def test_usage_is_the_whole_prompt_in_every_dialect(name: str) -> None:
    usage = Usage(input_tokens=1000, output_tokens=5, cached_tokens=700, cache_write_tokens=200, reasoning_tokens=1)
    answer = Answer(id="1", model="m", parts=(Text(text="x"),), stop=StopReason.END, usage=usage)
    assert DIALECTS[name].decode_answer(DIALECTS[name].encode_answer(answer, model="m")).usage == usage


@pytest.mark.parametrize("name", ["responses", "anthropic"])
def test_empty_parts_are_not_shown(name: str) -> None:
    answer = Answer(id="1", model="m", parts=(Thinking(id="rs_1"), Text(text=""), Text(text="x")), stop=StopReason.END)
    assert DIALECTS[name].decode_answer(DIALECTS[name].encode_answer(answer, model="m")).parts == (Text(text="x"),)
