"""A request in OpenAI's chat dialect becomes a Conversation (fields as of the openai client 3.54, and what engines add to them)."""

from collections.abc import Sequence

import msgspec

from headway.calls.conversation import (
    AnswerFormat,
    Conversation,
    Image,
    Message,
    Part,
    Refusal,
    Role,
    Text,
    Thinking,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
)
from headway.gateway.dialects.reading import Fields, Lost
from headway.gateway.dialects.responses_decode import image_of

_ROLES = {"system": Role.SYSTEM, "developer": Role.DEVELOPER, "user": Role.USER, "assistant": Role.ASSISTANT}
_EMPTY = msgspec.Raw(b"{}")


def decode_request(body: bytes) -> tuple[Conversation, tuple[str, ...]]:
    """The conversation, and names of what has no place in it. Legacy functions become tools. BadRequest names the field."""
    top, lost = Fields.parse(body), Lost()
    stream_options = top.object("stream_options")
    conversation = Conversation(
        model=top.need("model", str),
        messages=_messages(top, lost),
        tools=_tools(top, lost),
        tool_choice=_tool_choice(top, lost),
        format=_format(top, lost),
        max_tokens=_max_tokens(top),
        temperature=top.maybe("temperature", float),
        top_p=top.maybe("top_p", float),
        top_k=_integer(top, "top_k"),
        stop=_stop(top),
        seed=_integer(top, "seed"),
        frequency_penalty=top.maybe("frequency_penalty", float),
        presence_penalty=top.maybe("presence_penalty", float),
        reasoning_effort=top.maybe("reasoning_effort", str),
        user=top.maybe("user", str),
        stream=top.maybe("stream", bool) or False,
        want_stream_usage=stream_options is not None and bool(stream_options.maybe("include_usage", bool)),
        extras=top.rest(),
    )
    if stream_options is not None:
        lost.fields("stream_options.", stream_options)
    return conversation, lost.names()


def _integer(top: Fields, key: str) -> int | None:
    number = top.maybe(key, int)
    if number is not None and not -(2**63) <= number < 2**63:
        raise top.wrong(key, "does not fit an integer of 64 bits")
    return number


def _max_tokens(top: Fields) -> int | None:
    newer, older = _integer(top, "max_completion_tokens"), _integer(top, "max_tokens")
    return older if newer is None else newer


def _stop(top: Fields) -> tuple[str, ...]:
    if top.is_text("stop"):
        return (top.text("stop"),)
    return tuple(top.maybe("stop", list[str]) or ())


def _format(top: Fields, lost: Lost) -> AnswerFormat | None:
    wanted = top.object("response_format")
    if wanted is None:
        return None
    match kind := wanted.need("type", str):
        case "text":
            return None
        case "json_object":
            schema = wanted.raw("schema")  # llama.cpp's own spelling
            return AnswerFormat(kind="json_object" if schema is None else "json_schema", schema=schema)
        case "json_schema":
            inner = wanted.object("json_schema")
            if inner is None:
                raise wanted.wrong("json_schema", "is required")
            made = AnswerFormat(
                kind="json_schema",
                name=inner.text("name") or "answer",
                schema=inner.raw("schema") or _EMPTY,
                strict=inner.maybe("strict", bool),
            )
            lost.fields("response_format.json_schema.", inner)
            return made
    lost.add(f"response_format.{kind}")
    return None


def _tools(top: Fields, lost: Lost) -> tuple[Tool, ...]:
    tools = [_function(legacy, lost) for legacy in top.objects("functions")]
    for tool in top.objects("tools"):
        kind = tool.text("type") or "function"
        function = tool.object("function")
        if kind != "function" or function is None:
            lost.add(f"tools.{kind}")
            continue
        tools.append(_function(function, lost))
        lost.fields("tools.", tool)
    return tuple(tools)


def _function(function: Fields, lost: Lost) -> Tool:
    made = Tool(
        name=function.need("name", str),
        description=function.text("description"),
        schema=function.raw("parameters") or _EMPTY,
        strict=function.maybe("strict", bool),
    )
    lost.fields("tools.function.", function)
    return made


def _tool_choice(top: Fields, lost: Lost) -> ToolChoice | None:
    parallel = top.maybe("parallel_tool_calls", bool)
    plain = None if parallel is None else ToolChoice(parallel=parallel)
    key = "tool_choice" if "tool_choice" in top else "function_call"
    if key not in top:
        return plain
    if top.is_text(key):
        mode = top.text(key)
        return ToolChoice(mode="required" if mode == "any" else mode, parallel=parallel)  # Mistral says any
    choice = top.object(key)
    assert choice is not None
    kind = choice.text("type") or "function"
    named = choice.object("function") if key == "tool_choice" else choice
    if kind != "function" or named is None:
        lost.add(f"tool_choice.{kind}")
        return plain
    return ToolChoice(mode="named", name=named.need("name", str), parallel=parallel)


