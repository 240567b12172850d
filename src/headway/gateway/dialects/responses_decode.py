"""A request in OpenAI's Responses dialect becomes a Conversation (fields as of the openai client 3.54)."""

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
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
)
from headway.gateway.dialects.reading import Fields, Lost, shown
from headway.gateway.dialects.reasoning import opened

_ROLES = {"user": Role.USER, "assistant": Role.ASSISTANT, "system": Role.SYSTEM, "developer": Role.DEVELOPER}
_ENCRYPTED = "reasoning.encrypted_content"
"""Callers ask for it to carry reasoning from turn to turn; every answer of ours has it unasked."""

_STORED: dict[str, str] = {
    "previous_response_id": "names an earlier answer that is stored at the provider",
    "conversation": "names a conversation that is stored at the provider",
    "prompt": "names a prompt template that is stored at the provider",
}
_REMEDY = "send the whole conversation in `input` with `store: false`, or use a model that is served through the Responses API"


def decode_request(body: bytes) -> tuple[Conversation, tuple[str, ...]]:
    top, lost = Fields.parse(body), Lost()
    _refuse_stored(top)
    reasoning, text = top.object("reasoning"), top.object("text")
    tools = _tools(top, lost)
    tools, choice = _tool_choice(top, tools, lost)
    conversation = Conversation(
        model=top.need("model", str),
        messages=_messages(top, lost),
        tools=tools,
        tool_choice=choice,
        format=_format(text, lost),
        max_tokens=top.maybe("max_output_tokens", int),
        temperature=top.maybe("temperature", float),
        top_p=top.maybe("top_p", float),
        reasoning_effort=reasoning.maybe("effort", str) if reasoning is not None else None,
        reasoning_summary=_summary(reasoning),
        user=top.maybe("user", str),
        stream=top.maybe("stream", bool) or False,
        extras=_extras(top, text, lost),
    )
    if reasoning is not None:
        lost.fields("reasoning.", reasoning)
    if text is not None:
        lost.fields("text.", text)
    return conversation, lost.names()


def _refuse_stored(top: Fields) -> None:
    """What lives at the provider cannot be had in another dialect. The same dialect passes these bytes and never comes here."""
    for name, what in _STORED.items():
        if name in top:
            raise top.wrong(name, f"{what}, and this model is served through another dialect, which cannot see it; {_REMEDY}")
    if top.maybe("background", bool):
        raise top.wrong(
            "background",
            "background answers are kept by the provider, and this model is served through another dialect, which has none; "
            "leave it out, or use a model that is served through the Responses API",
        )


def _summary(reasoning: Fields | None) -> str | None:
    if reasoning is None:
        return None
    return reasoning.maybe("summary", str) or reasoning.maybe("generate_summary", str)


def _extras(top: Fields, text: Fields | None, lost: Lost) -> dict[str, msgspec.Raw]:
    """The rest verbatim, with ``verbosity`` where the chat dialect has it."""
    include = top.maybe("include", list[str]) or []
    options = top.object("stream_options")
    extras = top.rest()
    if wanted := [name for name in include if name != _ENCRYPTED]:
        extras["include"] = msgspec.Raw(msgspec.json.encode(wanted))
    if text is not None and (verbosity := text.raw("verbosity")) is not None:
        extras["verbosity"] = verbosity
    if options is not None:
        obfuscate = options.maybe("include_obfuscation", bool)
        if obfuscate:
            lost.add("stream_options.include_obfuscation")
        lost.fields("stream_options.", options)
    return extras


def _format(text: Fields | None, lost: Lost) -> AnswerFormat | None:
    wanted = text.object("format") if text is not None else None
    if wanted is None:
        return None
    match kind := wanted.need("type", str):
        case "text":
            return None
        case "json_object":
            return AnswerFormat(kind="json_object")
        case "json_schema":
            made = AnswerFormat(
                kind="json_schema",
                name=wanted.text("name") or "answer",
                schema=wanted.need("schema", msgspec.Raw),
                strict=wanted.maybe("strict", bool),
            )
            lost.fields("text.format.", wanted)
            return made
    lost.add(f"text.format.{kind}")
    return None


def _tools(top: Fields, lost: Lost) -> tuple[Tool, ...]:
    tools = []
    for tool in top.objects("tools"):
        kind = tool.need("type", str)
        if kind != "function":
            lost.add(f"tools.{kind}")
            continue
        tools.append(
            Tool(
                name=tool.need("name", str),
                description=tool.text("description"),
                schema=tool.raw("parameters") or msgspec.Raw(b"{}"),
                strict=tool.maybe("strict", bool),
            )
        )
        lost.fields("tools.", tool)
    return tuple(tools)


