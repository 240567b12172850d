"""One upstream connection on httptools: sends one request at a time, reads its answer, knows whether it may be used again.

    IDLE -> SENT -> READING -> IDLE          a clean answer on a connection that stays
                 \\-> GONE                   everything else: cut, dirty, too long, closed by the upstream

The parser is llhttp in its strict mode. What it does not judge is judged here: a length given twice, control characters, interim answers
without end, an upgrade nobody asked for, a head without end, bytes behind the end. A connection that has seen any of these is never used again.
"""

import asyncio
import functools
import re
import select
from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Final

import httptools

from headway.gateway.upstream.port import UpstreamError, UpstreamPhase
from headway.kernel.instants import MonoNs, mono_ns
from headway.kernel.limits import (
    UPSTREAM_HEAD_BYTES_MAX,
    UPSTREAM_HEAD_LINE_BYTES_MAX,
    UPSTREAM_HEADER_NAMES_KEPT,
    UPSTREAM_HEADERS_MAX,
    UPSTREAM_INTERIM_MAX,
    UPSTREAM_READ_BUFFER_BYTES,
)

_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_KEPT_FOR: Final = re.compile(rb"(?i)timeout\s*=\s*([0-9]{1,6})")
_BODILESS: Final = frozenset({204, 205, 304})


@functools.lru_cache(maxsize=UPSTREAM_HEADER_NAMES_KEPT)
def _name(raw: bytes) -> str:
    """A header's name as it is compared. An upstream sends the same ones each time."""
    return raw.decode("latin-1").lower()


class State(Enum):
    IDLE = "idle"
    SENT = "sent"
    READING = "reading"
    GONE = "gone"


def address_of(peer: object) -> str:
    """``host:port`` of a socket's peer name; empty for what is none."""
    if not isinstance(peer, tuple) or len(peer) < 2:
        return ""
    host, port = peer[:2]
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"


