"""Requests and streams of the three dialects as a caller writes and reads them, independent of the gateway's own codecs.

A second opinion: nothing here is shared with ``gateway/dialects``, so that a mistake there does not hide itself here.
"""

import json
from typing import Any

import msgspec

CHAT, RESPONSES, MESSAGES = "openai-chat", "openai-responses", "anthropic"
DIALECTS = (CHAT, RESPONSES, MESSAGES)
PATHS = {CHAT: "/v1/chat/completions", RESPONSES: "/v1/responses", MESSAGES: "/v1/messages"}
Json = dict[str, Any]


def body_of(dialect: str, model: str, text: str, *, stream: bool = False, max_tokens: int = 512, **more: Any) -> bytes:
    """A request with one user turn."""
    turns = [{"role": "user", "content": text}]
    body: Json = {"model": model}
    if dialect == RESPONSES:
        body |= {"input": turns, "max_output_tokens": max_tokens, "store": False}
    else:
        body |= {"messages": turns, "max_tokens": max_tokens}
    if stream:
        body["stream"] = True
    return json.dumps(body | more, ensure_ascii=False).encode()


def headers_of(dialect: str, key: str, *more: tuple[str, str]) -> list[tuple[str, str]]:
    """As the official clients send them."""
    own = [("x-api-key", key), ("anthropic-version", "2023-06-01")] if dialect == MESSAGES else [("authorization", f"Bearer {key}")]
    return [*own, ("content-type", "application/json"), *more]


class SseEvent(msgspec.Struct, frozen=True):
    """``data`` is text; ``fields`` names every field that the event had."""

    event: str
    data: str
    fields: frozenset[str] = frozenset()

    def json(self) -> Any:
        return json.loads(self.data)


def sse_events(stream: bytes) -> list[SseEvent]:
    """Whole events as the WHATWG rules read them; a torn event at the end is not one. Comments give none."""
    text = stream.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    blocks = text.split("\n\n")
    return [event for block in blocks[:-1] if (event := _event(block)) is not None]


def _event(block: str) -> SseEvent | None:
    name, data, fields = "", [], set()
    for line in block.split("\n"):
        if not line or line.startswith(":"):
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        fields.add(field)
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)
    return SseEvent(name, "\n".join(data), frozenset(fields)) if fields else None


class StreamEnd(msgspec.Struct, frozen=True):
    """How a stream ended to its reader. ``clean`` is the dialect's own end, ``error`` its error event, and neither is a torn stream."""

    clean: bool
    error: bool
    message: str = ""
    after: int = 0
    """Events after the end or the error: there may be none."""


def stream_end(dialect: str, stream: bytes) -> StreamEnd:
    """Where a reader stops. Errors in a row are one (Responses says ``error`` and then ``response.failed``)."""
    events = sse_events(stream)
    found: StreamEnd | None = None
    for place, event in enumerate(events):
        ending = _ends[dialect](event)
        if ending is None or (found is not None and not (found.error and ending[0])):
            continue
        error, message = ending
        found = StreamEnd(clean=not error, error=error, message=message, after=len(events) - place - 1)
    return found or StreamEnd(clean=False, error=False)


def _chat_end(event: SseEvent) -> tuple[bool, str] | None:
    if event.data == "[DONE]":
        return False, ""
    body = event.json()
    return (True, str(body["error"]["message"])) if isinstance(body.get("error"), dict) else None


def _responses_end(event: SseEvent) -> tuple[bool, str] | None:
    body = event.json()
    kind = body.get("type")
    if kind in ("response.completed", "response.incomplete"):
        return False, ""
    if kind == "response.failed":
        return True, str(body["response"]["error"]["message"])
    return (True, str(body.get("message", ""))) if kind == "error" else None


def _messages_end(event: SseEvent) -> tuple[bool, str] | None:
    body = event.json()
    if body["type"] == "message_stop":
        return False, ""
    return (True, str(body["error"]["message"])) if body["type"] == "error" else None


_ends = {CHAT: _chat_end, RESPONSES: _responses_end, MESSAGES: _messages_end}
