"""What the pipeline asks of a dialect. Codecs hold no socket and read no clock; tests feed them bytes.

Within one dialect: ``scan`` the body, ``splice`` what must change, pass the rest, and put a ``Watcher`` over the answer.
Between two: ``decode_request`` with one codec, ``encode_request`` with the other; answers and streams the other way round.
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from headway.calls.conversation import Answer, Conversation, Delta, DialectName, StopReason, Usage
from headway.kernel.errors import CallError


class Scan(msgspec.Struct, frozen=True, kw_only=True):
    """The few top-level facts of a request body, read without building it.

    ``spans`` maps each top-level key to the byte offsets (start, end) of its value.
    """

    model: str
    stream: bool
    max_tokens: int | None
    spans: dict[str, tuple[int, int]]
    wants_stream_usage: bool = False
    prompt_bytes: int = 0
    """Bytes of messages, system, tools and input: what the token estimate is made of."""
    prefix_end: int = 0
    """Where the cacheable prompt ends in the body."""


class Seen(msgspec.Struct, kw_only=True):
    """What a Watcher has learnt of an answer so far. Mutable: it grows with the stream."""

    id: str = ""
    model: str = ""
    fingerprint: str = ""
    tier: str = ""
    """Service tier that served it, as the provider names it."""
    stop: StopReason | None = None
    usage: Usage | None = None
    """None until the provider reports it."""
    started: bool = False
    """A token of text, reasoning or tool arguments has come."""
    ended: bool = False
    """The dialect's own end has come ([DONE], message_stop, response.completed)."""
    failed: str = ""
    """Kind of an error the provider reported inside the stream."""
    failed_message: str = ""
    events: int = 0
    output_chars: int = 0
    """Characters of text seen, where cheap to know: what an estimate rests on when usage never comes."""


class Watcher(Protocol):
    """Looks at an answer passing in its own dialect. It must stay within a few microseconds a read."""

    seen: Seen

    def feed(self, data: bytes) -> bytes:
        """One read in, whole events out (a partial event at the end is kept back), with what the caller did not ask for removed."""
        ...

    def finish(self) -> bytes:
        """The stream has ended: the rest, if it is a whole event. A torn event is dropped; then ``seen.ended`` is False."""
        ...

    def text_of(self, data: bytes) -> str:
        """The text a reader would see in these whole events, for policies that read it."""
        ...


class StreamDecoder(Protocol):
    def feed(self, data: bytes) -> Sequence[Delta]:
        """Deltas of the events completed by ``data``, whatever the split."""
        ...

    def finish(self) -> Sequence[Delta]:
        """Nothing more comes. A stream without its dialect's end yields no Finished: the pipeline reports it as cut."""
        ...


class StreamEncoder(Protocol):
    def encode(self, delta: Delta) -> bytes:
        """Bytes of this dialect's events for one delta; may be empty. Started opens, Finished closes with the dialect's terminator."""
        ...

    def error(self, error: CallError) -> bytes:
        """The dialect's error event, after which nothing follows: never a clean terminator."""
        ...


class Dialect(Protocol):
    name: DialectName
    path: str
    """The upstream path, e.g. ``/v1/chat/completions``."""

    def scan(self, body: bytes) -> Scan:
        """Top-level facts. BadRequest for invalid JSON, duplicate top-level keys, a missing or non-string model, too deep, too many keys."""
        ...

    def splice(self, body: bytes, scan: Scan, *, model: str, want_usage: bool, max_tokens: int | None = None) -> bytes:
        """The body with ``model`` replaced, usage asked for in a stream, and a maximum set where the caller named none. All other bytes are equal."""
        ...

    def watcher(self, scan: Scan) -> Watcher: ...

    def see_answer(self, body: bytes) -> Seen:
        """The same facts from a whole answer."""
        ...

    def decode_request(self, body: bytes) -> tuple[Conversation, tuple[str, ...]]:
        """The conversation, and names of what has no place in it (only what this dialect itself cannot express through it)."""
        ...

    def encode_request(self, conversation: Conversation) -> tuple[bytes, tuple[str, ...]]:
        """A body, and the names of what this dialect cannot carry."""
        ...

    def decode_answer(self, body: bytes) -> Answer:
        """UpstreamFailed when the body is not an answer of this dialect."""
        ...

    def encode_answer(self, answer: Answer, *, model: str) -> bytes: ...

    def decoder(self) -> StreamDecoder: ...

    def encoder(self, conversation: Conversation) -> StreamEncoder: ...

    def error_body(self, error: CallError, *, request_id: str) -> bytes:
        """The whole JSON error body of this dialect."""
        ...

    def error_event(self, error: CallError) -> bytes:
        """The error event that ends a stream of this dialect after bytes were committed in pass-through."""
        ...

    def decode_error(self, status: int, body: bytes) -> tuple[str, str]:
        """(kind, message) out of a provider's error body in this dialect; kind '' when it is none."""
        ...

    def ping(self) -> bytes:
        """Bytes that keep a stream alive and that every tested client ignores."""
        ...

    def prefix(self, body: bytes, upto_tokens: int, bytes_per_token: float) -> bytes:
        """A valid body cut inside the last text at about ``upto_tokens``: max_tokens 1, not streamed, tools and system byte-equal."""
        ...
