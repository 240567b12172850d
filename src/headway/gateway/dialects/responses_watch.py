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
_ENVELOPE_BYTES = 230
"""Of a text delta's event, all but the text, as OpenAI spells it (item ids are 50 long)."""


class ResponsesWatcher:
    """``output_chars`` is exact until the first token and an estimate from bytes after it."""

    def __init__(self) -> None:
        self.seen = Seen()
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
        if seen.started:
            ends = any(mark in whole for mark in _MARKS)
            if not ends:
                seen.output_chars += max(len(whole) - (seen.events - before) * _ENVELOPE_BYTES, 0)
                return
        for block in blocks(whole):
            event = parse_block(block)
            if event is not None and event[1] != b"[DONE]":
                self._event(event)

    def _event(self, event: Event) -> None:
        kind, data = event
        try:
            fields = Fields.parse(data, fault=UpstreamFailed)
            self._read(kind or fields.text("type"), fields)
        except UpstreamFailed:
            return  # the bytes pass as they are: it is for the caller's client to judge them

    def _read(self, kind: str, event: Fields) -> None:
        seen = self.seen
        if kind in _SAID:
            said = event.text("delta")
            seen.started = seen.started or bool(said)
            seen.output_chars += len(said)
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


def read_response(seen: Seen, made: Fields) -> None:
    """Takes from a response object what is not the answer itself."""
    seen.id, seen.model = made.text("id") or seen.id, made.text("model") or seen.model
    if (usage := made.object("usage")) is not None:
        seen.usage = decode_usage(usage)
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
