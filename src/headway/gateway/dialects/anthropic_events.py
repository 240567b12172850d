"""Streams of Anthropic's Messages dialect: deltas in, events out.

The order that its clients insist on: one message_start, then block after block (start, deltas, stop), one message_delta, one
message_stop. A block never opens while another is open, and a delta never names a block that was not opened.
"""

from typing import Any

import msgspec

from headway.calls.conversation import (
    Alive,
    Conversation,
    Delta,
    Failed,
    Finished,
    Image,
    PartDelta,
    PartEnded,
    PartStarted,
    Started,
    Text,
    Thinking,
    ToolResult,
    ToolUse,
    Usage,
)
from headway.gateway.dialects.anthropic_answer import encode_usage, error_object, error_type, message_id, stop_reason, type_of
from headway.gateway.dialects.anthropic_encode import tool_id
from headway.gateway.dialects.reasoning import signature_for_anthropic_caller
from headway.gateway.dialects.sse import write
from headway.kernel.errors import CallError, UpstreamFailed
from headway.kernel.limits import INTERLEAVED_BYTES_MAX

Json = dict[str, Any]

_BYTES_PER_TOKEN = 4
"""For the figures that a client insists on before anybody can know them."""


class _Block:
    """A part on its way out: what waits until it may open, and what it has opened as."""

    __slots__ = ("encrypted", "ended", "id", "kind", "name", "opened", "signature", "waiting")

    def __init__(self, start: PartStarted) -> None:
        self.kind, self.id, self.name = start.kind, start.id, start.name
        self.waiting: list[str] = []
        self.signature = self.encrypted = ""
        self.opened = self.ended = False


