"""Streams of OpenAI's chat dialect: deltas in, chunks out.

What clients stumble over, and what is therefore so: the role comes in a chunk of its own before anything else, every tool call delta has its index,
the usage chunk has ``choices: []``, ``[DONE]`` comes once and only after a good end, and the model named is the one that answered.
"""

from typing import Any

import msgspec

from headway.calls.conversation import (
    Alive,
    Conversation,
    Delta,
    Failed,
    Finished,
    PartDelta,
    PartEnded,
    PartStarted,
    Started,
    Usage,
)
from headway.gateway.dialects import sse
from headway.gateway.dialects.openai_chat_answer import encode_usage, error_object, reason_of
from headway.kernel.errors import CallError

Json = dict[str, Any]

DONE = b"data: [DONE]\n\n"
PING = b": ping\n"
"""A comment with one line end: openai-python takes the blank line after a comment for an event once it has seen an id."""

_MEMBERS = {"text": "content", "thinking": "reasoning_content", "refusal": "refusal"}


class ChatEncoder:
    """Bytes of one stream. After ``error`` or Finished nothing follows."""

    def __init__(self, conversation: Conversation) -> None:
        self._want_usage = conversation.want_stream_usage
        self._head: Json = {"id": "", "object": "chat.completion.chunk", "created": 0, "model": conversation.model}
        self._members: dict[int, str] = {}
        self._calls: dict[int, int] = {}
        """Part index to the index among tool calls."""
        self._usage = Usage()
        self._over = False

    def encode(self, delta: Delta) -> bytes:
        if self._over:
            return b""
        match delta:
            case PartDelta():
                return self._part_delta(delta)
            case PartStarted():
                return self._part_started(delta)
            case Started():
                return self._started(delta)
            case Finished():
                return self._finished(delta)
            case Failed():
                self._over = True
                return error_bytes({"message": delta.message, "type": delta.kind, "param": None, "code": delta.kind})
            case Alive():
                return PING
            case PartEnded():
                return b""

    def error(self, error: CallError) -> bytes:
        self._over = True
        return error_bytes(error_object(error))

    def _started(self, delta: Started) -> bytes:
        self._head |= {"id": delta.id, "created": delta.created_s, "model": delta.model or self._head["model"]}
        self._usage = delta.usage
        return self._chunk({"role": "assistant", "content": ""})

    def _part_started(self, delta: PartStarted) -> bytes:
        if delta.kind != "tool_use":
            self._members[delta.index] = _MEMBERS.get(delta.kind, "content")
            return b""
        call = self._calls[delta.index] = len(self._calls)
        function = {"name": delta.name, "arguments": ""}
        return self._chunk({"tool_calls": [{"index": call, "id": delta.id, "type": "function", "function": function}]})

    def _part_delta(self, delta: PartDelta) -> bytes:
        if not delta.text:  # signatures have no place in this dialect
            return b""
        call = self._calls.get(delta.index)
        if call is not None:
            return self._chunk({"tool_calls": [{"index": call, "function": {"arguments": delta.text}}]})
        return self._chunk({self._members.get(delta.index, "content"): delta.text})

    def _finished(self, delta: Finished) -> bytes:
        self._over = True
        refused = "refusal" in self._members.values()
        out = self._chunk({}, reason_of(delta.stop, used_tool=bool(self._calls), refused=refused))
        usage = encode_usage(self._usage.merged(delta.usage)) if self._want_usage else None
        if usage is not None:
            out += sse.write(msgspec.json.encode({**self._head, "choices": [], "usage": usage}))
        return out + DONE

    def _chunk(self, delta: Json, reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return sse.write(msgspec.json.encode({**self._head, "choices": [choice]}))


def error_bytes(error: Json) -> bytes:
    """An error as an event, after which nothing follows."""
    return sse.write(msgspec.json.encode({"error": error}))
