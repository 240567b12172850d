"""Looks at an OpenAI chat stream that passes, and takes out the usage that the caller did not ask for.

Until the first token each event is read. After it a read is only searched for the few members that matter, in C; an event is parsed when it
has one of them. Quotes inside JSON strings are escaped, so a member's name in quotes is never part of a text.
"""

import re

from headway.gateway.dialects import sse
from headway.gateway.dialects.openai_chat_answer import decode_usage, failure, stop_of
from headway.gateway.dialects.openai_chat_chunk import Choice, Chunk, read_chunk, text_of
from headway.gateway.dialects.port import Seen

_NULL_USAGE = re.compile(rb',[ \t]*"usage"[ \t]*:[ \t]*null|"usage"[ \t]*:[ \t]*null[ \t]*,[ \t]*')
"""Within one line, and so within one event: what is taken out does not depend on which events came in one read."""
_NOT_TELLING = bytes(set(range(256)) - set(b'":{[_frgDvl'))
"""The l tells ``null`` from a value."""


class ChatWatcher:
    """``strip_usage``: we asked for usage and the caller did not, so what that adds to the stream is taken out again."""

    __slots__ = ("_counted", "_cutter", "_frame_bytes", "_refused", "_strip", "_used_tool", "seen")

    def __init__(self, *, strip_usage: bool = False) -> None:
        self.seen = Seen()
        self._cutter = sse.Cutter()
        self._strip = strip_usage
        self._counted = 0
        self._frame_bytes = 0
        """Bytes of an event around its text; 0 where padding hides it."""
        self._used_tool = self._refused = False

    def feed(self, data: bytes) -> bytes:
        whole = self._cutter.feed(data)
        return self._see(whole) if whole else whole

    def finish(self) -> bytes:
        rest = self._cutter.finish()
        return self._see(rest) if rest else rest

    def text_of(self, data: bytes) -> str:
        found = []
        for block in sse.blocks(data):
            event = sse.parse_block(block) if b'"content"' in block else None
            chunk = read_chunk(event[1]) if event else None
            for choice in (chunk.choices or ()) if chunk else ():
                if choice.index == 0 and choice.delta is not None:
                    found.append(text_of(choice.delta.content))
        return "".join(found)

    def _see(self, whole: bytes) -> bytes:
        seen, events = self.seen, self._cutter.events
        seen.events = events
        if not seen.started or _matters(whole):
            whole = self._look(whole)
        else:
            self._count(len(whole), events - self._counted)
        self._counted = events
        return _without_null_usage(whole) if self._strip else whole

    def _look(self, whole: bytes) -> bytes:
        segments = sse.segments(whole)
        kept = [segment if self._keeps(segment) else sse.leading_line_ends(segment) for segment in segments]
        if kept[-1] is not segments[-1] and whole.endswith(b"\r"):
            self._cutter.drop_lf()
        return b"".join(kept)

    def _keeps(self, segment: bytes) -> bool:
        """Reads one event where it matters; False when the caller must not get it."""
        if self.seen.started and not _matters(segment):
            self._count(len(segment), 1)
            return True
        event = sse.parse_segment(segment)
        if event is None:
            return True
        kind, data = event
        if data.startswith(b"[DONE]"):
            return self._done()
        chunk = read_chunk(data)
        if kind == "error" or (chunk is not None and chunk.has_error):
            self._fail(data)
            return True
        return chunk is None or self._chunk(chunk, len(segment))

    def _done(self) -> bool:
        """Once, and only after a good end: vLLM sends it after an error too."""
        if self.seen.failed or self.seen.ended:
            return False
        self.seen.ended = True
        return True

    def _fail(self, data: bytes) -> None:
        kind, message, _ = failure(data)
        self.seen.failed, self.seen.failed_message = kind or "error", message

    def _chunk(self, chunk: Chunk, segment_bytes: int) -> bool:
        seen = self.seen
        seen.id = seen.id or chunk.id or ""
        seen.model = seen.model or chunk.model or ""
        seen.fingerprint = seen.fingerprint or chunk.system_fingerprint or ""
        seen.tier = seen.tier or chunk.tier
        for choice in chunk.choices or ():
            self._choice(choice, segment_bytes)
        if chunk.has_usage and (usage := decode_usage(chunk.usage)) is not None:
            seen.usage = usage if seen.usage is None else seen.usage.merged(usage)
            return not (self._strip and not chunk.choices)
        return True

    def _choice(self, choice: Choice, segment_bytes: int) -> None:
        seen, delta = self.seen, choice.delta
        if delta is not None and delta.says_something:
            self._used_tool |= delta.used_tool
            self._refused |= bool(delta.refusal)
            text_bytes = max(len(bytes(delta.content)) - 2, len(delta.thought), len(delta.refusal or ""), 0)
            if not seen.started:
                seen.started = True
                self._frame_bytes = segment_bytes - text_bytes
            seen.output_chars += text_bytes
        if choice.finish_reason:
            seen.stop = stop_of(choice.finish_reason, used_tool=self._used_tool, refused=self._refused)

    def _count(self, size_bytes: int, events: int) -> None:
        self.seen.output_chars += max(size_bytes - events * self._frame_bytes, 0)


def _matters(data: bytes) -> bool:
    """Whether there may be a finish reason, usage, an error, an event name or the end in it. Searched for in what is left of it when all but a few
    characters are taken out: that is shorter by half, and blanks between a name and its value do not count."""
    left = data.translate(None, _NOT_TELLING)
    return (
        b'f_r":"' in left  # "finish_reason": "
        or b'g":{' in left  # "usage": {
        or b"[D" in left  # [DONE]
        or b'"rrr"' in left  # "error"
        or b"v:" in left  # event:
    )


def _without_null_usage(data: bytes) -> bytes:
    if b'"usage"' not in data:
        return data
    data = data.replace(b',"usage":null', b"")
    return _NULL_USAGE.sub(b"", data) if b'"usage"' in data else data


def see_answer(body: bytes) -> Seen:
    """The same facts from a whole answer; what cannot be read stays unknown."""
    seen = Seen()
    chunk = read_chunk(body)
    if chunk is None:
        return seen
    if chunk.has_error:
        kind, message, _ = failure(body)
        seen.failed, seen.failed_message = kind or "error", message
        return seen
    seen.id, seen.model, seen.fingerprint = chunk.id or "", chunk.model or "", chunk.system_fingerprint or ""
    seen.tier = chunk.tier
    seen.usage = decode_usage(chunk.usage) if chunk.has_usage else None
    seen.started = seen.ended = bool(chunk.choices)
    seen.events = 1
    uncounted = seen.usage is None or seen.usage.output_tokens is None  # only then does anybody estimate by its length
    for choice in chunk.choices or ():
        message_ = choice.message
        used_tool = message_ is not None and message_.used_tool
        if message_ is not None and uncounted:
            seen.output_chars += len(text_of(message_.content)) + len(message_.thought)
        if choice.finish_reason:
            seen.stop = stop_of(choice.finish_reason, used_tool=used_tool, refused=message_ is not None and bool(message_.refusal))
    return seen
