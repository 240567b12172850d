"""HTTP out on our own HTTP/1.1 client: the usual adapter. Held by the same conformance suite as the one on aiohttp.

It exists for the CPU that a general client costs a request (`make bench`). It does only what the gateway needs: HTTP/1.1, one
request at a time on a connection, TLS always verified, no redirects, no cookies, no proxies, no decompression.
"""

import asyncio
import functools
import re
import select
import socket
import ssl
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from aiohappyeyeballs import start_connection

from headway.gateway.upstream.http1_connection import Connection, State, address_of
from headway.gateway.upstream.port import UpstreamError, UpstreamPhase, UpstreamRequest
from headway.kernel.instants import MonoNs, mono_ns
from headway.kernel.limits import (
    UPSTREAM_HEADS_KEPT,
    UPSTREAM_KEEP_ALIVE_IDLE_MS,
    UPSTREAM_SOCKETS_MAX,
    UPSTREAM_STREAM_SETTLE_MS,
    UPSTREAM_SWEEP_MS,
    UPSTREAM_URLS_KEPT,
)

_SET_BY_US: Final = frozenset(
    ("host", "content-length", "transfer-encoding", "connection", "accept-encoding", "expect", "upgrade", "te")
)
_METHOD: Final = re.compile(r"(?!HEAD|CONNECT)[A-Z]{3,10}")  # those two have answers with other framing
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_URL: Final = re.compile(r"https?://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:/[!$-;=?-\[\]^_a-z|~]*)?")
_DOT_SEGMENT: Final = re.compile(r"/(?:\.|%2e){1,2}(?:[/?]|$)", re.IGNORECASE)
HAPPY_EYEBALLS_S: Final = 0.25
KEPT_MARGIN_S: Final = 1.0
"""A pooled connection is not used in the last second for which its upstream keeps it: a request would meet its closing on the way."""
ASKED_AFTER_S: Final = 0.001
"""The kernel is asked about a connection that was idle for longer: the loop, which looks each turn, may have been busy."""
STREAM_SETTLE_S: Final = UPSTREAM_STREAM_SETTLE_MS / 1e3


@dataclass(frozen=True, slots=True)
class Target:
    """Where a URL leads: one pool for each (tls, host, port)."""

    tls: bool
    host: str
    port: int
    authority: str
    path: str

    @property
    def origin(self) -> tuple[bool, str, int]:
        return (self.tls, self.host, self.port)


@dataclass(slots=True)
class Pool:
    idle: list[Connection] = field(default_factory=list)


