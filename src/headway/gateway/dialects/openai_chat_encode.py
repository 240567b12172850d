"""A Conversation becomes a request in OpenAI's chat dialect."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from headway.calls.conversation import (
    Conversation,
    Image,
    Message,
    Part,
    Refusal,
    Role,
    Text,
    Thinking,
    Tool,
    ToolResult,
    ToolUse,
)
from headway.gateway.dialects.reading import Lost, says_nothing
from headway.gateway.dialects.reasoning import effort_of

Json = dict[str, Any]

_EXTRAS = frozenset(
    (
        "audio",
        "logit_bias",
        "logprobs",
        "metadata",
        "modalities",
        "moderation",
        "n",
        "prediction",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "store",
        "top_logprobs",
        "verbosity",
        "web_search_options",
    )
)
_SERVICE_TIERS = (b'"auto"', b'"default"', b'"flex"', b'"scale"', b'"priority"', b'"fast"')
_NEWER = re.compile(r"(?:^|/)(?:o\d|gpt-[5-9]|gpt-\d\d)")
"""Models that refuse ``max_tokens``; every other model of every provider takes it."""


def max_tokens_key(model: str) -> str:
    """How ``model`` wants the maximum of its answer to be spelt."""
    return "max_completion_tokens" if _NEWER.search(model) else "max_tokens"


def encode_request(conversation: Conversation) -> tuple[bytes, tuple[str, ...]]:
    """A body, and the names of what this dialect cannot carry."""
    c, lost = conversation, Lost()
    body: Json = {"model": c.model, "messages": [made for message in c.messages for made in _messages(message, lost)]}
    if c.tools:
        body["tools"] = [_tool(tool) for tool in c.tools]
        _tool_choice(c, body)
    if c.format is not None:
        body["response_format"] = _format(c)
    if c.max_tokens is not None:
        body[max_tokens_key(c.model)] = c.max_tokens
    _sampling(c, body, lost)
    if c.stream:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}  # ours to count with; the encoder gives it to callers who asked
    _extras(c, body, lost)
    return msgspec.json.encode(body), lost.names()


def _sampling(c: Conversation, body: Json, lost: Lost) -> None:
    for name in ("temperature", "top_p", "seed", "frequency_penalty", "presence_penalty", "user"):
        if (value := getattr(c, name)) is not None:
            body[name] = value
    if c.stop:
        body["stop"] = c.stop
    effort = c.reasoning_effort or (effort_of(c.reasoning_budget_tokens) if c.reasoning_budget_tokens is not None else None)
    if effort is not None:
        body["reasoning_effort"] = effort
    for name in ("top_k", "reasoning_summary"):
        if getattr(c, name) is not None:
            lost.add(name)


def _extras(c: Conversation, body: Json, lost: Lost) -> None:
    for name, value in c.extras.items():
        if name in _EXTRAS or (name == "service_tier" and bytes(value) in _SERVICE_TIERS):
            body[name] = value
        elif not says_nothing(name, value):
            lost.add(name)


def _format(c: Conversation) -> Json:
    assert c.format is not None
    if c.format.kind != "json_schema":
        return {"type": c.format.kind}
    schema: Json = {"name": c.format.name, "schema": c.format.schema}
    if c.format.strict is not None:
        schema["strict"] = c.format.strict
    return {"type": "json_schema", "json_schema": schema}


def _tool(tool: Tool) -> Json:
    function: Json = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    function["parameters"] = tool.schema
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _tool_choice(c: Conversation, body: Json) -> None:
    choice = c.tool_choice
    if choice is None:
        return
    if choice.mode == "named":
        body["tool_choice"] = {"type": "function", "function": {"name": choice.name}}
    elif choice.mode != "auto" or choice.parallel is None:
        body["tool_choice"] = choice.mode
    if choice.parallel is not None:
        body["parallel_tool_calls"] = choice.parallel


# --- messages ------------------------------------------------------------------------------------------------------------


def _messages(message: Message, lost: Lost) -> Iterable[Json]:
    """One message, or several: each tool result is a message of its own, ahead of what the user says beside it."""
    if message.role is Role.ASSISTANT:
        yield _named(message, _assistant(message.parts, lost))
        return
    said: list[Part] = []
    for part in message.parts:
        if isinstance(part, ToolResult):
            yield _result(part, lost)
            said += [piece for piece in part.content if isinstance(piece, Image)]  # a tool message takes text only
        else:
            said.append(part)
    if said or not message.parts:
        role = "user" if message.role is Role.USER else "system"  # engines other than OpenAI's have no developer
        yield _named(message, {"role": role, "content": _content(said, lost)})


def _named(message: Message, made: Json) -> Json:
    return {**made, "name": message.name} if message.name else made


def _result(part: ToolResult, lost: Lost) -> Json:
    if part.is_error:
        lost.add("tool_result.is_error")
    text = "\n".join(_text(piece, lost) for piece in part.content if isinstance(piece, Text))
    return {"role": "tool", "tool_call_id": part.tool_use_id, "content": text}


def _assistant(parts: Sequence[Part], lost: Lost) -> Json:
    texts: list[str] = []
    made: Json = {"role": "assistant", "content": None}
    calls: list[Json] = []
    for part in parts:
        match part:
            case Text():
                texts.append(_text(part, lost))
            case ToolUse():
                calls.append({"id": part.id, "type": "function", "function": {"name": part.name, "arguments": part.arguments}})
            case Refusal():
                made["refusal"] = made.get("refusal", "") + part.text
            case Thinking():
                lost.add("thinking")
            case _:
                lost.add("assistant.image")
    if texts or not (calls or "refusal" in made):
        made["content"] = "".join(texts)
    if calls:
        made["tool_calls"] = calls
    return made


def _content(parts: Sequence[Part], lost: Lost) -> Any:
    """Text alone goes as a string, which every engine takes."""
    pieces = [piece for part in parts if (piece := _piece(part, lost)) is not None]
    if not pieces:
        return ""
    return pieces[0]["text"] if len(pieces) == 1 and pieces[0]["type"] == "text" else pieces


def _piece(part: Part, lost: Lost) -> Json | None:
    match part:
        case Text():
            return {"type": "text", "text": _text(part, lost)}
        case Image():
            url = part.url or f"data:{part.media_type};base64,{part.data_base64}"
            return {"type": "image_url", "image_url": {"url": url, "detail": part.detail} if part.detail else {"url": url}}
        case Thinking():
            lost.add("thinking")
        case _:
            lost.add("refusal")
    return None


def _text(part: Text, lost: Lost) -> str:
    if part.cache_control is not None:
        lost.add("cache_control")
    return part.text
