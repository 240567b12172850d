"""A Conversation becomes a request in Anthropic's Messages dialect."""

import re
from collections.abc import Iterable
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
from headway.gateway.dialects.reasoning import BUDGET_TOKENS_MIN, budget_of, is_redacted
from headway.kernel.limits import ANTHROPIC_MAX_TOKENS_DEFAULT

Json = dict[str, Any]

_EXTRAS = frozenset(("cache_control", "container", "diagnostics", "inference_geo", "mcp_servers", "speed", "user_profile_id"))
"""``context_management`` is not among them: Responses has another field of that name."""
_SERVICE_TIERS = (b'"auto"', b'"standard_only"')
_CHOICES = {"auto": "auto", "required": "any", "none": "none", "named": "tool"}
_ID_FORBIDDEN = re.compile(r"[^a-zA-Z0-9_-]")
_EMPTY_SCHEMA = msgspec.Raw(b'{"type":"object","properties":{}}')
_TOP_LEVEL_ROLES = (Role.SYSTEM, Role.DEVELOPER)


def encode_request(conversation: Conversation) -> tuple[bytes, tuple[str, ...]]:
    c, lost = conversation, Lost()
    body: Json = {"model": c.model}
    turns = _messages(c.messages, lost)
    thinking = _thinking(c, turns, lost)
    budget = thinking.get("budget_tokens", 0) if thinking else 0
    body["max_tokens"] = ANTHROPIC_MAX_TOKENS_DEFAULT + budget if c.max_tokens is None else c.max_tokens
    if system := _system(c.messages, lost):
        body["system"] = system
    body["messages"] = turns
    if c.tools:
        body["tools"] = [_tool(tool) for tool in c.tools]
        if choice := _tool_choice(c):
            body["tool_choice"] = choice
    if thinking:
        body["thinking"] = thinking
    _sampling(c, body, lost, thinks=budget > 0)
    _format(c, body, lost)
    if c.user is not None:
        body["metadata"] = {"user_id": c.user}
    if c.stream:
        body["stream"] = True
    _extras(c, body, lost)
    return msgspec.json.encode(body), lost.names()


def _thinking(c: Conversation, turns: list[Json], lost: Lost) -> Json | None:
    """A budget as given, else the one of the effort, and below max_tokens, which it counts towards.

    Anthropic refuses thinking beside a forced tool, under a maximum too small for the smallest budget, and on the way through
    tool calls whose thoughts did not come back (a chat caller has no place for them). The call then goes without thinking.
    """
    if c.reasoning_budget_tokens is None:
        if c.reasoning_effort is None:
            return None
        if c.reasoning_effort == "none":
            return {"type": "disabled"}
    forced = bool(c.tools) and c.tool_choice is not None and c.tool_choice.mode in ("required", "named")
    if forced or _thoughtless(turns) or (c.max_tokens is not None and c.max_tokens <= BUDGET_TOKENS_MIN):
        lost.add("reasoning_effort")
        return None
    budget = c.reasoning_budget_tokens if c.reasoning_budget_tokens is not None else budget_of(c.reasoning_effort or "")
    if c.max_tokens is not None and budget >= c.max_tokens:
        budget = c.max_tokens // 2
    thinking: Json = {"type": "enabled", "budget_tokens": max(budget, BUDGET_TOKENS_MIN)}
    if c.reasoning_summary is not None:
        thinking["display"] = "summarized"
    return thinking


def _thoughtless(turns: list[Json]) -> bool:
    """Whether the assistant's latest turn called tools without showing the thoughts before."""
    latest: list[Json] = next((turn["content"] for turn in reversed(turns) if turn["role"] == "assistant"), [])
    kinds = [block["type"] for block in latest]
    return "tool_use" in kinds and kinds[0] not in ("thinking", "redacted_thinking")


def _sampling(c: Conversation, body: Json, lost: Lost, *, thinks: bool) -> None:
    """Temperatures end at 1 here, and with thinking on neither temperature nor top_k may be set."""
    if c.temperature is not None:
        if thinks and c.temperature != 1:
            lost.add("temperature")
        elif not thinks:
            if c.temperature > 1:
                lost.add("temperature")
            body["temperature"] = min(c.temperature, 1.0)
    if c.top_p is not None:
        if thinks and c.top_p < 0.95:
            lost.add("top_p")
        else:
            body["top_p"] = c.top_p
    if c.top_k is not None:
        if thinks:
            lost.add("top_k")
        else:
            body["top_k"] = c.top_k
    if c.stop:
        body["stop_sequences"] = list(c.stop)
    for name in ("seed", "frequency_penalty", "presence_penalty"):
        if getattr(c, name):
            lost.add(name)


def _format(c: Conversation, body: Json, lost: Lost) -> None:
    if c.format is None:
        return
    if c.format.kind == "json_schema" and c.format.schema is not None:
        body["output_config"] = {"format": {"type": "json_schema", "schema": c.format.schema}}
    else:
        lost.add(c.format.kind)