class Http1Exchange:
    """See ``upstream.Exchange``. Made before the connection is, so that one object knows how far things came."""

    __slots__ = (
        "_expired",
        "_request",
        "_seen",
        "_since",
        "_task",
        "_upstream",
        "address",
        "connect_by",
        "connected_at",
        "connection",
        "ended_at",
        "ends_at",
        "first_byte_by",
        "head_at",
        "headers",
        "sent_at",
        "status",
    )

    def __init__(self, upstream: "Http1Upstream", request: UpstreamRequest, now: float) -> None:
        timeouts = request.timeouts
        total_ms = timeouts.total_ms if request.remaining_ms is None else min(timeouts.total_ms, request.remaining_ms)
        self.connect_by = now + timeouts.connect_ms / 1e3
        self.ends_at = now + total_ms / 1e3
        self.first_byte_by = 0.0
        self.status = 0
        self.headers: Sequence[tuple[str, str]] = ()
        self.head_at = MonoNs(0)
        self.sent_at = MonoNs(0)
        self.address = ""
        self.connected_at: MonoNs | None = None
        self.ended_at: MonoNs | None = None
        self.connection: Connection | None = None
        """None before one is found and again once it was given back: from then on it serves another exchange."""
        self._upstream, self._request = upstream, request
        self._task: asyncio.Task[object] | None = None
        self._expired: UpstreamError | None = None
        self._seen, self._since = 0, now

    def answered(self, connection: Connection) -> None:
        self.status, self.headers, self.head_at = connection.status, connection.headers, connection.head_at
        self.address = connection.address

    def chunks(self) -> "_Chunks":
        assert self.connection is not None, "an answer is read after exchange() returned it"
        return _Chunks(self, self.connection)

    async def read(self, limit_bytes: int) -> bytes:
        connection = self.connection
        assert connection is not None
        parts: list[bytes] = []
        size = 0
        while data := await self._next(connection):
            size += len(data)
            if size > limit_bytes:
                self.abort()
                raise UpstreamError(f"the answer is longer than {limit_bytes} bytes", phase=UpstreamPhase.BODY)
            parts.append(data)
        self.finished()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def close(self) -> None:
        self.finished()

    def finished(self) -> None:
        """Give the connection back when its answer was read to the end; drop it otherwise."""
        connection, self.connection = self.connection, None
        self._upstream.running.discard(self)
        if connection is not None:
            self.ended_at = connection.ended_at
            connection.release()

    def abort(self) -> None:
        connection, self.connection = self.connection, None
        self._upstream.running.discard(self)
        if connection is not None:
            connection.abort()

    async def _next(self, connection: Connection) -> bytes:
        try:
            return await connection.part()
        except BaseException:
            self.abort()
            raise

    def check(self, now: float) -> None:
        """Called by the sweep: end what is past one of its deadlines."""
        timeouts, connection = self._request.timeouts, self.connection
        if now >= self.ends_at:
            self.expire("the exchange took longer than it may in all")
        elif connection is None:
            if now >= self.connect_by:
                self.expire(f"no connection within {timeouts.connect_ms} ms")
        elif not self.status:
            if now >= self.first_byte_by:
                self.expire(f"no answer began within {timeouts.first_byte_ms} ms")
        elif not connection.waiting or connection.received != self._seen:
            self._seen, self._since = connection.received, now
        elif now - self._since >= timeouts.idle_ms / 1e3:
            self.expire(f"the upstream was silent for {timeouts.idle_ms} ms")

    def expire(self, why: str, *, timed_out: bool = True) -> None:
        phase = self.connection.phase if self.connection is not None else UpstreamPhase.CONNECT
        error = UpstreamError(why, phase=phase, timed_out=timed_out)
        self._upstream.running.discard(self)
        if self.connection is not None:
            self.connection.fail(error)
        elif self._task is not None:
            self._expired = error
            self._task.cancel()


class _Chunks:
    """Reads as they come. A class, since an asynchronous generator costs more for each read and must be closed."""

    __slots__ = ("_connection", "_exchange")

    def __init__(self, exchange: Http1Exchange, connection: Connection) -> None:
        self._exchange, self._connection = exchange, connection

    def __aiter__(self) -> "_Chunks":
        return self

    async def __anext__(self) -> bytes:
        try:
            data = await self._connection.part()
        except BaseException:
            self._exchange.abort()
            raise
        if data:
            return data
        self._exchange.finished()
        raise StopAsyncIteration


