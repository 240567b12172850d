"""Streams of OpenAI's Responses dialect: deltas in, events out.

Each event carries a sequence number. An item is added before anything is said of it, each of its parts is added before its first
delta, all are done before the end, and the end is response.completed, response.incomplete or response.failed, always last.
Items may run side by side, so nothing waits here.
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
    Thinking,
    ToolUse,
)
from headway.gateway.dialects.openai_chat_answer import error_object
from headway.gateway.dialects.responses_answer import (
    call_item,
    encode_usage,
    item_id,
    message_item,
    reason_of,
    reasoning_item,
    response,
    response_id,
    status_of,
    text_content,
)
from headway.gateway.dialects.sse import write
from headway.kernel.errors import CallError

Json = dict[str, Any]

_TEXT, _REFUSAL, _CALL, _THOUGHT = "text", "refusal", "tool_use", "thinking"


class _Item:
    """An item being sent."""

    __slots__ = ("call_id", "encrypted", "id", "kind", "name", "opened", "signature", "source_id", "texts")

    def __init__(self, start: PartStarted) -> None:
        self.kind, self.call_id, self.name = start.kind, start.id, start.name
        self.source_id = start.id if start.kind == _THOUGHT else ""
        self.texts: list[str] = []
        self.signature = self.encrypted = self.id = ""
        self.opened = False

    @property
    def text(self) -> str:
        return "".join(self.texts)


class ResponsesEncoder:
    """Events for a caller. Text and thinking become items with their first word, so that no empty item is shown."""

    def __init__(self, conversation: Conversation) -> None:
        self._model = conversation.model
        self._id = response_id("")
        self._created_s = 0
        self._sequence = 0
        self._items: dict[int, tuple[int, _Item]] = {}
        """Open items by part, with their output index (-1 while unopened)."""
        self._output: list[Json | None] = []
        self._started = self._over = self._refused = False

    def encode(self, delta: Delta) -> bytes:
        if self._over:
            return b""
        match delta:
            case PartDelta():
                return self._part_delta(delta)
            case PartStarted():
                return self._part_started(delta)
            case PartEnded():
                return self._part_ended(delta.index)
            case Started():
                return self._begin(delta.id, delta.model, delta.created_s)
            case Finished():
                return self._finish(delta)
            case Failed():
                return self._fail(_error_fields(delta.kind, _CODES.get(delta.kind, delta.kind), delta.message))
            case Alive():
                return PING

    def error(self, error: CallError) -> bytes:
        return b"" if self._over else self._fail(error_object(error))

    def _event(self, name: str, /, **fields: Any) -> bytes:
        body = {"type": name, "sequence_number": self._sequence, **fields}
        self._sequence += 1
        return write(msgspec.json.encode(body), name)

    def _response(self, status: str, **fields: Any) -> Json:
        output = [item for item in self._output if item is not None]
        return response(id=self._id, model=self._model, created_s=self._created_s, status=status, output=output, **fields)

    def _begin(self, id: str, model: str, created_s: int) -> bytes:
        if self._started:
            return b""
        self._started = True
        self._id, self._model, self._created_s = response_id(id), model or self._model, created_s
        opening = self._event("response.created", response=self._response("in_progress"))
        return opening + self._event("response.in_progress", response=self._response("in_progress"))

    def _part_started(self, start: PartStarted) -> bytes:
        out = self._begin("", "", 0)
        if start.index in self._items:
            return out
        item = _Item(start)
        self._items[start.index] = (-1, item)
        self._refused |= start.kind == _REFUSAL
        return out + self._open(start.index) if start.kind == _CALL else out

    def _open(self, part: int) -> bytes:
        """The item is added, with the part that its first delta belongs to."""
        item = self._items[part][1]
        output = len(self._output)
        self._output.append(None)
        self._items[part] = (output, item)
        item.opened = True
        match item.kind:
            case "tool_use":
                item.id = item_id("fc", self._id, output)
                shown = call_item(item.id, "in_progress", ToolUse(id=item.call_id, name=item.name, arguments=""))
                return self._event("response.output_item.added", output_index=output, item=shown)
            case "thinking":
                item.id = item.source_id or item_id("rs", self._id, output)
                shown = reasoning_item(item.id, "in_progress", Thinking())
                return self._event("response.output_item.added", output_index=output, item=shown)
        item.id = item_id("msg", self._id, output)
        shown = message_item(item.id, "in_progress", [])
        added = self._event("response.output_item.added", output_index=output, item=shown)
        return added + self._event("response.content_part.added", **_at(item, output), part=_said(item.kind, ""))

    def _part_delta(self, delta: PartDelta) -> bytes:
        if delta.index not in self._items:
            return b""
        item = self._items[delta.index][1]
        item.signature = delta.signature or item.signature
        item.encrypted = delta.encrypted or item.encrypted
        if not delta.text:
            return b""
        out = b"" if item.opened else self._open(delta.index)
        output = self._items[delta.index][0]
        if item.kind == _THOUGHT and not item.texts:
            out += self._event("response.reasoning_summary_part.added", **_at(item, output), part=_summary(""))
        item.texts.append(delta.text)
        extra: Json = {"logprobs": []} if item.kind == _TEXT else {}
        return out + self._event(_DELTAS[item.kind], **_at(item, output), delta=delta.text, **extra)

    def _part_ended(self, part: int) -> bytes:
        if part not in self._items:
            return b""
        item = self._items[part][1]
        out = b""
        if not item.opened:
            if not (item.signature or item.encrypted):
                del self._items[part]
                return b""
            out = self._open(part)
        output, item = self._items.pop(part)
        out += self._done(item, output)
        whole = _whole(item)
        self._output[output] = whole
        return out + self._event("response.output_item.done", output_index=output, item=whole)

    def _done(self, item: _Item, output: int) -> bytes:
        """What ends the item's parts."""
        at, text = _at(item, output), item.text
        match item.kind:
            case "tool_use":
                return self._event("response.function_call_arguments.done", **at, arguments=text)
            case "thinking":
                if not item.texts:
                    return b""
                done = self._event("response.reasoning_summary_text.done", **at, text=text)
                return done + self._event("response.reasoning_summary_part.done", **at, part=_summary(text))
            case "refusal":
                done = self._event("response.refusal.done", **at, refusal=text)
            case _:
                done = self._event("response.output_text.done", **at, text=text, logprobs=[])
        return done + self._event("response.content_part.done", **at, part=_said(item.kind, text))

    def _finish(self, finished: Finished) -> bytes:
        out = self._begin("", "", 0)
        for part in list(self._items):
            out += self._part_ended(part)
        self._over = True
        status = status_of(finished.stop, refused=self._refused)
        last = self._response(status, reason=reason_of(finished.stop), usage=encode_usage(finished.usage))
        return out + self._event(f"response.{status}", response=last)

    def _fail(self, error: Json) -> bytes:
        """The error twice: clients raise on the first form or on the second, and some wait for a last event of the response."""
        out = self._begin("", "", 0)
        self._over = True
        out += self._event("error", **_both_forms(error))
        shown = {"code": error["code"], "message": error["message"]}
        return out + self._event("response.failed", response=self._response("failed", error=shown))


