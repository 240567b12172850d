"""Looks at an answer of the Responses dialect as its bytes pass: reads the first events, and later only those that end it.

The last event holds the whole answer again. Of it only status, usage and error are read; its output is skipped, not built.
"""

from headway.calls.conversation import StopReason
from headway.gateway.dialects.port import Seen
from headway.gateway.dialects.reading import Fields
from headway.gateway.dialects.responses_answer import decode_usage, failure, stop_of
from headway.gateway.dialects.sse import Cutter, Event, blocks, parse_block
from headway.kernel.errors import UpstreamFailed

_SAID = (
    "response.output_text.delta",
    "response.refusal.delta",
    "response.function_call_arguments.delta",
    "response.reasoning_summary_text.delta",
    "response.reasoning_text.delta",
)
_LAST = {"response.completed", "response.incomplete", "response.failed"}
_MARKS = (b"response.completed", b"response.incomplete", b"response.failed", b'"error"')


class ResponsesWatcher:
    """``output_chars`` is exact for the first token and an estimate from bytes after it (too low where padding shrinks with the text)."""

    __slots__ = ("_cutter", "_frame_bytes", "seen")

    def __init__(self) -> None:
        self.seen = Seen()
        self._frame_bytes = 0
        """Bytes of the first token's event around its text: the others are alike."""
        self._cutter = Cutter()

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
        return "".join(_text_of(block) for block in blocks(data) if b"response.output_text.delta" in block)

    def _look(self, whole: bytes) -> None:
        """Inside JSON text a quote is escaped, so ``"error"`` with both quotes is never something that the model said."""
        seen, before = self.seen, self.seen.events
        seen.events = self._cutter.events
        if seen.started and not any(mark in whole for mark in _MARKS):
            seen.output_chars += max(len(whole) - (seen.events - before) * self._frame_bytes, 0)
            return
        for block in blocks(whole):
            event = parse_block(block)
            if event is not None and event[1] != b"[DONE]":
                self._event(event, len(block))

    def _event(self, event: Event, size_bytes: int) -> None:
        kind, data = event
        try:
            fields = Fields.parse(data, fault=UpstreamFailed)
            self._read(kind or fields.text("type"), fields, size_bytes)
        except UpstreamFailed:
            return  # the bytes pass as they are: it is for the caller's client to judge them

    def _read(self, kind: str, event: Fields, size_bytes: int) -> None:
        seen = self.seen
        if kind in _SAID:
            self._said(event.text("delta"), size_bytes)
        elif kind == "response.created":
            if (made := event.object("response")) is not None:
                seen.id, seen.model = made.text("id"), made.text("model")
        elif kind in _LAST:
            seen.ended = kind != "response.failed"
            if (made := event.object("response")) is not None:
                read_response(seen, made)
        elif kind == "error":
            code, message = failure(event) if "error" in event else (event.text("code"), event.text("message"))
            seen.failed, seen.failed_message = code or "server_error", message

    def _said(self, text: str, size_bytes: int) -> None:
        if text and not self.seen.started:
            self.seen.started = True
            self._frame_bytes = size_bytes + 2 - len(text)
        self.seen.output_chars += len(text)


def read_response(seen: Seen, made: Fields) -> None:
    """Takes from a response object what is not the answer itself."""
    seen.id, seen.model = made.text("id") or seen.id, made.text("model") or seen.model
    if (usage := made.object("usage")) is not None:
        seen.usage = decode_usage(usage)
    seen.tier = made.text("service_tier") or seen.tier
    status = made.text("status")
    if status == "failed" or "error" in made:
        code, message = failure(made)
        seen.failed, seen.failed_message = code or seen.failed or "server_error", message or seen.failed_message
        seen.stop = StopReason.UNKNOWN
        return
    output = bytes(made.raw("output") or b"")
    seen.stop = stop_of(made, used_tool=b'"function_call"' in output, refused=b'"refusal"' in output)


def _text_of(block: bytes) -> str:
    event = parse_block(block)
    if event is None:
        return ""
    try:
        return Fields.parse(event[1], fault=UpstreamFailed).text("delta")
    except UpstreamFailed:
        return ""


def see_answer(body: bytes) -> Seen:
    """The facts of a whole answer; of a body that is none, what can be read."""
    seen = Seen()
    try:
        top = Fields.parse(body, fault=UpstreamFailed)
        read_response(seen, top)
        seen.ended = seen.started = "output" in top and not seen.failed
        if seen.ended:
            texts = (c.text("text") for item in top.objects("output") for c in item.objects("content"))
            seen.output_chars = sum(map(len, texts))
    except UpstreamFailed:
        return seen
    return seen