def _tool_choice(top: Fields, tools: tuple[Tool, ...], lost: Lost) -> tuple[tuple[Tool, ...], ToolChoice | None]:
    """The tools that may be used and the choice among them: a list of allowed tools is those tools alone."""
    parallel = top.maybe("parallel_tool_calls", bool)
    plain = ToolChoice(parallel=parallel) if parallel is not None and tools else None
    if "tool_choice" not in top:
        return tools, plain
    if top.is_text("tool_choice"):
        return tools, ToolChoice(mode=top.need("tool_choice", str), parallel=parallel)
    choice = top.object("tool_choice")
    assert choice is not None
    kind = choice.need("type", str)
    if kind == "function":
        return tools, ToolChoice(mode="named", name=choice.need("name", str), parallel=parallel)
    if kind == "allowed_tools":
        names = {tool.text("name") for tool in choice.objects("tools")}
        allowed = tuple(tool for tool in tools if tool.name in names)
        return allowed, ToolChoice(mode=choice.maybe("mode", str) or "auto", parallel=parallel)
    lost.add(f"tool_choice.{kind}")
    return tools, plain


class _Turns:
    """Items become messages: what the assistant said, thought and called in a row is one, and so are results in a row."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._role = Role.USER
        self._parts: list[Part] = []
        self._joins = ""

    def add(self, role: Role, parts: list[Part], joins: str = "") -> None:
        """``joins`` names what this may be joined with: "" nothing."""
        if not joins or joins != self._joins:
            self.close()
        self._role, self._joins = role, joins
        self._parts += parts

    def close(self) -> None:
        if self._parts:
            self.messages.append(Message(role=self._role, parts=tuple(self._parts)))
        self._parts = []
        self._joins = ""


def _messages(top: Fields, lost: Lost) -> tuple[Message, ...]:
    turns = _Turns()
    if instructions := top.text("instructions"):
        turns.add(Role.SYSTEM, [Text(text=instructions)])
    if top.is_text("input"):
        turns.add(Role.USER, [Text(text=top.text("input"))])
    elif "input" in top:
        for item in top.objects("input"):
            _item(item, turns, lost)
    else:
        raise top.wrong("input", "is required")
    turns.close()
    return tuple(turns.messages)


def _item(item: Fields, turns: _Turns, lost: Lost) -> None:
    kind = item.maybe("type", str) or ("message" if "role" in item else "item_reference")
    match kind:
        case "message":
            _message(item, turns, lost)
        case "function_call":
            call = ToolUse(id=item.need("call_id", str), name=item.need("name", str), arguments=item.text("arguments"))
            turns.add(Role.ASSISTANT, [call], "assistant")
        case "function_call_output":
            turns.add(Role.USER, [_result(item, lost)], "results")
        case "reasoning":
            thought = opened(text=_reasoning_text(item), encrypted=item.text("encrypted_content"), id=item.text("id"))
            turns.add(Role.ASSISTANT, [thought], "assistant")
        case "item_reference":
            raise item.wrong("id", f"an item reference names an item that is stored at the provider; {_REMEDY}")
        case _:
            lost.add(kind)
            return
    lost.fields("", item, known=("id", "status", "type", "caller", "async"))


def _message(item: Fields, turns: _Turns, lost: Lost) -> None:
    role = item.need("role", str)
    if role not in _ROLES:
        raise item.wrong("role", f"expected user, assistant, system or developer, got {shown(role)}")
    if item.is_text("content"):
        parts: list[Part] = [Text(text=item.text("content"))]
    else:
        parts = [part for content in item.objects("content") if (part := _part(content, lost)) is not None]
    turns.add(_ROLES[role], parts, "assistant" if role == "assistant" else "")


def _part(content: Fields, lost: Lost) -> Text | Image | Refusal | None:
    part: Text | Image | Refusal | None
    match kind := content.need("type", str):
        case "input_text" | "output_text" | "text":
            part = Text(text=content.need("text", str))
        case "refusal":
            part = Refusal(text=content.need("refusal", str))
        case "input_image":
            part = _image(content, lost)
        case _:
            lost.add(kind)
            return None
    if content.objects("annotations"):
        lost.add("annotations")
    lost.fields("", content, known=("logprobs",))
    return part


def _image(content: Fields, lost: Lost) -> Image | None:
    url = content.text("image_url")
    detail = content.text("detail")
    if not url:
        if "file_id" in content:
            lost.add("input_image.file_id")
            return None
        raise content.wrong("image_url", "is required")
    return image_of(url, "" if detail == "auto" else detail)


def image_of(url: str, detail: str = "") -> Image:
    """A data URL becomes its bytes; any other stays a URL."""
    head, comma, data = url.partition(",")
    if head.startswith("data:") and comma and head.endswith(";base64"):
        return Image(media_type=head[len("data:") : -len(";base64")], data_base64=data, detail=detail)
    return Image(url=url, detail=detail)


def _result(item: Fields, lost: Lost) -> ToolResult:
    if item.is_text("output"):
        content: tuple[Text | Image, ...] = (Text(text=item.text("output")),)
    else:
        parts = (_part(part, lost) for part in item.objects("output"))
        content = tuple(part for part in parts if isinstance(part, Text | Image))
    return ToolResult(tool_use_id=item.need("call_id", str), content=content)


def _reasoning_text(item: Fields) -> str:
    """The summary's paragraphs, else the reasoning itself where an engine shows it."""
    paragraphs = [part.text("text") for key in ("summary", "content") for part in item.objects(key)]
    return "\n\n".join(paragraphs)