class AnthropicEncoder:
    """Events for a caller. Parts that come interleaved leave one after the other; what waits is bounded."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._blocks: dict[int, _Block] = {}
        """Parts that have not left, in the order of their start. The first one is on its way."""
        self._index = 0
        self._waiting_bytes = 0
        self._output_bytes = 0
        self._used_tool = self._refused = False
        self._started = self._over = False

    def encode(self, delta: Delta) -> bytes:
        if self._over:
            return b""
        match delta:
            case PartDelta():
                return self._part_delta(delta)
            case PartStarted():
                return self._begin("", "") + self._part_started(delta)
            case PartEnded():
                if delta.index in self._blocks:
                    self._blocks[delta.index].ended = True
                return self._advance()
            case Started():
                return self._begin(delta.id, delta.model, delta.usage)
            case Finished():
                return self._finish(delta)
            case Failed():
                self._over = True
                return _event(error_object(error_type(delta.kind, delta.status), delta.message))
            case Alive():
                return PING

    def error(self, error: CallError) -> bytes:
        if self._over:
            return b""
        self._over = True
        return error_event(error)

    def _begin(self, id: str, model: str, usage: Usage | None = None) -> bytes:
        """message_start, once. Clients do sums with its usage, and zero broke one: what is not known yet is estimated."""
        if self._started:
            return b""
        self._started = True
        known = usage if usage is not None and usage.input_tokens else Usage(input_tokens=_estimate(self._conversation))
        figures = encode_usage(known)
        figures["output_tokens"] = max(figures["output_tokens"], 1)
        message: Json = {
            "id": message_id(id),
            "type": "message",
            "role": "assistant",
            "model": model or self._conversation.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": figures,
        }
        return _event({"type": "message_start", "message": message})

    def _part_started(self, start: PartStarted) -> bytes:
        if start.index not in self._blocks:
            self._blocks[start.index] = _Block(start)
            self._used_tool |= start.kind == "tool_use"
            self._refused |= start.kind == "refusal"
        return self._advance()

    def _part_delta(self, delta: PartDelta) -> bytes:
        block = self._blocks.get(delta.index)
        if block is None or block.ended:
            return b""
        self._output_bytes += len(delta.text)
        block.signature = delta.signature or block.signature
        block.encrypted = delta.encrypted or block.encrypted
        if not delta.text:
            return b""
        block.waiting.append(delta.text)
        if block is next(iter(self._blocks.values())):
            return self._flush(block)
        self._waiting_bytes += len(delta.text.encode())
        if self._waiting_bytes > INTERLEAVED_BYTES_MAX:
            raise UpstreamFailed(f"The provider interleaved more than {INTERLEAVED_BYTES_MAX} bytes of parts.", code="interleaved")
        return b""

    def _advance(self) -> bytes:
        """Sends what may go: the first part as far as it has come, and the next ones behind it once it has ended."""
        out = b""
        while self._blocks:
            index, block = next(iter(self._blocks.items()))
            out += self._flush(block)
            if not block.ended:
                return out
            out += self._close(block)
            del self._blocks[index]
        self._waiting_bytes = 0
        return out

    def _flush(self, block: _Block) -> bytes:
        """Opens a tool at once, since its name is news; text and thinking when there is some."""
        out = b""
        text = "".join(block.waiting)
        block.waiting.clear()
        if not block.opened and (text or block.kind == "tool_use"):
            out += self._open(block, _opening(block))
        if text:
            out += self._delta(block, text)
        return out

    def _open(self, block: _Block, content: Json) -> bytes:
        block.opened = True
        return _event({"type": "content_block_start", "index": self._index, "content_block": content})

    def _delta(self, block: _Block, text: str) -> bytes:
        match block.kind:
            case "tool_use":
                delta = {"type": "input_json_delta", "partial_json": text}
            case "thinking":
                delta = {"type": "thinking_delta", "thinking": text}
            case _:
                delta = {"type": "text_delta", "text": text}
        return _event({"type": "content_block_delta", "index": self._index, "delta": delta})

    def _close(self, block: _Block) -> bytes:
        out = self._seal(block)
        if not block.opened:
            return b""
        out += _event({"type": "content_block_stop", "index": self._index})
        self._index += 1
        return out

    def _seal(self, block: _Block) -> bytes:
        """The signature of a thinking part as it ends, or the redacted part that never had text."""
        if block.kind != "thinking":
            return b""
        if block.encrypted and not block.id and not block.opened and not block.signature:
            return self._open(block, {"type": "redacted_thinking", "data": block.encrypted})
        signature = signature_for_anthropic_caller(Thinking(signature=block.signature, encrypted=block.encrypted, id=block.id))
        if not signature:
            return b""
        out = b"" if block.opened else self._open(block, _opening(block))
        delta = {"type": "signature_delta", "signature": signature}
        return out + _event({"type": "content_block_delta", "index": self._index, "delta": delta})

    def _finish(self, finished: Finished) -> bytes:
        out = self._begin("", "")
        for block in self._blocks.values():
            block.ended = True
        out += self._advance()
        self._over = True
        reason = "refusal" if self._refused else stop_reason(finished.stop, used_tool=self._used_tool)
        delta = {"stop_reason": reason, "stop_sequence": finished.stop_sequence}
        out += _event({"type": "message_delta", "delta": delta, "usage": self._final_usage(finished.usage)})
        return out + _event({"type": "message_stop"})

    def _final_usage(self, usage: Usage) -> Json:
        """What was reported. Unknown output is estimated; unknown input is left out, and the estimate of the start stands."""
        figures = encode_usage(usage)
        if usage.output_tokens is None:
            figures["output_tokens"] = max(self._output_bytes // _BYTES_PER_TOKEN, 1)
        if usage.input_tokens is None:
            for name in ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"):
                del figures[name]
        return figures


def _opening(block: _Block) -> Json:
    match block.kind:
        case "tool_use":
            return {"type": "tool_use", "id": tool_id(block.id), "name": block.name, "input": {}}
        case "thinking":
            return {"type": "thinking", "thinking": "", "signature": ""}
    return {"type": "text", "text": ""}


def _estimate(conversation: Conversation) -> int:
    """Tokens of the prompt at four characters each; at least 1."""
    parts = (part for message in conversation.messages for part in message.parts)
    tools = sum(len(tool.schema) + len(tool.description) + len(tool.name) for tool in conversation.tools)
    return max((sum(map(_characters, parts)) + tools) // _BYTES_PER_TOKEN, 1)


def _characters(part: object) -> int:
    match part:
        case Text() | Thinking():
            return len(part.text)
        case ToolUse():
            return len(part.arguments) + len(part.name)
        case ToolResult():
            return sum(map(_characters, part.content))
        case Image():
            return 0
    return 0


def _event(body: Json) -> bytes:
    return write(msgspec.json.encode(body), body["type"])


PING = write(b'{"type": "ping"}', "ping")


def error_event(error: CallError) -> bytes:
    return _event(error_object(type_of(error), error.message))
