"""Streams of Anthropic's Messages dialect: events in, deltas out. ``anthropic_events.py`` is the other way."""

from collections.abc import Sequence

import msgspec

from headway.calls.conversation import Alive, Delta, Failed, Finished, PartDelta, PartEnded, PartStarted, Started, StopReason, Usage
from headway.gateway.dialects.anthropic_answer import STOPS, UsageTally
from headway.gateway.dialects.reading import Fields
from headway.gateway.dialects.sse import Event, Parser
from headway.kernel.errors import UpstreamFailed

_KINDS = {"text": "text", "thinking": "thinking", "redacted_thinking": "thinking", "tool_use": "tool_use"}


class AnthropicDecoder:
    """Deltas of a provider's stream. Blocks of hosted tools are passed over; parts are numbered without them."""

    def __init__(self) -> None:
        self._parser = Parser()
        self._comments = 0
        self._usage = UsageTally()
        self._parts: dict[int, int] = {}
        self._open: dict[int, str] = {}
        """Input of a tool block as its start gave it, by block; "" once arguments have come, and for other blocks."""
        self._next = 0
        self._stop = StopReason.UNKNOWN
        self._stop_sequence: str | None = None
        self._over = False

    def feed(self, data: bytes) -> Sequence[Delta]:
        deltas = self._read(self._parser.feed(data))
        if self._parser.comments > self._comments:
            self._comments = self._parser.comments
            deltas.append(Alive())
        return deltas

    def finish(self) -> Sequence[Delta]:
        return self._read(self._parser.finish())

    def _read(self, events: Sequence[Event]) -> list[Delta]:
        deltas: list[Delta] = []
        for _, data in events:
            if not self._over:
                deltas += self._event(Fields.parse(data, "the provider's stream", UpstreamFailed))
        return deltas

    def _event(self, event: Fields) -> list[Delta]:
        match event.text("type"):
            case "content_block_delta":
                return self._block_delta(event)
            case "content_block_start":
                return self._block_start(event)
            case "content_block_stop":
                return self._block_stop(event.need("index", int))
            case "message_start":
                return self._message_start(event)
            case "message_delta":
                self._message_delta(event)
                return []
            case "message_stop":
                return self._message_stop()
            case "ping":
                return [Alive()]
            case "error":
                return self._error(event)
        return []

    def _message_start(self, event: Fields) -> list[Delta]:
        message = event.object("message")
        if message is None:
            raise event.wrong("message", "is required")
        usage = message.object("usage")
        self._usage.see(usage)
        tier = usage.text("service_tier") if usage is not None else ""
        return [Started(id=message.text("id"), model=message.text("model"), usage=begun(self._usage.usage()), tier=tier)]

    def _block_start(self, event: Fields) -> list[Delta]:
        block, index = event.object("content_block"), event.need("index", int)
        if block is None:
            raise event.wrong("content_block", "is required")
        kind = _KINDS.get(block.need("type", str))
        if kind is None:
            return []
        part, self._next = self._next, self._next + 1
        self._parts[index] = part
        given = block.raw("input")
        self._open[index] = "" if given is None or bytes(given) == b"{}" else bytes(given).decode()
        deltas: list[Delta] = [PartStarted(index=part, kind=kind, id=block.text("id"), name=block.text("name"))]
        early = PartDelta(
            index=part,
            text=block.text("text") or block.text("thinking"),
            signature=block.text("signature"),
            encrypted=block.text("data"),
        )
        if early.text or early.signature or early.encrypted:
            deltas.append(early)
        return deltas

    def _block_delta(self, event: Fields) -> list[Delta]:
        index, delta = event.need("index", int), event.object("delta")
        if delta is None or index not in self._parts:
            return []
        part = self._parts[index]
        match delta.text("type"):
            case "text_delta":
                return [PartDelta(index=part, text=delta.need("text", str))]
            case "thinking_delta":
                return [PartDelta(index=part, text=delta.need("thinking", str))]
            case "signature_delta":
                return [PartDelta(index=part, signature=delta.need("signature", str))]
            case "input_json_delta":
                piece = delta.need("partial_json", str)
                if piece:
                    self._open[index] = ""
                return [PartDelta(index=part, text=piece)]
        return []

    def _block_stop(self, index: int) -> list[Delta]:
        if index not in self._open:
            return []
        whole = self._open.pop(index)
        ended = PartEnded(index=self._parts[index])
        return [PartDelta(index=self._parts[index], text=whole), ended] if whole else [ended]

    def _message_delta(self, event: Fields) -> None:
        self._usage.see(event.object("usage"))
        if (delta := event.object("delta")) is not None:
            if reason := delta.text("stop_reason"):
                self._stop = STOPS.get(reason, StopReason.UNKNOWN)
            self._stop_sequence = delta.maybe("stop_sequence", str)

    def _message_stop(self) -> list[Delta]:
        self._over = True
        deltas: list[Delta] = []
        for index in list(self._open):
            deltas += self._block_stop(index)
        deltas.append(Finished(stop=self._stop, stop_sequence=self._stop_sequence, usage=self._usage.usage()))
        return deltas

    def _error(self, event: Fields) -> list[Delta]:
        self._over = True
        error = event.object("error")
        kind, message = (error.text("type"), error.text("message")) if error is not None else ("", "")
        return [Failed(kind=kind or "api_error", message=message or "The provider reported an error in the stream.")]


def begun(usage: Usage) -> Usage:
    """What the start of a stream tells of usage: the input. Its output figure counts a first token and grows until the end."""
    return msgspec.structs.replace(usage, output_tokens=None, reasoning_tokens=None)