# Anthropic's kinds in the words that OpenAI's clients decide on.
_CODES = {
    "api_error": "server_error",
    "authentication_error": "invalid_api_key",
    "billing_error": "insufficient_quota",
    "not_found_error": "model_not_found",
    "overloaded_error": "server_is_overloaded",
    "rate_limit_error": "rate_limit_exceeded",
    "timeout_error": "server_error",
}

_DELTAS = {
    "text": "response.output_text.delta",
    "refusal": "response.refusal.delta",
    "tool_use": "response.function_call_arguments.delta",
    "thinking": "response.reasoning_summary_text.delta",
}


def _at(item: _Item, output: int) -> Json:
    """Where in the answer an event belongs."""
    place: Json = {"item_id": item.id, "output_index": output}
    if item.kind == _THOUGHT:
        place["summary_index"] = 0
    elif item.kind != _CALL:
        place["content_index"] = 0
    return place


def _said(kind: str, text: str) -> Json:
    return {"type": "refusal", "refusal": text} if kind == _REFUSAL else text_content(text)


def _summary(text: str) -> Json:
    return {"type": "summary_text", "text": text}


def _whole(item: _Item) -> Json:
    match item.kind:
        case "tool_use":
            return call_item(item.id, "completed", ToolUse(id=item.call_id, name=item.name, arguments=item.text))
        case "thinking":
            thought = Thinking(text=item.text, signature=item.signature, encrypted=item.encrypted, id=item.source_id)
            return reasoning_item(item.id, "completed", thought)
    return message_item(item.id, "completed", [_said(item.kind, item.text)])


def _error_fields(kind: str, code: str, message: str) -> Json:
    return {"type": kind, "code": code, "message": message, "param": None}


def _both_forms(error: Json) -> Json:
    """The reference documents the fields flat; OpenAI itself sends them under ``error``, and its client raises on that alone."""
    return {"code": error["code"], "message": error["message"], "param": error["param"], "error": error}


PING = b": ping\n"
"""A comment that ends with one newline: it joins the next event, so that no client sees an empty one."""


def error_event(error: CallError, *, id: str = "", sequence: int = 0) -> bytes:
    """What ends a stream that passed through. ``id`` and ``sequence`` are of the response on its way, where known."""
    first = {"type": "error", "sequence_number": sequence, **_both_forms(error_object(error))}
    shown = response(
        id=response_id(id),
        model="",
        created_s=0,
        status="failed",
        output=[],
        error={"code": error.reason, "message": error.message},
    )
    last = {"type": "response.failed", "sequence_number": sequence + 1, "response": shown}
    return write(msgspec.json.encode(first), "error") + write(msgspec.json.encode(last), "response.failed")
