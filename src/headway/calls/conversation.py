"""What a call says, free of any provider's dialect: the form through which one dialect becomes another.

Codecs in ``headway.gateway.dialects`` decode to these and encode from them. Nothing here is used when caller and upstream
speak the same dialect: then the bytes pass. JSON that only passes through (schemas, arguments) stays ``msgspec.Raw`` or text,
so that numbers, order and spelling survive.
"""

from enum import StrEnum

import msgspec


class DialectName(StrEnum):
    OPENAI_CHAT = "openai-chat"
    OPENAI_RESPONSES = "openai-responses"
    ANTHROPIC = "anthropic"


class Role(StrEnum):
    SYSTEM = "system"
    DEVELOPER = "developer"
    USER = "user"
    ASSISTANT = "assistant"


class _Part(msgspec.Struct, frozen=True, kw_only=True, tag_field="part", omit_defaults=True):
    pass


class Text(_Part, frozen=True, kw_only=True, tag="text", omit_defaults=True):
    text: str
    cache_control: msgspec.Raw | None = None
    """Anthropic's prompt-cache mark, verbatim."""


class Image(_Part, frozen=True, kw_only=True, tag="image", omit_defaults=True):
    """Exactly one of ``url`` (http or https) and ``data_base64`` is set."""

    media_type: str = ""
    url: str = ""
    data_base64: str = ""
    detail: str = ""


class Thinking(_Part, frozen=True, kw_only=True, tag="thinking", omit_defaults=True):
    """Reasoning shown by a model. ``signature`` or ``encrypted`` must travel back unchanged in the next turn."""

    text: str = ""
    signature: str = ""
    encrypted: str = ""
    id: str = ""


class ToolUse(_Part, frozen=True, kw_only=True, tag="tool_use", omit_defaults=True):
    id: str
    name: str
    arguments: str
    """JSON text as the model wrote it, which may not be valid JSON."""


class ToolResult(_Part, frozen=True, kw_only=True, tag="tool_result", omit_defaults=True):
    tool_use_id: str
    content: tuple[Text | Image, ...]
    is_error: bool = False


class Refusal(_Part, frozen=True, kw_only=True, tag="refusal", omit_defaults=True):
    text: str


Part = Text | Image | Thinking | ToolUse | ToolResult | Refusal


class Message(msgspec.Struct, frozen=True, kw_only=True):
    role: Role
    parts: tuple[Part, ...]
    name: str = ""


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    description: str = ""
    schema: msgspec.Raw = msgspec.Raw(b"{}")
    strict: bool | None = None


class ToolChoice(msgspec.Struct, frozen=True, kw_only=True):
    """``mode`` is auto, none, required or named; ``parallel`` None means the provider's default."""

    mode: str = "auto"
    name: str = ""
    parallel: bool | None = None


class AnswerFormat(msgspec.Struct, frozen=True, kw_only=True):
    """``kind`` is json_object or json_schema."""

    kind: str
    name: str = "answer"
    schema: msgspec.Raw | None = None
    strict: bool | None = None


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """A request. System and developer text are messages like the others, in their place."""

    model: str
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    format: AnswerFormat | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    reasoning_effort: str | None = None
    """none, minimal, low, medium, high or what the provider calls it."""
    reasoning_budget_tokens: int | None = None
    reasoning_summary: str | None = None
    user: str | None = None
    stream: bool = False
    want_stream_usage: bool = False
    """The caller asked for usage at the end of a chat stream."""
    extras: dict[str, msgspec.Raw] = {}
    """Top-level fields that no field above holds, verbatim. A codec carries those it knows and names the rest as lost."""


class StopReason(StrEnum):
    END = "end"
    LENGTH = "length"
    TOOL_USE = "tool_use"
    STOP_SEQUENCE = "stop_sequence"
    CONTENT_FILTER = "content_filter"
    REFUSAL = "refusal"
    PAUSE = "pause"
    UNKNOWN = "unknown"


class Usage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Tokens as the provider reported them; None is "not reported", which is not 0.

    ``input_tokens`` counts the whole prompt, cached parts included, in every dialect (Anthropic reports them apart).
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    reasoning_tokens: int | None = None

    def merged(self, later: "Usage") -> "Usage":
        """Later reports win field by field (Anthropic sends input first and output last)."""
        return Usage(
            **{name: b if (b := getattr(later, name)) is not None else getattr(self, name) for name in self.__struct_fields__}
        )


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer, not streamed."""

    id: str
    model: str
    parts: tuple[Part, ...]
    stop: StopReason
    stop_sequence: str | None = None
    usage: Usage = Usage()
    created_s: int = 0
    fingerprint: str = ""


# A streamed answer, in order: Started, then for each part PartStarted, deltas, PartEnded; Finished; or Failed anywhere.


class _Delta(msgspec.Struct, frozen=True, kw_only=True, tag_field="delta"):
    pass


class Started(_Delta, frozen=True, kw_only=True, tag="started"):
    id: str
    model: str
    created_s: int = 0
    usage: Usage = Usage()
    fingerprint: str = ""
    tier: str = ""


class PartStarted(_Delta, frozen=True, kw_only=True, tag="part_started"):
    """``kind`` is text, thinking, tool_use or refusal; ``id`` and ``name`` are of a tool use."""

    index: int
    kind: str
    id: str = ""
    name: str = ""


class PartDelta(_Delta, frozen=True, kw_only=True, tag="part_delta"):
    """``text`` continues the text, thinking, refusal or argument JSON of part ``index``; ``signature`` ends a thinking part."""

    index: int
    text: str = ""
    signature: str = ""
    encrypted: str = ""


class PartEnded(_Delta, frozen=True, kw_only=True, tag="part_ended"):
    index: int


class Finished(_Delta, frozen=True, kw_only=True, tag="finished"):
    stop: StopReason
    stop_sequence: str | None = None
    usage: Usage = Usage()


class Failed(_Delta, frozen=True, kw_only=True, tag="failed"):
    """The provider reported an error inside the stream."""

    kind: str
    message: str
    status: int | None = None


class Alive(_Delta, frozen=True, kw_only=True, tag="alive"):
    """A ping or comment: nothing said, connection alive."""


Delta = Started | PartStarted | PartDelta | PartEnded | Finished | Failed | Alive
