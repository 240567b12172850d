"""What stands between an upstream's stream and the caller's: bytes in, bytes out, no waiting.

``PassRelay`` for one dialect on both sides, ``TranslateRelay`` for two. Both say the same of what has passed in ``seen``.
"""

from collections.abc import Sequence
from typing import Protocol

from headway.calls.conversation import (
    Answer,
    Conversation,
    Delta,
    Failed,
    Finished,
    PartDelta,
    PartEnded,
    PartStarted,
    Refusal,
    Started,
    Text,
    Thinking,
    ToolUse,
    Usage,
)
from headway.gateway.dialects.port import Dialect, Scan, Seen, StreamDecoder
from headway.kernel.errors import CallError, UpstreamFailed


class Relay(Protocol):
    seen: Seen

    def feed(self, data: bytes) -> bytes: ...

    def finish(self) -> bytes: ...

    def text_of(self, data: bytes) -> str: ...

    def error(self, error: CallError) -> bytes: ...


class PassRelay:
    def __init__(self, dialect: Dialect, scan: Scan) -> None:
        self._dialect = dialect
        self._watcher = dialect.watcher(scan)
        self.seen = self._watcher.seen
        self.feed = self._watcher.feed
        self.finish = self._watcher.finish
        self.text_of = self._watcher.text_of

    def error(self, error: CallError) -> bytes:
        return self._dialect.error_event(error)


class TranslateRelay:
    """Decodes with the upstream's codec, encodes with the caller's."""

    def __init__(self, upstream: Dialect, caller: Dialect, conversation: Conversation) -> None:
        self._decoder: StreamDecoder = upstream.decoder()
        self._encoder = caller.encoder(conversation)
        self.seen = Seen()
        self._text: list[str] = []

    def feed(self, data: bytes) -> bytes:
        return self._encode(self._decoder.feed(data))

    def finish(self) -> bytes:
        return self._encode(self._decoder.finish())

    def text_of(self, data: bytes) -> str:
        """Text of the deltas since it was last asked."""
        text = "".join(self._text)
        self._text.clear()
        return text

    def error(self, error: CallError) -> bytes:
        return self._encoder.error(error)

    def _encode(self, deltas: Sequence[Delta]) -> bytes:
        out = []
        for delta in deltas:
            self._note(delta)
            if type(delta) is Failed:
                break  # the pipeline says it, in the caller's dialect
            out.append(self._encoder.encode(delta))
        return b"".join(out)

    def _note(self, delta: Delta) -> None:
        seen = self.seen
        match delta:
            case PartDelta():
                seen.started = seen.started or bool(delta.text)
                seen.output_chars += len(delta.text)
                if len(self._text) < TEXTS_KEPT_MAX:
                    self._text.append(delta.text)
            case Started():
                seen.id, seen.model, seen.fingerprint, seen.tier = delta.id, delta.model, delta.fingerprint, delta.tier
                if delta.usage != Usage():
                    seen.usage = delta.usage
            case Finished():
                seen.stop, seen.ended = delta.stop, True
                if delta.usage != Usage():
                    seen.usage = seen.usage.merged(delta.usage) if seen.usage else delta.usage
            case Failed():
                seen.failed, seen.failed_message = delta.kind or "error", delta.message
            case PartStarted():
                seen.started = seen.started or delta.kind == "tool_use"
            case _:
                pass
        seen.events += 1


TEXTS_KEPT_MAX = 1_024
"""Deltas whose text waits for a policy to read it; where none does, later ones are not kept."""


def failure_in(seen: Seen) -> UpstreamFailed:
    """What the upstream reported inside its stream, as an error of ours."""
    return UpstreamFailed(seen.failed_message or f"the provider reported {seen.failed}", code="upstream_stream_error")


def deltas_of(answer: Answer) -> list[Delta]:
    """A whole answer as the stream it could have been: for callers that asked to stream where the upstream did not."""
    out: list[Delta] = [Started(id=answer.id, model=answer.model, created_s=answer.created_s, usage=answer.usage)]
    for index, part in enumerate(answer.parts):
        match part:
            case Text():
                out += [PartStarted(index=index, kind="text"), PartDelta(index=index, text=part.text)]
            case Thinking():
                out += [
                    PartStarted(index=index, kind="thinking"),
                    PartDelta(index=index, text=part.text, signature=part.signature, encrypted=part.encrypted),
                ]
            case ToolUse():
                out += [
                    PartStarted(index=index, kind="tool_use", id=part.id, name=part.name),
                    PartDelta(index=index, text=part.arguments),
                ]
            case Refusal():
                out += [PartStarted(index=index, kind="refusal"), PartDelta(index=index, text=part.text)]
            case _:
                continue
        out.append(PartEnded(index=index))
    out.append(Finished(stop=answer.stop, stop_sequence=answer.stop_sequence, usage=answer.usage))
    return out
