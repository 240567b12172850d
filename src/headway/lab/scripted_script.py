"""What a scripted answer is told to do: the whole of the misbehaviour that a real upstream can show, as one flat value.

Three ways to hand one in, the first that applies wins:

- ``POST /_script`` queues one, for the next ``times`` requests whose body holds ``match``;
- the prompt holds ``<<cut_after=3 delay_ms=5>>`` anywhere, which crosses every translation between dialects;
- the model name ends in ``?cut_after=3&delay_ms=5``.
"""

import re
from urllib.parse import parse_qsl

import msgspec

QUEUED_SCRIPTS_MAX = 10_000


class ScriptError(ValueError):
    """A directive that no field of Script understands. ``str()`` says which."""


class Script(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every field has a default that changes nothing. "Event" below is one SSE event of the answer, "piece" one write."""

    mark: str = ""
    """A word of the test's own; it comes back in ``/_seen``."""
    match: str = ""
    """Only requests whose body holds this."""
    times: int = 1
    """How many requests it serves; 0 is without end. Only for queued scripts."""

    # What is said.
    recording: str = ""
    """Replay this recording of the request's dialect instead of answering."""
    status: int = 200
    """From 400 on: the dialect's error body."""
    kind: str = ""
    """Error type in that body; by status when empty."""
    message: str = ""
    headers: dict[str, str] = {}
    body: str | None = None
    """Sent verbatim in place of an answer."""
    content_type: str = ""
    text: str | None = None
    words: int | None = None
    """Length of the answer: so many words, each one delta."""
    repeat: int = 0
    """The second event of a stream (the padding, with ``oversize_bytes``) so many times more: a long stream that is cheap to make."""
    tools: int | None = None
    """So many parallel tool calls, taken in turn from the tools offered."""
    thinking: bool = False
    usage: bool = True
    cached_tokens: int = 0
    stop: str = ""
    """``length`` ends for want of room."""
    answered: str = ""
    """Model name in the answer; that of the request when empty."""

    # How it is sent.
    head_delay_ms: float = 0
    delay_ms: float = 0
    """Before each event after the first."""
    jitter_ms: float = 0
    """Added to ``delay_ms``, by the request's hash: 0 up to this."""
    ping_every_ms: float = 0
    """While waiting: a comment (OpenAI) or a ping event (Anthropic)."""
    split_at: tuple[int, ...] = ()
    """Byte offsets of the body at which a write ends."""
    split_bytes: int = 0
    """Writes of this size."""
    split_pause_ms: float = 1.0
    merge: bool = False
    """The whole body in one write."""
    crlf: bool = False
    gzip: bool = False
    framing: str = "chunked"
    """Of a stream: chunked, or ``close`` (no length, ended by closing)."""

    # How it goes wrong.
    cut_after: int | None = None
    """Close after so many events."""
    cut_bytes: int | None = None
    """Close after so many bytes of the body."""
    cut_how: str = "close"
    """close, reset, or ``end``: the chunked body ends properly, only the dialect's terminator is missing."""
    error_at: int | None = None
    """The dialect's error event in place of event n, and then the end."""
    silence_after: int | None = None
    """Say nothing more after so many events, until the peer closes."""
    garbage_bytes: int = 0
    """So many bytes of noise instead of a body."""
    oversize_bytes: int = 0
    """Pad the body (or, in a stream, one event) to this size."""
    rate_limit: bool = False
    """Rate-limit headers of the dialect, and Retry-After when the status is an error."""
    retry_after_ms: int | None = None
    drop_request: bool = False
    """Close without a byte of answer."""


_DIRECTIVE = re.compile(rb"<<([a-z_]+=[^<>\"\\]{0,200})>>")


def directive_in(body: bytes) -> Script | None:
    """The script in a prompt, if there is one. Raises ScriptError."""
    found = _DIRECTIVE.search(body)
    return None if found is None else _converted(dict(word.partition("=")[::2] for word in found[1].decode().split()))


def directive_of_model(model: str) -> Script | None:
    """The script at the end of a model name. Raises ScriptError."""
    _, mark, query = model.partition("?")
    return _converted(dict(parse_qsl(query))) if mark else None


def _converted(fields: dict[str, str]) -> Script:
    values: dict[str, object] = dict(fields)
    if "split_at" in fields:
        values["split_at"] = tuple(int(n) for n in fields["split_at"].split(","))
    try:
        return msgspec.convert(values, Script, strict=False)
    except (msgspec.ValidationError, ValueError) as error:
        raise ScriptError(f"scripted upstream: cannot read the directive {fields}: {error}") from None


class ScriptQueue:
    """Scripts waiting for their requests, in the order in which they were queued. Past QUEUED_SCRIPTS_MAX the oldest is dropped."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Script, int]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, script: Script) -> None:
        self._waiting.append((script, script.times))
        del self._waiting[:-QUEUED_SCRIPTS_MAX]

    def clear(self) -> None:
        self._waiting.clear()

    def take(self, body: bytes) -> Script | None:
        for place, (script, left) in enumerate(self._waiting):
            if script.match and script.match.encode() not in body:
                continue
            if left == 1:
                del self._waiting[place]
            elif left > 1:
                self._waiting[place] = (script, left - 1)
            return script
        return None