class Http1Upstream:
    """All connections to all upstreams; made inside the loop that uses it.

    At most ``sockets_max`` connections: past it, a request waits as if connecting, first come first served.
    """

    def __init__(self, *, sockets_max: int = UPSTREAM_SOCKETS_MAX, tls: ssl.SSLContext | None = None) -> None:
        """``tls`` adds certificate authorities of a site; a context that does not verify is refused with ValueError."""
        if tls is not None and not (tls.check_hostname and tls.verify_mode is ssl.CERT_REQUIRED):
            raise ValueError("a TLS context for upstreams must verify certificates and host names")
        self._loop = asyncio.get_running_loop()
        self._sockets_max = sockets_max
        self._tls = tls
        self._pools: dict[tuple[bool, str, int], Pool] = {}
        self._of: dict[Connection, tuple[bool, str, int]] = {}
        self._keep_after_streams: set[tuple[bool, str, int]] = set()
        """Origins seen to keep a connection after a streamed answer. Some close it without a word (llama.cpp's server does, although its head says
        ``Keep-Alive``), and a request sent at once would meet that: until it is known, such a connection rests for STREAM_SETTLE_S."""
        self._opening = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._heads: OrderedDict[tuple[str, str, tuple[tuple[str, str], ...]], bytes] = OrderedDict()
        self.running: set[Http1Exchange] = set()
        self._sweep_handle: asyncio.TimerHandle | None = None
        self._sweep_due = 0.0
        self._closed = False

    async def exchange(self, request: UpstreamRequest) -> Http1Exchange:
        """Send and wait for the head. Raises UpstreamError; CancelledError closes the socket first."""
        target, head = self._head(request)
        exchange = Http1Exchange(self, request, self._loop.time())
        self.running.add(exchange)
        due = min(exchange.connect_by, exchange.ends_at)
        if self._sweep_handle is None or due < self._sweep_due:
            self._arm(due)
        try:
            connection = self._idle(target.origin)
            if connection is None:
                connection = await self._new_or_freed(target, exchange)
            exchange.connection = connection
            exchange.first_byte_by = self._loop.time() + request.timeouts.first_byte_ms / 1e3
            connection.send(head, request.body)
            exchange.sent_at = mono_ns()
            await connection.head()
            exchange.answered(connection)
        except BaseException:
            exchange.abort()
            raise
        return exchange

    async def close(self) -> None:
        """Close every socket. Running exchanges fail."""
        self._closed = True
        if self._sweep_handle is not None:
            self._sweep_handle.cancel()
        for exchange in list(self.running):
            exchange.expire("this gateway is shutting down", timed_out=False)
        for connection in list(self._of):
            connection.abort()
        await asyncio.sleep(0)

    # --- connections

    def _idle(self, origin: tuple[bool, str, int]) -> Connection | None:
        """The connection used last, when it is still as it was left."""
        pool = self._pools.get(origin)
        if pool is None:
            return None
        for at in range(len(pool.idle) - 1, -1, -1):
            connection = pool.idle[at]
            idle_s = self._loop.time() - connection.idle_since
            if connection.chunked and idle_s < STREAM_SETTLE_S and origin not in self._keep_after_streams:
                continue
            del pool.idle[at]
            fresh = idle_s < connection.kept_s - KEPT_MARGIN_S
            if fresh and connection.state is State.IDLE and self._still_idle(connection, idle_s, tls=origin[0]):
                if connection.chunked:
                    self._keep_after_streams.add(origin)
                return connection
            connection.abort()
        return None

    @staticmethod
    def _still_idle(connection: Connection, idle_s: float, *, tls: bool) -> bool:
        """Whether a pooled socket is still open, with nothing to read. TLS may have records of its own to read.

        The kernel is asked: what happened to it since the loop last looked is not known here, and some upstreams close without a word.
        """
        transport = connection.transport
        if transport is None or transport.is_closing():
            return False
        if idle_s < ASKED_AFTER_S:
            return True
        if connection.poll is None:
            connection.poll = select.poll()
            events = select.POLLRDHUP if tls else select.POLLIN | select.POLLRDHUP
            connection.poll.register(transport.get_extra_info("socket").fileno(), events)
        return not connection.poll.poll(0)

    async def _new_or_freed(self, target: Target, exchange: Http1Exchange) -> Connection:
        exchange._task = task = asyncio.current_task()
        assert task is not None
        cancelled_before = task.cancelling()
        try:
            while len(self._of) + self._opening >= self._sockets_max and not self._drop_one_idle():
                freed = self._loop.create_future()
                self._waiting.append(freed)
                try:
                    await freed
                finally:
                    if not freed.done() or freed.cancelled():
                        self._waiting.remove(freed)
                if (connection := self._idle(target.origin)) is not None:
                    return connection
            return await self._open(target, exchange)
        except asyncio.CancelledError:
            if exchange._expired is None or task.uncancel() > cancelled_before:
                raise
            raise exchange._expired from None
        finally:
            exchange._task = None

    async def _open(self, target: Target, exchange: Http1Exchange) -> Connection:
        self._opening += 1
        try:
            addresses = await self._loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
            sock = await start_connection(addresses, happy_eyeballs_delay=HAPPY_EYEBALLS_S)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _, connection = await self._loop.create_connection(
                lambda: Connection(self._freed, self._gone),
                sock=sock,
                ssl=self._context() if target.tls else None,
                server_hostname=target.host if target.tls else None,
            )
        except (OSError, ssl.SSLError, UnicodeError) as error:
            self._let_one_in()
            raise UpstreamError(f"cannot connect to the upstream: {error}", phase=UpstreamPhase.CONNECT) from error
        finally:
            self._opening -= 1
        self._of[connection] = target.origin
        connection.address = address_of(sock.getpeername())
        exchange.connected_at = mono_ns()
        return connection

    def _freed(self, connection: Connection) -> None:
        connection.idle_since = self._loop.time()
        origin = self._of.get(connection)
        if origin is None or self._closed:
            connection.abort()
            return
        self._pools.setdefault(origin, Pool()).idle.append(connection)
        if self._sweep_handle is None:
            self._arm(connection.idle_since + UPSTREAM_KEEP_ALIVE_IDLE_MS / 1e3)
        if self._waiting:
            self._let_one_in()

    def _gone(self, connection: Connection) -> None:
        origin = self._of.pop(connection, None)
        if connection.chunked and origin is not None and self._loop.time() - connection.idle_since < STREAM_SETTLE_S:
            self._keep_after_streams.discard(origin)
        pool = self._pools.get(origin) if origin is not None else None
        if pool is not None and connection in pool.idle:
            pool.idle.remove(connection)
        if pool is not None and origin is not None and not pool.idle:
            del self._pools[origin]
        self._let_one_in()

    def _let_one_in(self) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _drop_one_idle(self) -> bool:
        """Room for another origin: the longest idle connection goes."""
        idle = [c for pool in self._pools.values() for c in pool.idle]
        if not idle:
            return False
        oldest = min(idle, key=lambda c: c.idle_since)
        origin = self._of.pop(oldest)
        pool = self._pools[origin]
        pool.idle.remove(oldest)
        if not pool.idle:
            del self._pools[origin]
        oldest.abort()
        return True

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
            self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls

    # --- heads

    def _head(self, request: UpstreamRequest) -> tuple[Target, bytes]:
        """The target and the bytes of the request's head. UpstreamError, with nothing sent, when anything could write a line of it.

        What was checked once is remembered by value, so that a call to a known endpoint costs one look-up.
        """
        key = (request.method, request.url, request.headers)
        begun = self._heads.get(key)
        try:
            target = _target(request.url)
        except ValueError as error:
            raise UpstreamError(f"not sent: {error}", phase=UpstreamPhase.CONNECT) from error
        if begun is None:
            begun = _begin_head(target, request)
            self._heads[key] = begun
            if len(self._heads) > UPSTREAM_HEADS_KEPT:
                self._heads.popitem(last=False)
        if request.body or request.method in ("POST", "PUT", "PATCH"):
            return target, b"%bcontent-length: %d\r\n\r\n" % (begun, len(request.body))
        return target, begun + b"\r\n"

    # --- deadlines

    def _arm(self, due: float) -> None:
        due = min(due, self._loop.time() + UPSTREAM_SWEEP_MS / 1e3)
        if self._sweep_handle is None or due < self._sweep_due:
            if self._sweep_handle is not None:
                self._sweep_handle.cancel()
            self._sweep_due = due
            self._sweep_handle = self._loop.call_at(due, self._sweep)

    def _sweep(self) -> None:
        self._sweep_handle = None
        now = self._loop.time()
        for exchange in list(self.running):
            exchange.check(now)
        kept_s = UPSTREAM_KEEP_ALIVE_IDLE_MS / 1e3
        stale = [c for pool in self._pools.values() for c in pool.idle if now - c.idle_since > kept_s]
        for connection in stale:
            self._pools[self._of[connection]].idle.remove(connection)
            connection.abort()
        if (self.running or self._pools) and not self._closed:
            self._arm(now + UPSTREAM_SWEEP_MS / 1e3)


def _begin_head(target: Target, request: UpstreamRequest) -> bytes:
    if _METHOD.fullmatch(request.method) is None or not all(
        _NAME.fullmatch(name) is not None and _VALUE.fullmatch(value) is not None and name.lower() not in _SET_BY_US
        for name, value in request.headers
    ):
        raise UpstreamError("not sent: the method or a header cannot be written to a request head", phase=UpstreamPhase.CONNECT)
    lines = [f"{request.method} {target.path} HTTP/1.1", f"host: {target.authority}", "accept-encoding: identity"]
    lines += [f"{name}: {value}" for name, value in request.headers]
    return ("\r\n".join(lines) + "\r\n").encode("latin-1")


@functools.lru_cache(maxsize=UPSTREAM_URLS_KEPT)
def _target(url: str) -> Target:
    """An absolute address that every reader reads alike. ValueError names no part of it: it may hold a secret by mistake."""
    if _URL.fullmatch(url) is None:
        raise ValueError("the upstream's address is not http(s)://host[:port]/path, percent-encoded, without user and fragment")
    if _DOT_SEGMENT.search(url):
        raise ValueError("the upstream's address has a dot segment in its path")
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(tls, parts.hostname or "", parts.port or (443 if tls else 80), parts.netloc, path)
