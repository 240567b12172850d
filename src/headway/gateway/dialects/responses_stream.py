"""Streams of OpenAI's Responses dialect: events in, deltas out.

``responses_events.py`` is the other way.
"""

from collections.abc import Sequence

from headway.calls.conversation import Alive, Delta, Failed, Finished, PartDelta, PartEnded, PartStarted, Started
from headway.gateway.dialects.reading import Fields
from headway.gateway.dialects.responses_answer import decode_usage, failure, stop_of
from headway.gateway.dialects.sse import Event, Parser
from headway.kernel.errors import UpstreamFailed

_Key = tuple[int, str, int]
"""(output index, what, content index) of a part."""

_TEXT, _REFUSAL, _CALL, _THOUGHT = "text", "refusal", "tool_use", "thinking"
_CONTENT_KINDS = {"output_text": _TEXT, "refusal": _REFUSAL}
_PARAGRAPH = "\n\n"


class _Heard:
    """A part being received."""

    __slots__ = ("index", "length", "paragraph", "sealed")

    def __init__(self, index: int) -> None:
        self.index = index
        self.length = 0
        """Characters that have come as deltas: what a later whole text has beyond them is still to be said."""
        self.paragraph: tuple[str, int] | None = None
        self.sealed = False


class ResponsesDecoder:
    """Deltas of a provider's stream. Items of hosted tools are passed over.

    Some engines leave out the events that announce a part, or send a text only whole: a part then starts with its first word.
    """

    def __init__(self) -> None:
        self._parser = Parser()
        self._comments = 0
        self._parts: dict[_Key, _Heard] = {}
        self._next = 0
        self._started = self._over = False
        self._used_tool = self._refused = False

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
            if not self._over and data != b"[DONE]":
                deltas += self._event(kind, Fields.parse(data, "the provider's stream", UpstreamFailed))
        return deltas

    def _event(self, kind: str, event: Fields) -> list[Delta]:
        name = event.text("type") or kind
        match name:
            case "response.output_text.delta":
                return self._say(_TEXT, event)
            case "response.function_call_arguments.delta":
                return self._say(_CALL, event)
            case "response.refusal.delta":
                return self._say(_REFUSAL, event)
            case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta":
                return self._think(event)
            case "response.output_item.added":
                return self._item_added(event)
            case "response.output_item.done":
                return self._item_done(event)
            case "response.content_part.added":
                return self._content_added(event)
            case "response.output_text.done":
                return self._whole(_TEXT, event, event.text("text"))
            case "response.refusal.done":
                return self._whole(_REFUSAL, event, event.text("refusal"))
            case "response.function_call_arguments.done":
                return self._whole(_CALL, event, event.text("arguments"))
            case "response.created" | "response.in_progress" | "response.queued":
                return self._created(event)
            case "response.completed" | "response.incomplete":
                return self._finished(event)
            case "response.failed" | "error":
                return self._failed(name, event)
            case "keepalive" | "ping":
                return [Alive()]
        return []

    def _created(self, event: Fields) -> list[Delta]:
        if self._started:
            return []
        self._started = True
        made = _response_of(event)
        return [Started(id=made.text("id"), model=made.text("model"), created_s=int(made.maybe("created_at", float) or 0))]

    def _key(self, kind: str, event: Fields) -> _Key:
        content = event.maybe("content_index", int) or 0 if kind in (_TEXT, _REFUSAL) else 0
        return event.maybe("output_index", int) or 0, kind, content

    def _start(self, key: _Key, *, id: str = "", name: str = "") -> list[Delta]:
        if key in self._parts:
            return []
        self._parts[key] = _Heard(self._next)
        self._next += 1
        self._used_tool |= key[1] == _CALL
        self._refused |= key[1] == _REFUSAL
        return [PartStarted(index=self._next - 1, kind=key[1], id=id, name=name)]

    def _say(self, kind: str, event: Fields) -> list[Delta]:
        key, piece = self._key(kind, event), event.need("delta", str)
        deltas = self._start(key)
        part = self._parts[key]
        part.length += len(piece)
        deltas.append(PartDelta(index=part.index, text=piece))
        return deltas

    def _think(self, event: Fields) -> list[Delta]:
        """Paragraphs of a summary, and reasoning shown beside it, are one part with an empty line between."""
        key, piece = self._key(_THOUGHT, event), event.need("delta", str)
        deltas = self._start(key, id=event.text("item_id"))
        part = self._parts[key]
        paragraph = (event.text("type"), event.maybe("summary_index", int) or event.maybe("content_index", int) or 0)
        if part.paragraph not in (None, paragraph):
            piece = _PARAGRAPH + piece
        part.paragraph = paragraph
        part.length += len(piece)
        deltas.append(PartDelta(index=part.index, text=piece))
        return deltas

    def _whole(self, kind: str, event: Fields, text: str) -> list[Delta]:
        """What of a finished text has not come in deltas."""
        key = self._key(kind, event)
        deltas = self._start(key) if text else []
        return deltas + self._beyond(key, text)

    def _beyond(self, key: _Key, text: str) -> list[Delta]:
        part = self._parts.get(key)
        if part is None or len(text) <= part.length:
            return []
        rest, part.length = text[part.length :], len(text)
        return [PartDelta(index=part.index, text=rest)]

    def _item_added(self, event: Fields) -> list[Delta]:
        item = event.object("item")
        if item is None:
            return []
        match item.text("type"):
            case "function_call":
                key = self._key(_CALL, event)
                return self._start(key, id=item.text("call_id"), name=item.text("name")) + self._beyond(key, item.text("arguments"))
            case "reasoning":
                return self._start(self._key(_THOUGHT, event), id=item.text("id"))
        return []

    def _content_added(self, event: Fields) -> list[Delta]:
        part = event.object("part")
        kind = _CONTENT_KINDS.get(part.text("type")) if part is not None else None
        if part is None or kind is None:
            return []
        key = self._key(kind, event)
        return self._start(key) + self._beyond(key, part.text("text") or part.text("refusal"))

    def _item_done(self, event: Fields) -> list[Delta]:
        item = event.object("item")
        if item is None:
            return []
        deltas: list[Delta] = []
        output = event.maybe("output_index", int) or 0
        match item.text("type"):
            case "message":
                for at, content in enumerate(item.objects("content")):
                    if (kind := _CONTENT_KINDS.get(content.text("type"))) is not None:
                        deltas += self._all_of((output, kind, at), content.text("text") or content.text("refusal"))
            case "function_call":
                key = (output, _CALL, 0)
                deltas += self._start(key, id=item.text("call_id"), name=item.text("name"))
                deltas += self._beyond(key, item.text("arguments"))
            case "reasoning":
                deltas += self._thought_done(output, item)
            case _:
                return []
        return deltas + self._close(output)

    def _all_of(self, key: _Key, text: str) -> list[Delta]:
        return (self._start(key) if text else []) + self._beyond(key, text)

    def _thought_done(self, output: int, item: Fields) -> list[Delta]:
        key = (output, _THOUGHT, 0)
        deltas = self._start(key, id=item.text("id"))
        part = self._parts[key]
        if not part.length:
            paragraphs = [piece.text("text") for name in ("summary", "content") for piece in item.objects(name)]
            deltas += self._beyond(key, _PARAGRAPH.join(paragraphs))
        if (encrypted := item.text("encrypted_content")) and not part.sealed:
            part.sealed = True
            deltas.append(PartDelta(index=part.index, encrypted=encrypted))
        return deltas

    def _close(self, output: int | None = None) -> list[Delta]:
        """Ends the parts of one item, or all. They stay known by index -1, so that a late repetition says nothing twice."""
        deltas: list[Delta] = []
        for key, part in self._parts.items():
            if part.index >= 0 and output in (None, key[0]):
                deltas.append(PartEnded(index=part.index))
                part.index, part.length, part.sealed = -1, 1 << 62, True
        return deltas

    def _finished(self, event: Fields) -> list[Delta]:
        deltas = self._created(event) + self._close()
        self._over = True
        made = _response_of(event)
        stop = stop_of(made, used_tool=self._used_tool, refused=self._refused)
        return [*deltas, Finished(stop=stop, usage=decode_usage(made.object("usage")))]

    def _failed(self, name: str, event: Fields) -> list[Delta]:
        """The error may stand in the response, in the event itself, or under ``error`` in the event."""
        self._over = True
        if name == "response.failed":
            code, message = failure(_response_of(event))
        elif "error" in event:
            code, message = failure(event)
        else:
            code, message = event.text("code"), event.text("message")
        return [Failed(kind=code or "server_error", message=message or "The provider reported an error in the stream.")]


def _response_of(event: Fields) -> Fields:
    made = event.object("response")
    if made is None:
        raise event.wrong("response", "is required")
    return made
