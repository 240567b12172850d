"""The members of a streamed chat chunk (and of a whole answer) that anybody here reads. All else is passed over, all types are lenient."""

import json

import msgspec

_NOTHING = (b"", b"null", b'""', b"[]")


class FunctionDelta(msgspec.Struct, frozen=True):
    name: str | None = None
    arguments: msgspec.Raw = msgspec.Raw()


class ToolDelta(msgspec.Struct, frozen=True):
    index: int | None = None
    id: str | None = None
    function: FunctionDelta | None = None


class ChunkDelta(msgspec.Struct, frozen=True):
    content: msgspec.Raw = msgspec.Raw()
    """A string; at Mistral's reasoning models also a list of typed pieces."""
    reasoning_content: str | None = None
    reasoning: msgspec.Raw = msgspec.Raw()
    refusal: str | None = None
    tool_calls: list[ToolDelta] | None = None
    function_call: FunctionDelta | None = None

    @property
    def says_something(self) -> bool:
        """A token has come; a role alone is none."""
        if bytes(self.content) not in _NOTHING or self.reasoning_content or self.refusal or self.tool_calls:
            return True
        return self.function_call is not None or bytes(self.reasoning) not in _NOTHING

    @property
    def used_tool(self) -> bool:
        return bool(self.tool_calls) or self.function_call is not None

    @property
    def thought(self) -> str:
        """Reasoning as DeepSeek, SGLang and llama.cpp name it, or as vLLM and OpenRouter do."""
        return self.reasoning_content or text_of(self.reasoning)


class Choice(msgspec.Struct, frozen=True):
    index: int = 0
    delta: ChunkDelta | None = None
    message: ChunkDelta | None = None
    finish_reason: str | None = None


class Chunk(msgspec.Struct, frozen=True):
    id: str | None = None
    model: str | None = None
    created: float | None = None
    system_fingerprint: str | None = None
    choices: list[Choice] | None = None
    usage: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()
    service_tier: msgspec.Raw = msgspec.Raw()

    @property
    def tier(self) -> str:
        return text_of(self.service_tier)

    @property
    def has_usage(self) -> bool:
        return bytes(self.usage) not in _NOTHING

    @property
    def has_error(self) -> bool:
        return bytes(self.error) not in _NOTHING


_CHUNK = msgspec.json.Decoder(Chunk)
_TEXT = msgspec.json.Decoder(str)


def read_chunk(data: bytes) -> Chunk | None:
    """None when ``data`` is no chunk in any form we know."""
    try:
        return _CHUNK.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def text_of(raw: msgspec.Raw) -> str:
    """The string; "" for anything else. What is no UTF-8 in it shows as U+FFFD: the rest of an answer is not lost for it."""
    text = bytes(raw)
    if not text.startswith(b'"'):
        return ""
    try:
        return _TEXT.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        try:
            return str(json.loads(text.decode("utf-8", "replace"))).encode("utf-8", "replace").decode()
        except ValueError:
            return ""
