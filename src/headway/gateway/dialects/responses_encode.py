"""A Conversation becomes a request in OpenAI's Responses dialect: stateless, with the whole conversation as input."""

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
from headway.kernel.limits import RESPONSES_MAX_TOKENS_MIN

Json = dict[str, Any]

_EXTRAS = frozenset(
    (
        "include",
        "max_tool_calls",
        "metadata",
        "moderation",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "store",
        "truncation",
    )
)
"""``top_logprobs`` is not among them: an answer's log probabilities have no place in a Conversation, so asking would be in vain."""
_SERVICE_TIERS = (b'"auto"', b'"default"', b'"flex"', b'"priority"', b'"fast"', b'"scale"', b'"ultrafast"')
_UNKNOWN_HERE = ("top_k", "seed", "frequency_penalty", "presence_penalty", "stop")
_EMPTY_SCHEMA = msgspec.Raw(b'{"type":"object","properties":{}}')


def encode_request(conversation: Conversation) -> tuple[bytes, tuple[str, ...]]:
    c, lost = conversation, Lost()
    body: Json = {"model": c.model}
    messages = c.messages
    if messages and (instructions := _instructions(messages[0])):
        body["instructions"] = instructions
        messages = messages[1:]
    body["input"] = [item for message in messages for item in _items(message, lost)]
    if c.tools:
        body["tools"] = [_tool(tool) for tool in c.tools]
    _tool_choice(c, body)
    _text(c, body)
    _reasoning(c, body)
    _limits(c, body, lost)
    if c.user is not None:
        body["user"] = c.user
    if c.stream:
        body["stream"] = True
    _extras(c, body, lost)
    return msgspec.json.encode(body), lost.names()


def _instructions(message: Message) -> str:
    """Leading system text that is one piece has a field of its own; anything else stays an item in its place."""
    if message.role is not Role.SYSTEM or len(message.parts) != 1 or message.name:
        return ""
    part = message.parts[0]
    return part.text if isinstance(part, Text) and part.cache_control is None else ""


def _limits(c: Conversation, body: Json, lost: Lost) -> None:
    if c.max_tokens is not None:
        if c.max_tokens < RESPONSES_MAX_TOKENS_MIN:
            lost.add("max_tokens")
        body["max_output_tokens"] = max(c.max_tokens, RESPONSES_MAX_TOKENS_MIN)
    if c.temperature is not None:
        body["temperature"] = c.temperature
    if c.top_p is not None:
        body["top_p"] = c.top_p
    for name in _UNKNOWN_HERE:
        if getattr(c, name):
            lost.add(name)


def _reasoning(c: Conversation, body: Json) -> None:
    """The effort as named, else that of the budget. Where there is reasoning, what must come back next turn is asked for."""
    effort = c.reasoning_effort or (effort_of(c.reasoning_budget_tokens) if c.reasoning_budget_tokens is not None else None)
    reasoning = {name: value for name, value in (("effort", effort), ("summary", c.reasoning_summary)) if value is not None}
    if reasoning:
        body["reasoning"] = reasoning
    if effort not in (None, "none"):
        body["include"] = ["reasoning.encrypted_content"]


def _text(c: Conversation, body: Json) -> None:
    text: Json = {}
    if c.format is not None:
        text["format"] = {"type": c.format.kind}
        if c.format.kind == "json_schema":
            text["format"] |= {"name": c.format.name, "schema": c.format.schema}
            if c.format.strict is not None:
                text["format"]["strict"] = c.format.strict
    if "verbosity" in c.extras:
        text["verbosity"] = c.extras["verbosity"]
    if text:
        body["text"] = text


def _extras(c: Conversation, body: Json, lost: Lost) -> None:
    body["store"] = False
    for name, value in c.extras.items():
        if name == "include" and "include" in body:
            body["include"] += msgspec.json.decode(value, type=list[str])
        elif name in _EXTRAS or (name == "service_tier" and bytes(value) in _SERVICE_TIERS):
            body[name] = value
        elif name != "verbosity" and not says_nothing(name, value):
            lost.add(name)


def _tool(tool: Tool) -> Json:
    """``strict`` is always said: left out it means true here and false in the other dialects."""
    made: Json = {"type": "function", "name": tool.name}
    if tool.description:
        made["description"] = tool.description
    made["parameters"] = _EMPTY_SCHEMA if bytes(tool.schema) in (b"{}", b"null") else tool.schema
    made["strict"] = bool(tool.strict)
    return made


def _tool_choice(c: Conversation, body: Json) -> None:
    choice = c.tool_choice
    if choice is None or not c.tools:
        return
    body["tool_choice"] = {"type": "function", "name": choice.name} if choice.mode == "named" else choice.mode
    if choice.parallel is not None:
        body["parallel_tool_calls"] = choice.parallel


def _items(message: Message, lost: Lost) -> list[Json]:
    """One message's parts in order: text and images gather in a message item, everything else is an item of its own."""
    if message.name:
        lost.add("messages.name")
    items: list[Json] = []
    content: list[Json] = []

    def close() -> None:
        if content:
            items.append({"type": "message", "role": message.role.value, "content": _plain(content)})
            content.clear()

    for part in message.parts:
        if (piece := _content(part, message.role, lost)) is not None:
            content.append(piece)
        elif (item := _item(part, lost)) is not None:
            close()
            items.append(item)
    close()
    return items


def _plain(content: list[Json]) -> Any:
    """Text alone goes as a string, which every engine takes."""
    if len(content) == 1 and content[0]["type"] in ("input_text", "output_text"):
        return content[0]["text"]
    return list(content)


def _content(part: Part, role: Role, lost: Lost) -> Json | None:
    match part:
        case Text():
            if part.cache_control is not None:
                lost.add("cache_control")
            return {"type": "output_text" if role is Role.ASSISTANT else "input_text", "text": part.text}
        case Refusal():
            return {"type": "refusal", "refusal": part.text}
        case Image():
            return _image(part)
    return None


def _image(part: Image) -> Json:
    url = part.url or f"data:{part.media_type};base64,{part.data_base64}"
    return {"type": "input_image", "image_url": url, "detail": part.detail or "auto"}


def _item(part: Part, lost: Lost) -> Json | None:
    match part:
        case ToolUse():
            return {"type": "function_call", "call_id": part.id, "name": part.name, "arguments": part.arguments}
        case ToolResult():
            if part.is_error:
                lost.add("tool_result.is_error")
            return {"type": "function_call_output", "call_id": part.tool_use_id, "output": _output(part, lost)}
        case Thinking() if part.encrypted and part.id:
            summary = [{"type": "summary_text", "text": part.text}] if part.text else []
            return {"type": "reasoning", "id": part.id, "summary": summary, "encrypted_content": part.encrypted}
        case Thinking():
            lost.add("thinking")
    return None


def _output(part: ToolResult, lost: Lost) -> Any:
    content = [piece for c in part.content if (piece := _content(c, Role.USER, lost)) is not None]
    return _plain(content) if content else ""