class Connection(asyncio.Protocol):
    """``on_free`` is called when it may take another request, ``on_gone`` when it never will."""

    def __init__(self, on_free: "Callable[[Connection], None]", on_gone: "Callable[[Connection], None]") -> None:
        self._on_free, self._on_gone = on_free, on_gone
        self._loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None
        self.state = State.IDLE
        self.idle_since = 0.0
        self.chunked = False
        """Whether the last answer came in chunks, as streams do."""
        self.address = ""
        self.poll: select.poll | None = None
        """Asks the kernel about this socket; made at the first reuse."""
        self.answers = 0
        self._waiter: asyncio.Future[None] | None = None
        # One parser for the connection: it goes on from one answer to the next, and tells of one that nobody asked for.
        self._parser = httptools.HttpResponseParser(self)
        self._reset()

    def _reset(self) -> None:
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self.head_at = self.read_at = MonoNs(0)
        """``read_at``: when the bytes came that were read last."""
        self.ended_at: MonoNs | None = None
        self.kept_s = float("inf")
        """How long the upstream says that it keeps the connection when idle (``Keep-Alive: timeout``)."""
        self.received = 0
        """Bytes read for this answer: silence is measured by it."""
        self.failure: UpstreamError | None = None
        self.complete = False
        self._raw: list[tuple[bytes, bytes]] = []
        self._head_done = False
        self._interim = 0
        self._head_bytes = 0
        self._parts: list[bytes] = []
        self._ready: deque[bytes] = deque()
        self._buffered = 0
        self._paused = False
        self._until_close = False
        self._dirty = False
        self._discard = False

    # --- the caller's side

    def send(self, head: bytes, body: bytes) -> None:
        """Write a request. The connection must be IDLE."""
        assert self.transport is not None
        self._reset()
        self.state = State.SENT
        if len(body) < UPSTREAM_READ_BUFFER_BYTES:
            self.transport.write(head + body)
        else:
            self.transport.writelines((head, body))

    @property
    def phase(self) -> UpstreamPhase:
        if self._head_done or self.complete:
            return UpstreamPhase.BODY
        unsent = self.transport is not None and self.transport.get_write_buffer_size() > 0
        return UpstreamPhase.SEND if unsent else UpstreamPhase.FIRST_BYTE

    @property
    def waiting(self) -> bool:
        """Somebody waits for bytes: only then does silence count."""
        return self._waiter is not None

    async def head(self) -> None:
        """Wait for status and headers. UpstreamError when they never come."""
        while not self._head_done and self.failure is None:
            await self._wait()
        if self.failure is not None and not self._head_done:
            raise self.failure

    async def part(self) -> bytes:
        """The next bytes of the body; empty at its end. UpstreamError when it broke off."""
        while True:
            if self._ready:
                data = self._ready.popleft()
                self._buffered -= len(data)
                if self._paused and self._buffered < UPSTREAM_READ_BUFFER_BYTES // 2 and self.transport is not None:
                    self._paused = False
                    self.transport.resume_reading()
                return data
            if self.failure is not None:
                raise self.failure
            if self.complete:
                return b""
            await self._wait()

    def release(self) -> None:
        """The answer has been read to its end, or is no longer wanted."""
        if self.state is State.READING and self.complete and not self._ready:
            self._settle()
        else:
            self.abort()

    def abort(self) -> None:
        """Drop the connection without flushing what is still to be sent: the upstream must not work on."""
        if self.state is State.GONE:
            return
        self.state = State.GONE
        if self.transport is not None:
            self.transport.abort()

    def fail(self, error: UpstreamError) -> None:
        """End it from outside: whoever waits gets ``error``."""
        if self.failure is None and not self.complete:
            self.failure = error
            self._wake()
        self.abort()

    def wake(self) -> None:
        self._wake()

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _settle(self) -> None:
        """Free for another request, when nothing about it is in doubt."""
        transport = self.transport
        clean = (
            not self._dirty
            and not self._until_close
            and transport is not None
            and not transport.is_closing()
            and transport.get_write_buffer_size() == 0
            and self._keeps_alive
        )
        if not clean:
            self.abort()
            return
        self.state = State.IDLE
        self.answers += 1
        self._on_free(self)

    # --- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # a stream transport, as create_connection makes

    def connection_lost(self, exc: Exception | None) -> None:
        if self.state in (State.SENT, State.READING) and not self.complete and self.failure is None:
            self.failure = UpstreamError(self._words_of_loss(exc), phase=self.phase)
        self.state = State.GONE
        self._wake()
        self._on_gone(self)

    def eof_received(self) -> bool:
        if self._until_close and self._head_done and not self.complete:
            self._flush_parts()
            self.complete, self.ended_at = True, mono_ns()
            self._wake()
        return False

    def data_received(self, data: bytes) -> None:
        self.read_at = mono_ns()
        if self.state is State.IDLE or self.complete:
            self._dirty = True  # nobody asked: whatever this is, it reaches no caller
            self.abort()
            return
        if self.state is State.GONE:
            return
        self.received += len(data)
        if not self._head_done:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._broken("the upstream changed the protocol without being asked")
            return
        except httptools.HttpParserError as error:
            if not self._ended():
                ours = error.__context__  # what a callback here raised
                words = "the answer is not valid HTTP" if self._head_done else "the answer's head is not valid HTTP"
                self.fail(ours if isinstance(ours, UpstreamError) else UpstreamError(words, phase=self.phase))
                return
            self._dirty = True  # junk behind the end spoils the connection, not the answer
        if not self._head_done and self._head_bytes > UPSTREAM_HEAD_BYTES_MAX:
            self._broken(f"the answer's head is longer than {UPSTREAM_HEAD_BYTES_MAX} bytes")
            return
        self._flush_parts()
        self._wake()

    def _flush_parts(self) -> None:
        """One read is one piece, however many chunks it held."""
        if not self._parts:
            return
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        self._ready.append(data)
        self._buffered += len(data)
        if self._buffered > UPSTREAM_READ_BUFFER_BYTES and not self._paused and self.transport is not None:
            self._paused = True
            self.transport.pause_reading()

    def _ended(self) -> bool:
        return self.complete

    def _broken(self, why: str) -> None:
        self.fail(UpstreamError(why, phase=self.phase))

    def _words_of_loss(self, exc: Exception | None) -> str:
        if self._head_done:
            return "the answer broke off: the upstream closed the connection before its end"
        if self._head_bytes:
            return "the upstream closed the connection inside the head of its answer"
        return f"the upstream closed the connection without an answer{f' ({exc})' if exc else ''}"

    # --- httptools' side

    def on_message_begin(self) -> None:
        if self.complete:
            self._dirty = self._discard = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._discard or self._head_done:
            return  # trailers, or an answer nobody asked for
        self._raw.append((name, value))
        if len(name) + len(value) > UPSTREAM_HEAD_LINE_BYTES_MAX:
            raise UpstreamError(f"a header of the answer is longer than {UPSTREAM_HEAD_LINE_BYTES_MAX} bytes", phase=self.phase)
        if len(self._raw) > UPSTREAM_HEADERS_MAX:
            raise UpstreamError(f"the answer has more than {UPSTREAM_HEADERS_MAX} headers", phase=self.phase)

    def on_headers_complete(self) -> None:
        if self._discard:
            return
        status = self._parser.get_status_code()
        if 100 <= status < 200:
            self._interim += 1
            self._raw.clear()
            if status == 101:
                raise UpstreamError("the upstream changed the protocol without being asked", phase=UpstreamPhase.BODY)
            if self._interim > UPSTREAM_INTERIM_MAX:
                raise UpstreamError(f"more than {UPSTREAM_INTERIM_MAX} interim (1xx) answers", phase=self.phase)
            return
        self._take_head(status)

    def _take_head(self, status: int) -> None:
        lengths = codings = 0
        headers = []
        for raw, value in self._raw:
            name = _name(raw)
            if name == "content-length":
                lengths += 1
            elif name == "transfer-encoding":
                codings += 1
            elif name == "keep-alive" and (told := _KEPT_FOR.search(value)) is not None:
                self.kept_s = float(told[1])
            headers.append((name, value.decode("latin-1")))
        if _CONTROL.search(b"".join([value for _, value in self._raw])):
            raise UpstreamError("the answer's head holds a control character", phase=UpstreamPhase.BODY)
        if lengths + codings > 1:
            raise UpstreamError("the answer's head gives its length twice", phase=UpstreamPhase.BODY)
        self.status, self.headers, self.head_at = status, headers, self.read_at
        self.chunked = codings > 0
        self._keeps_alive = self._parser.should_keep_alive()
        self._until_close = not lengths and not codings and status not in _BODILESS
        self._head_done = True
        self.state = State.READING

    def on_body(self, data: bytes) -> None:
        if not self._discard:
            self._parts.append(data)

    def on_message_complete(self) -> None:
        if self._head_done and not self._discard:
            self.complete, self.ended_at = True, self.read_at
