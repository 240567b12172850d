"""Looks at an answer of the Messages dialect as its bytes pass: reads the first events, and later only those that end it."""

from headway.calls.conversation import StopReason
from headway.gateway.dialects.anthropic_answer import STOPS, UsageTally
from headway.gateway.dialects.anthropic_stream import begun
from headway.gateway.dialects.port import Seen
from headway.gateway.dialects.reading import Fields
from headway.gateway.dialects.sse import Cutter, blocks, parse_block
from headway.kernel.errors import UpstreamFailed

_SAID = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}


class AnthropicWatcher:
    """``output_chars`` is exact for the first token and an estimate from bytes after it."""

    __slots__ = ("_cutter", "_frame_bytes", "_usage", "seen")

    def __init__(self) -> None:
        self.seen = Seen()
        self._frame_bytes = 0
        """Bytes of the first token's event around its text: the others are alike."""
        self._cutter = Cutter()
        self._usage = UsageTally()

    def feed(self, data: bytes) -> bytes:
        whole = self._cutter.feed(data)
        if whole:
            self._look(whole)
        return whole

    def finish(self) -> bytes:
        whole = self._cutter.finish()
        if whole:
            self._look(whole)
        return whole

    def text_of(self, data: bytes) -> str:
        return "".join(_text_of(block) for block in blocks(data) if b"text_delta" in block)

    def _look(self, whole: bytes) -> None:
        """Inside JSON text a quote is escaped, so ``"error"`` with both quotes is never something that the model said."""
        seen, before = self.seen, self.seen.events
        seen.events = self._cutter.events
        if seen.started and b"message_" not in whole and b'"error"' not in whole:
            seen.output_chars += max(len(whole) - (seen.events - before) * self._frame_bytes, 0)
            return
        for block in blocks(whole):
            event = parse_block(block)
            if event is not None and event[0] != "ping":
                self._event(event[1], len(block))

    def _event(self, data: bytes, size_bytes: int) -> None:
        try:
            self._read(Fields.parse(data, fault=UpstreamFailed), size_bytes)
        except UpstreamFailed:
            return  # the bytes pass as they are: it is for the caller's client to judge them

    def _read(self, event: Fields, size_bytes: int) -> None:
        seen = self.seen
        match event.text("type"):
            case "content_block_delta":
                if (delta := event.object("delta")) is not None:
                    self._said(delta.text(_SAID.get(delta.text("type"), "text")), size_bytes)
            case "message_start":
                if (message := event.object("message")) is not None:
                    seen.id, seen.model = message.text("id"), message.text("model")
                    usage = message.object("usage")
                    seen.tier = usage.text("service_tier") if usage is not None else ""
                    self._usage.see(usage)
                    seen.usage = begun(self._usage.usage())
            case "message_delta":
                self._usage.see(event.object("usage"))
                seen.usage = self._usage.usage()
                if (delta := event.object("delta")) is not None and (reason := delta.text("stop_reason")):
                    seen.stop = STOPS.get(reason, StopReason.UNKNOWN)
            case "message_stop":
                seen.ended = True
            case "error":
                error = event.object("error")
                seen.failed = (error.text("type") if error is not None else "") or "api_error"
                seen.failed_message = error.text("message") if error is not None else ""

    def _said(self, text: str, size_bytes: int) -> None:
        if text and not self.seen.started:
            self.seen.started = True
            self._frame_bytes = size_bytes + 2 - len(text)
        self.seen.output_chars += len(text)


def _text_of(block: bytes) -> str:
    event = parse_block(block)
    if event is None:
        return ""
    try:
        delta = Fields.parse(event[1], fault=UpstreamFailed).object("delta")
        return delta.text("text") if delta is not None else ""
    except UpstreamFailed:
        return ""


def see_answer(body: bytes) -> Seen:
    """The facts of a whole answer; of a body that is none, what can be read."""
    seen = Seen()
    try:
        top = Fields.parse(body, fault=UpstreamFailed)
        if (error := top.object("error")) is not None:
            seen.failed, seen.failed_message = error.text("type") or "api_error", error.text("message")
            return seen
        seen.id, seen.model = top.text("id"), top.text("model")
        if (usage := top.object("usage")) is not None:
            seen.tier = usage.text("service_tier")
            tally = UsageTally()
            tally.see(usage)
            seen.usage = tally.usage()
        if reason := top.text("stop_reason"):
            seen.stop = STOPS.get(reason, StopReason.UNKNOWN)
        seen.started = seen.ended = "content" in top
        seen.output_chars = sum(len(block.text("text")) for block in top.objects("content"))
    except UpstreamFailed:
        return seen
    return seen