def _extras(c: Conversation, body: Json, lost: Lost) -> None:
    for name, value in c.extras.items():
        if name in _EXTRAS or (name == "service_tier" and bytes(value) in _SERVICE_TIERS):
            body[name] = value
        elif not says_nothing(name, value):
            lost.add(name)


def _tool(tool: Tool) -> Json:
    made: Json = {"name": tool.name}
    if tool.description:
        made["description"] = tool.description
    made["input_schema"] = _EMPTY_SCHEMA if bytes(tool.schema) in (b"{}", b"null") else tool.schema
    if tool.strict:
        made["strict"] = True
    return made


def _tool_choice(c: Conversation) -> Json | None:
    choice = c.tool_choice
    if choice is None:
        return None
    made: Json = {"type": _CHOICES.get(choice.mode, "auto")}
    if choice.mode == "named":
        made["name"] = choice.name
    if choice.parallel is not None and choice.mode != "none":
        made["disable_parallel_tool_use"] = not choice.parallel
    return made


def _system(messages: tuple[Message, ...], lost: Lost) -> list[Json]:
    """System and developer text, lifted to the top. One that stood after the first turn has changed its place."""
    blocks: list[Json] = []
    begun = False
    for message in messages:
        if message.role not in _TOP_LEVEL_ROLES:
            begun = True
            continue
        if begun:
            lost.add("system.order")
        blocks.extend(_blocks(message.parts, lost, only_text=True))
    return blocks


def _messages(messages: tuple[Message, ...], lost: Lost) -> list[Json]:
    """Turns in order; neighbours of one role become one turn, with tool results first as Anthropic wants them."""
    turns: list[Json] = []
    for message in messages:
        if message.role in _TOP_LEVEL_ROLES:
            continue
        if message.name:
            lost.add("messages.name")
        blocks = _blocks(message.parts, lost)
        if not blocks:
            continue
        role = message.role.value
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": role, "content": blocks})
    for turn in turns:
        if turn["role"] == "user":
            turn["content"].sort(key=lambda block: block["type"] != "tool_result")
    return turns


def _blocks(parts: Iterable[Part], lost: Lost, *, only_text: bool = False) -> list[Json]:
    blocks = []
    for part in parts:
        if only_text and not isinstance(part, Text):
            lost.add("system.image" if isinstance(part, Image) else "system.content")
        elif (block := _block(part, lost)) is not None:
            blocks.append(block)
    return blocks


def _block(part: Part, lost: Lost) -> Json | None:
    match part:
        case Text():
            return _text(part)
        case Image():
            return _image(part, lost)
        case ToolUse():
            return {"type": "tool_use", "id": tool_id(part.id), "name": part.name, "input": tool_input(part.arguments, lost)}
        case ToolResult():
            return _tool_result(part, lost)
        case Thinking():
            return _thought(part, lost)
        case Refusal():
            lost.add("refusal")
            return {"type": "text", "text": part.text} if part.text else None


def _text(part: Text) -> Json | None:
    """None for empty text: Anthropic refuses empty blocks, and nothing is said by them."""
    if not part.text:
        return None
    block: Json = {"type": "text", "text": part.text}
    if part.cache_control is not None:
        block["cache_control"] = part.cache_control
    return block


def _image(part: Image, lost: Lost) -> Json:
    if part.detail not in ("", "auto"):
        lost.add("image.detail")
    if part.url:
        return {"type": "image", "source": {"type": "url", "url": part.url}}
    return {"type": "image", "source": {"type": "base64", "media_type": part.media_type, "data": part.data_base64}}


def _tool_result(part: ToolResult, lost: Lost) -> Json:
    block: Json = {"type": "tool_result", "tool_use_id": tool_id(part.tool_use_id)}
    if content := _blocks(part.content, lost):
        block["content"] = content
    if part.is_error:
        block["is_error"] = True
    return block


def _thought(part: Thinking, lost: Lost) -> Json | None:
    """Only thinking that Anthropic signed or redacted itself may go back to it."""
    if part.signature:
        return {"type": "thinking", "thinking": part.text, "signature": part.signature}
    if is_redacted(part):
        return {"type": "redacted_thinking", "data": part.encrypted}
    lost.add("thinking")
    return None


def tool_id(id: str) -> str:
    """Anthropic takes letters, digits, ``_`` and ``-``; the same replacement on use and result keeps them paired."""
    return _ID_FORBIDDEN.sub("_", id)


def tool_input(arguments: str, lost: Lost | None = None) -> msgspec.Raw | Json:
    """Arguments as the JSON object that Anthropic wants; what is none goes under one key, so that the model still sees it."""
    if not arguments.strip():
        return {}
    try:
        msgspec.json.decode(arguments, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, RecursionError):
        if lost is not None:
            lost.add("tool_use.arguments")
        return {"invalid_json": arguments}
    return msgspec.Raw(arguments.encode())
