"""A request in Anthropic's Messages dialect becomes a Conversation (fields as of API version 2023-06-01, client 2.12)."""

import msgspec

from headway.calls.conversation import (
    AnswerFormat,
    Conversation,
    Image,
    Message,
    Part,
    Role,
    Text,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
)
from headway.gateway.dialects.reading import Fields, Lost, shown
from headway.gateway.dialects.reasoning import effort_of, opened
from headway.kernel.errors import CannotCarry

_ROLES = {"user": Role.USER, "assistant": Role.ASSISTANT, "system": Role.SYSTEM}
_CHOICES = {"auto": "auto", "any": "required", "none": "none", "tool": "named"}


def decode_request(body: bytes) -> tuple[Conversation, tuple[str, ...]]:
    top, lost = Fields.parse(body), Lost()
    output = top.object("output_config")
    effort, budget, summary = _thinking(top, output, lost)
    conversation = Conversation(
        model=top.need("model", str),
        messages=_messages(top, lost),
        tools=_tools(top, lost),
        tool_choice=_tool_choice(top, lost),
        format=_format(top, output, lost),
        max_tokens=top.maybe("max_tokens", int),
        temperature=top.maybe("temperature", float),
        top_p=top.maybe("top_p", float),
        top_k=top.maybe("top_k", int),
        stop=tuple(top.maybe("stop_sequences", list[str]) or ()),
        reasoning_effort=effort,
        reasoning_budget_tokens=budget,
        reasoning_summary=summary,
        user=_user(top, lost),
        stream=top.maybe("stream", bool) or False,
        extras=top.rest(),
    )
    if output is not None:
        lost.fields("output_config.", output)
    return conversation, lost.names()


def _user(top: Fields, lost: Lost) -> str | None:
    metadata = top.object("metadata")
    if metadata is None:
        return None
    user = metadata.maybe("user_id", str)
    lost.fields("metadata.", metadata)
    return user


def _thinking(top: Fields, output: Fields | None, lost: Lost) -> tuple[str | None, int | None, str | None]:
    """(effort, budget in tokens, summary). Adaptive thinking is what reasoning models of other dialects do unasked."""
    effort = output.maybe("effort", str) if output is not None else None
    thinking = top.object("thinking")
    if thinking is None:
        return effort, None, None
    kind = thinking.need("type", str)
    summary = "auto" if thinking.maybe("display", str) == "summarized" else None
    if kind == "disabled":
        return "none", None, None
    if kind == "enabled":
        budget = thinking.need("budget_tokens", int)
        return effort or effort_of(budget), budget, summary
    if kind != "adaptive":
        lost.add(f"thinking.{kind}")
    return effort, None, summary


def _format(top: Fields, output: Fields | None, lost: Lost) -> AnswerFormat | None:
    """``output_config.format``; ``output_format`` is its name in the earlier beta."""
    wanted = (output.object("format") if output is not None else None) or top.object("output_format")
    if wanted is None:
        return None
    kind = wanted.need("type", str)
    if kind != "json_schema":
        lost.add(f"output_config.format.{kind}")
        return None
    return AnswerFormat(kind="json_schema", schema=wanted.need("schema", msgspec.Raw), strict=True)


def _tools(top: Fields, lost: Lost) -> tuple[Tool, ...]:
    tools = []
    for tool in top.objects("tools"):
        kind = tool.maybe("type", str) or "custom"
        if kind != "custom":
            lost.add(f"tools.{kind}")
            continue
        tools.append(
            Tool(
                name=tool.need("name", str),
                description=tool.text("description"),
                schema=tool.need("input_schema", msgspec.Raw),
                strict=tool.maybe("strict", bool),
            )
        )
        _cache_control(tool, lost)
        lost.fields("tools.", tool)
    return tuple(tools)


def _tool_choice(top: Fields, lost: Lost) -> ToolChoice | None:
    choice = top.object("tool_choice")
    if choice is None:
        return None
    kind = choice.need("type", str)
    if kind not in _CHOICES:
        lost.add(f"tool_choice.{kind}")
        return None
    single = choice.maybe("disable_parallel_tool_use", bool)
    return ToolChoice(
        mode=_CHOICES[kind],
        name=choice.need("name", str) if kind == "tool" else "",
        parallel=None if single is None else not single,
    )


def _messages(top: Fields, lost: Lost) -> tuple[Message, ...]:
    messages = []
    if system := _texts(top, "system", lost):
        messages.append(Message(role=Role.SYSTEM, parts=system))
    if "messages" not in top:
        raise top.wrong("messages", "is required")
    asked = top.objects("messages")
    for message in asked:
        role = message.need("role", str)
        if role not in _ROLES:
            raise message.wrong("role", f"expected user, assistant or system, got {shown(role)}")
        if parts := _parts(message, lost):
            messages.append(Message(role=_ROLES[role], parts=parts))
        lost.fields("messages.", message)
    if asked and all(m.role is Role.SYSTEM for m in messages):
        raise CannotCarry(
            "nothing of the messages can be carried to the target's dialect "
            f"(lost: {', '.join(lost.names()) or 'empty content'}); use a model that is served through the Messages API"
        )
    return tuple(messages)


def _texts(fields: Fields, key: str, lost: Lost) -> tuple[Text, ...]:
    """A string or text blocks, as ``system`` has them."""
    return tuple(p for p in _content(fields, key, lost) if isinstance(p, Text))


def _parts(message: Fields, lost: Lost) -> tuple[Part, ...]:
    return _content(message, "content", lost)


def _content(fields: Fields, key: str, lost: Lost) -> tuple[Part, ...]:
    if fields.is_text(key):
        return (Text(text=fields.text(key)),)
    parts = []
    for block in fields.objects(key):
        if (part := _part(block, lost)) is not None:
            parts.append(part)
    return tuple(parts)


def _part(block: Fields, lost: Lost) -> Part | None:
    part: Part | None
    match kind := block.need("type", str):
        case "text":
            part = Text(text=block.need("text", str), cache_control=block.raw("cache_control"))
        case "image":
            part = _image(block, lost)
        case "tool_use":
            part = ToolUse(id=block.need("id", str), name=block.need("name", str), arguments=_raw_text(block, "input"))
        case "tool_result":
            part = ToolResult(
                tool_use_id=block.need("tool_use_id", str),
                content=tuple(p for p in _content(block, "content", lost) if isinstance(p, Text | Image)),
                is_error=block.maybe("is_error", bool) or False,
            )
        case "thinking":
            part = opened(text=block.text("thinking"), signature=block.text("signature"))
        case "redacted_thinking":
            part = opened(text="", encrypted=block.need("data", str))
        case _:
            lost.add(kind)
            return None
    _cache_control(block, lost)
    if part is not None:
        lost.fields("", block, known=("caller",))
    return part


def _raw_text(block: Fields, key: str) -> str:
    value = block.raw(key)
    return "{}" if value is None else bytes(value).decode()


def _cache_control(block: Fields, lost: Lost) -> None:
    """Kept on text only (Text.cache_control); the mark has no place on other blocks."""
    if not block.was_read("cache_control") and "cache_control" in block:
        lost.add("cache_control")


def _image(block: Fields, lost: Lost) -> Image | None:
    source = block.object("source")
    if source is None:
        raise block.wrong("source", "is required")
    match kind := source.need("type", str):
        case "base64":
            return Image(media_type=source.need("media_type", str), data_base64=source.need("data", str))
        case "url":
            return Image(url=source.need("url", str))
    lost.add(f"image.{kind}")
    return None
