"""Streams of OpenAI's chat dialect: chunks in, deltas out."""

from collections.abc import Sequence

import msgspec

from headway.calls.conversation import Alive, Delta, Failed, Finished, PartDelta, PartEnded, PartStarted, Started, StopReason, Usage
from headway.gateway.dialects.openai_chat_answer import content_of, decode_usage, failure, stop_of
from headway.gateway.dialects.openai_chat_chunk import Chunk, ChunkDelta, FunctionDelta, ToolDelta, read_chunk, text_of
from headway.gateway.dialects.reading import Fields
from headway.gateway.dialects.sse import Event, Parser
from headway.kernel.errors import UpstreamFailed

_TEXT, _THOUGHT, _REFUSAL, _CALL = "text", "thinking", "refusal", "tool_use"


class _Call:
    """A tool call being received. It starts as a part when its name is known."""

    __slots__ = ("early", "id", "name", "part")

    def __init__(self, id: str) -> None:
        self.id, self.name = id, ""
        self.part = -1
        self.early = ""
        """Arguments that came before the name."""


class ChatDecoder:
    """Deltas of a provider's stream; only its first choice. What follows an error or ``[DONE]`` is passed over."""

    def __init__(self) -> None:
        self._parser = Parser()
        self._comments = 0
        self._next = 0
        self._open: tuple[str, int] | None = None
        """(kind, index) of the text under way: there is one at a time."""
        self._calling: list[int] = []
        """Parts of tool calls under way. Their arguments may come in turns, so all end together, at the end."""
        self._calls: dict[int, _Call] = {}
        self._started = self._over = self._refused = False
        self._reason = ""
        self._usage = Usage()

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
        for kind, data in events:
            if self._over:
                break
            deltas += self._done() if data.startswith(b"[DONE]") else self._event(kind, data)
        return deltas

    def _event(self, kind: str, data: bytes) -> list[Delta]:
        chunk = read_chunk(data)
        if kind == "error" or (chunk is not None and chunk.has_error):
            self._over = True
            name, message, status = failure(data)
            return [Failed(kind=name or "error", message=message, status=status)]
        if chunk is None:
            raise UpstreamFailed("The provider's stream holds an event that is no chat chunk.", code="bad_stream")
        return self._chunk(chunk)

    def _done(self) -> list[Delta]:
        self._over = True
        if not self._started:
            return []
        used_tool = any(call.part >= 0 for call in self._calls.values())
        stop = stop_of(self._reason, used_tool=used_tool, refused=self._refused) if self._reason else StopReason.UNKNOWN
        return [*self._close(), Finished(stop=stop, usage=self._usage)]

    def _chunk(self, chunk: Chunk) -> list[Delta]:
        deltas: list[Delta] = []
        choices = [choice for choice in chunk.choices or () if choice.index == 0]
        if not self._started and choices:
            self._started = True
            deltas.append(
                Started(
                    id=chunk.id or "",
                    model=chunk.model or "",
                    created_s=int(chunk.created or 0),
                    fingerprint=chunk.system_fingerprint or "",
                    tier=chunk.tier,
                )
            )
        if chunk.has_usage and (usage := decode_usage(chunk.usage)) is not None:
            self._usage = self._usage.merged(usage)
        for choice in choices:
            if choice.delta is not None:
                deltas += self._delta(choice.delta)
            if choice.finish_reason:
                self._reason = choice.finish_reason
                deltas += self._close()
        return deltas

    def _delta(self, delta: ChunkDelta) -> list[Delta]:
        deltas: list[Delta] = []
        if thought := delta.thought:
            deltas += self._say(_THOUGHT, thought)
        for kind, text in _pieces(delta.content):
            deltas += self._say(kind, text)
        if delta.refusal:
            self._refused = True
            deltas += self._say(_REFUSAL, delta.refusal)
        for call in delta.tool_calls or ():
            deltas += self._call(call)
        if delta.function_call is not None:  # legacy: one call, without id
            deltas += self._call(ToolDelta(index=-1, function=delta.function_call))
        return deltas

    def _close_text(self) -> list[Delta]:
        if self._open is None:
            return []
        ended = PartEnded(index=self._open[1])
        self._open = None
        return [ended]

    def _close(self) -> list[Delta]:
        ended = [PartEnded(index=part) for part in self._calling]
        self._calling.clear()
        return [*self._close_text(), *ended]

    def _start(self, kind: str, *, id: str = "", name: str = "") -> list[Delta]:
        closed = self._close_text()
        if kind == _CALL:
            self._calling.append(self._next)
        else:
            self._open = (kind, self._next)
        self._next += 1
        return [*closed, PartStarted(index=self._next - 1, kind=kind, id=id, name=name)]

    def _say(self, kind: str, text: str) -> list[Delta]:
        deltas = self._start(kind) if self._open is None or self._open[0] != kind else []
        assert self._open is not None
        return [*deltas, PartDelta(index=self._open[1], text=text)]

    def _call(self, delta: ToolDelta) -> list[Delta]:
        call = self._call_of(delta)
        function = delta.function or FunctionDelta()
        arguments = _arguments(function.arguments)
        if call.part < 0:
            call.name += function.name or ""
            call.early += arguments
            if not call.name:
                return []
            deltas = self._start(_CALL, id=call.id, name=call.name)
            call.part = self._next - 1
            return [*deltas, PartDelta(index=call.part, text=call.early)] if call.early else deltas
        if not arguments:
            return []
        if call.part not in self._calling:
            raise UpstreamFailed("The provider went on with a tool call after the end of its answer.", code="bad_stream")
        return [PartDelta(index=call.part, text=arguments)]

    def _call_of(self, delta: ToolDelta) -> _Call:
        """By index; some engines leave it out, or give every call the index 0 and an id of its own."""
        latest = len(self._calls) - 1
        key = delta.index if delta.index is not None else latest if latest >= 0 and not delta.id else latest + 1
        call = self._calls.get(key)
        if call is not None and delta.id and call.id != delta.id and call.part >= 0:
            self._calls[len(self._calls) + 1_000] = call
            call = None
        if call is None:
            call = self._calls[key] = _Call(delta.id or f"call_{max(latest + 1, 0)}")
        elif delta.id and call.part < 0:
            call.id = delta.id
        return call


def _pieces(content: msgspec.Raw) -> list[tuple[str, str]]:
    raw = bytes(content)
    if raw.startswith(b'"'):
        text = text_of(content)
        return [(_TEXT, text)] if text else []
    if raw.startswith(b"["):
        return content_of(Fields({"content": content}, "the provider's stream", UpstreamFailed))
    return []


def _arguments(raw: msgspec.Raw) -> str:
    """Text; some engines give the object itself."""
    value = bytes(raw)
    return text_of(raw) if value.startswith(b'"') else "" if value in (b"", b"null") else value.decode()
