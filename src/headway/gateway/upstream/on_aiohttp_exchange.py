"""One exchange on aiohttp, and the sweep that holds the deadlines of all of them.

``Watch`` looks every ``UPSTREAM_SWEEP_MS`` at each running exchange. Silence is measured while somebody waits for bytes, by
the count that aiohttp's reader keeps; a caller that reads slowly is not the upstream's fault.
"""

import asyncio
import re
from typing import TYPE_CHECKING

import aiohttp

from headway.gateway.upstream.http1_connection import address_of
from headway.gateway.upstream.port import UpstreamError, UpstreamPhase, UpstreamRequest
from headway.kernel.instants import MonoNs, mono_ns
from headway.kernel.limits import UPSTREAM_SWEEP_MS

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.streams import StreamReader

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_FAILED_TO_CONNECT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, ValueError)


class _Expired(Exception):
    """Ends a wait for bytes whose deadline has passed."""


class Watch:
    """The sweep. Runs only while an exchange does."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._running: set[AiohttpExchange] = set()
        self._handle: asyncio.TimerHandle | None = None
        self._next = 0.0

    def add(self, exchange: "AiohttpExchange") -> None:
        self._running.add(exchange)
        due = min(self.loop.time() + UPSTREAM_SWEEP_MS / 1e3, exchange.connect_by, exchange.ends_at)
        if self._handle is None or due < self._next:
            self._arm(due)

    def remove(self, exchange: "AiohttpExchange") -> None:
        self._running.discard(exchange)

    def close(self) -> None:
        for exchange in list(self._running):
            exchange.expire("this gateway is shutting down", timed_out=False)
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def __len__(self) -> int:
        return len(self._running)

    def _arm(self, due: float) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._next = due
        self._handle = self.loop.call_at(due, self._sweep)

    def _sweep(self) -> None:
        self._handle = None
        now = self.loop.time()
        for exchange in list(self._running):
            exchange.check(now)
        if self._running:
            self._arm(now + UPSTREAM_SWEEP_MS / 1e3)


class AiohttpExchange:
    """See ``upstream.Exchange``. Made before the connection is, so that one object knows how far things came."""

    __slots__ = (
        "_cancelling",
        "_content",
        "_expired",
        "_first_byte_by",
        "_head",
        "_quiet_since",
        "_request",
        "_response",
        "_seen_bytes",
        "_task",
        "_timed_out",
        "_transport",
        "_watch",
        "address",
        "connect_by",
        "connected_at",
        "ended_at",
        "ends_at",
        "head_at",
        "headers",
        "phase",
        "sent_at",
        "status",
        "waiting",
    )

    def __init__(self, watch: Watch, request: UpstreamRequest) -> None:
        now = watch.loop.time()
        total_ms = (
            request.timeouts.total_ms if request.remaining_ms is None else min(request.timeouts.total_ms, request.remaining_ms)
        )
        self.connect_by = now + request.timeouts.connect_ms / 1e3
        self.ends_at = now + total_ms / 1e3
        self.phase = UpstreamPhase.CONNECT
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self.connected_at: MonoNs | None = None
        self.ended_at: MonoNs | None = None
        self.sent_at = self.head_at = MonoNs(0)
        self.address = ""
        self.waiting = False
        self._watch, self._request = watch, request
        task = asyncio.current_task()
        assert task is not None
        self._task, self._cancelling = task, task.cancelling()
        self._transport: asyncio.Transport | None = None
        self._response: aiohttp.ClientResponse | None = None
        self._content: StreamReader | None = None
        self._first_byte_by = self._quiet_since = 0.0
        self._seen_bytes = 0
        self._expired = ""
        self._timed_out = False

    # Called as it goes on

    def connected(self, protocol: "ResponseHandler") -> None:
        self._transport = protocol.transport  # kept: once aiohttp has closed a protocol, it no longer knows what it still flushes
        self.phase = UpstreamPhase.SEND
        self.sent_at = mono_ns()
        self.address = address_of(self._transport.get_extra_info("peername")) if self._transport is not None else ""
        self._first_byte_by = self._watch.loop.time() + self._request.timeouts.first_byte_ms / 1e3

    def answered(self, response: aiohttp.ClientResponse) -> None:
        """The head is here. UpstreamError when nothing sure can be read from it."""
        self.head_at = mono_ns()
        self._response = response
        self.phase = UpstreamPhase.BODY
        self._content = response.content
        self._quiet_since = self._watch.loop.time()
        self.status = response.status
        self.headers = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in response.raw_headers]
        fault = _fault_of_head(self.status, self.headers)
        if fault:
            if self._transport is not None:
                self._transport.abort()  # even where the body has ended already: no later call may find this socket in the pool
            raise UpstreamError(fault, phase=UpstreamPhase.BODY)

    # Deadlines

    def check(self, now: float) -> None:
        timeouts = self._request.timeouts
        if now >= self.ends_at:
            self.expire("the exchange took longer than it may in all", timed_out=True)
        elif self._content is not None:
            self._check_silence(self._content, now)
        elif self.phase is UpstreamPhase.CONNECT:
            if now >= self.connect_by:
                self.expire(f"no connection within {timeouts.connect_ms} ms", timed_out=True)
        else:
            if self.phase is UpstreamPhase.SEND and self._is_flushed():
                self.phase = UpstreamPhase.FIRST_BYTE
            if now >= self._first_byte_by:
                self.expire(f"no answer began within {timeouts.first_byte_ms} ms", timed_out=True)

    def _check_silence(self, content: "StreamReader", now: float) -> None:
        if not self.waiting or content.total_bytes != self._seen_bytes:
            self._seen_bytes, self._quiet_since = content.total_bytes, now
        elif now - self._quiet_since >= self._request.timeouts.idle_ms / 1e3:
            self.expire(f"the upstream was silent for {self._request.timeouts.idle_ms} ms", timed_out=True)

    def _is_flushed(self) -> bool:
        return self._transport is None or self._transport.get_write_buffer_size() == 0

    def expire(self, why: str, *, timed_out: bool) -> None:
        """End it now, from outside: whoever waits on it gets the UpstreamError, the socket is gone."""
        self._expired, self._timed_out = why, timed_out
        if self._content is None:
            self._watch.remove(self)
            self._task.cancel()
            return
        self._content.set_exception(_Expired())
        self.abort()

    # Reading

    def chunks(self) -> "_Chunks":
        assert self._content is not None, "an answer is read after exchange() returned it"
        return _Chunks(self, self._content)

    async def read(self, limit_bytes: int) -> bytes:
        parts: list[bytes] = []
        size = 0
        async for data in self.chunks():
            size += len(data)
            if size > limit_bytes:
                self.abort()
                raise UpstreamError(f"the answer is longer than {limit_bytes} bytes", phase=UpstreamPhase.BODY)
            parts.append(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def finished(self) -> None:
        """The body ended as announced; aiohttp has the socket back."""
        self.ended_at = mono_ns()
        self._watch.remove(self)

    async def close(self) -> None:
        if self._content is not None and self._content.is_eof() and self._content.exception() is None:
            self._watch.remove(self)
            return
        self.abort()

    def abort(self) -> None:
        """Drop the socket without flushing what is still to be sent: the upstream must not work on."""
        self._watch.remove(self)
        if self._transport is not None and (self._content is None or not self._content.is_eof()):
            self._transport.abort()
        if self._response is not None:
            self._response.close()

    # Errors

    def explain(self, error: BaseException) -> BaseException:
        """What is to be raised for ``error``: an UpstreamError with the phase, or a cancellation that was not ours."""
        if self._expired and isinstance(error, asyncio.CancelledError | _Expired):
            ours = isinstance(error, _Expired) or self._task.uncancel() <= self._cancelling
            if ours:
                return UpstreamError(self._expired, phase=self.phase, timed_out=self._timed_out)
        if not isinstance(error, Exception) or isinstance(error, UpstreamError):
            return error
        phase = self.phase
        if phase is not UpstreamPhase.BODY and isinstance(error, _FAILED_TO_CONNECT):
            phase = UpstreamPhase.CONNECT
        if phase is UpstreamPhase.SEND and not _is_write_error(error):
            phase = UpstreamPhase.FIRST_BYTE
        return UpstreamError(_words(error, phase), phase=phase)


class _Chunks:
    """Reads as they come. A class, since an asynchronous generator costs more for each read and must be closed."""

    __slots__ = ("_content", "_exchange")

    def __init__(self, exchange: AiohttpExchange, content: "StreamReader") -> None:
        self._exchange, self._content = exchange, content

    def __aiter__(self) -> "_Chunks":
        return self

    async def __anext__(self) -> bytes:
        exchange = self._exchange
        exchange.waiting = True
        try:
            data = await self._content.readany()
        except BaseException as error:
            exchange.abort()
            explained = exchange.explain(error)
            if explained is error:
                raise
            raise explained from error
        exchange.waiting = False
        if data:
            return data
        exchange.finished()
        raise StopAsyncIteration


def _fault_of_head(status: int, headers: list[tuple[str, str]]) -> str:
    if status == 101:
        return "the upstream changed the protocol without being asked"
    lengths = sum(name == "content-length" for name, _ in headers)
    codings = sum(name == "transfer-encoding" for name, _ in headers)
    if lengths + codings > 1:
        return "the answer's head gives its length twice"
    if _CONTROL.search("".join([value for _, value in headers])):
        return "the answer's head holds a control character"
    return ""


def _is_write_error(error: Exception) -> bool:
    return isinstance(error, aiohttp.ClientOSError) and "write" in str(error)


def _words(error: Exception, phase: UpstreamPhase) -> str:
    if phase is UpstreamPhase.CONNECT:
        return f"cannot connect to the upstream: {error}"
    if isinstance(error, aiohttp.ClientResponseError):
        return "the answer's head is not valid HTTP: " + error.message.partition("\n")[0]  # what follows quotes the answer
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the upstream closed the connection without an answer"
    if phase is UpstreamPhase.BODY:
        return f"the answer broke off: {error}"
    return f"the exchange failed: {error}"