# --- messages ------------------------------------------------------------------------------------------------------------


def _messages(top: Fields, lost: Lost) -> tuple[Message, ...]:
    """Tool results in a row are one user message, as they answer one turn of the assistant."""
    if not top.is_array("messages"):
        raise top.wrong("messages", "a list of messages is required")
    messages: list[Message] = []
    results: list[ToolResult] = []
    for at, fields in enumerate(top.objects("messages")):
        role = fields.need("role", str)
        if role in ("tool", "function"):
            results.append(_result(fields, role, messages, lost))
        else:
            _close(results, messages)
            messages.append(_message(fields, role, at, lost))
        lost.fields("messages.", fields, known=("annotations", "reasoning_details", "tool_calls"))
    _close(results, messages)
    return tuple(messages)


def _close(results: list[ToolResult], messages: list[Message]) -> None:
    if results:
        messages.append(Message(role=Role.USER, parts=tuple(results)))
        results.clear()


def _result(fields: Fields, role: str, messages: Sequence[Message], lost: Lost) -> ToolResult:
    parts = _content(fields, lost)
    if role == "function":
        name = fields.need("name", str)
        calls = [part.id for message in messages for part in message.parts if isinstance(part, ToolUse) and part.name == name]
        call_id = calls[-1] if calls else _legacy_id(name, 0)
    else:
        call_id = fields.need("tool_call_id", str)
        fields.raw("name")
    return ToolResult(tool_use_id=call_id, content=tuple(part for part in parts if isinstance(part, Text | Image)))


def _message(fields: Fields, role: str, at: int, lost: Lost) -> Message:
    if role not in _ROLES:
        raise fields.wrong("role", f"expected system, developer, user, assistant or tool, got {role!r}")
    parts: list[Part] = []
    if role == "assistant":
        if thought := fields.text("reasoning_content") or (fields.text("reasoning") if fields.is_text("reasoning") else ""):
            parts.append(Thinking(text=thought))
        parts += _content(fields, lost)
        if refusal := fields.text("refusal"):
            parts.append(Refusal(text=refusal))
        parts += _calls(fields, at, lost)
    else:
        if "content" not in fields:
            raise fields.wrong("content", "is required")
        parts += _content(fields, lost)
    return Message(role=_ROLES[role], parts=tuple(parts), name=fields.text("name"))


def _calls(fields: Fields, at: int, lost: Lost) -> list[ToolUse]:
    calls = []
    for call in fields.objects("tool_calls"):
        kind, function = call.text("type") or "function", call.object("function")
        if kind != "function" or function is None:
            lost.add(f"messages.tool_calls.{kind}")
            continue
        calls.append(ToolUse(id=call.need("id", str), name=function.need("name", str), arguments=function.text("arguments")))
    legacy = fields.object("function_call")
    if legacy is not None:
        name = legacy.need("name", str)
        calls.append(ToolUse(id=_legacy_id(name, at), name=name, arguments=legacy.text("arguments")))
    return calls


def _legacy_id(name: str, at: int) -> str:
    """Legacy function calls have no id; this one is the same whenever the conversation comes again."""
    return f"call_{at}_{name}"


def _content(fields: Fields, lost: Lost) -> list[Part]:
    if fields.is_text("content"):
        text = fields.text("content")
        return [Text(text=text)] if text else []
    return [part for content in fields.objects("content") if (part := _part(content, lost)) is not None]


def _part(content: Fields, lost: Lost) -> Part | None:
    part: Part
    match kind := content.need("type", str):
        case "text":
            part = Text(text=content.need("text", str), cache_control=content.raw("cache_control"))
        case "refusal":
            part = Refusal(text=content.need("refusal", str))
        case "image_url":
            part = _image(content)
        case _:
            lost.add(f"content.{kind}")
            return None
    lost.fields("content.", content)
    return part


def _image(content: Fields) -> Image:
    if content.is_text("image_url"):  # Mistral's spelling
        return image_of(content.text("image_url"))
    image = content.object("image_url")
    if image is None:
        raise content.wrong("image_url", "is required")
    detail = image.text("detail")
    return image_of(image.need("url", str), "" if detail == "auto" else detail)
