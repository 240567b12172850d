"""HTTP out on aiohttp: the adapter behind ``gateway/upstream/port.py``.

aiohttp parses, pools and speaks TLS; everything else that it offers is off (redirects, cookies, proxies from the
environment, decompression, headers of its own), since a proxy must send what it was told and nothing else. Deadlines are
held by one sweep over all running exchanges (``Watch``) that looks at counters aiohttp keeps anyway, so that a read of a
stream costs no timer.

A pooled socket may have been closed by the other end while it was idle. It is looked at before each use and left when
anything can be read from it; a request is repeated, once, only when not one byte of it was written. Anything later is
reported with its phase: calls cost money, and whoever answers for them decides.
"""

import asyncio
import functools
import re
import select
import ssl
from collections.abc import Iterable
from contextvars import ContextVar
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import payload
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from headway.gateway.upstream.on_aiohttp_exchange import AiohttpExchange, Watch
from headway.gateway.upstream.port import UpstreamError, UpstreamPhase, UpstreamRequest
from headway.kernel.instants import mono_ns
from headway.kernel.limits import (
    DNS_KEPT_S,
    UPSTREAM_HEAD_LINE_BYTES_MAX,
    UPSTREAM_HEADERS_MAX,
    UPSTREAM_INTERIM_MAX,
    UPSTREAM_KEEP_ALIVE_IDLE_MS,
    UPSTREAM_READ_BUFFER_BYTES,
    UPSTREAM_SOCKETS_MAX,
    UPSTREAM_URLS_KEPT,
)

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.client import ClientTimeout
    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.connector import Connection
    from aiohttp.http import RawResponseMessage
    from aiohttp.streams import StreamReader
    from aiohttp.tracing import Trace

_CURRENT: ContextVar[AiohttpExchange] = ContextVar("headway_upstream_exchange")
_AUTOMATIC_HEADERS = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
_SET_BY_US = frozenset(("host", "content-length", "transfer-encoding", "connection", "accept-encoding", "expect", "upgrade", "te"))
_NO_TIMEOUTS = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)
_METHOD = re.compile(r"[A-Z]{3,10}")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(
    r"[\t\x20-\x7e]*"
)  # ASCII: aiohttp would write anything else as UTF-8, and the bytes would not be those that came
_URL = re.compile(r"https?://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:/[!$-;=?-\[\]^_a-z|~]*)?")
_DOT_SEGMENT = re.compile(r"/(?:\.|%2e){1,2}(?:[/?]|$)", re.IGNORECASE)


class AiohttpUpstream:
    """One session and one pool; made inside the loop that uses it."""

    def __init__(
        self,
        *,
        sockets_max: int = UPSTREAM_SOCKETS_MAX,
        tls: ssl.SSLContext | None = None,
        proxies_from_environment: bool = False,
    ) -> None:
        """``tls`` adds certificate authorities of a site; a context that does not verify is refused with ValueError."""
        if tls is not None and not (tls.check_hostname and tls.verify_mode is ssl.CERT_REQUIRED):
            raise ValueError("a TLS context for upstreams must verify certificates and host names")
        loop = asyncio.get_running_loop()
        self._connector = _Connector(sockets_max, tls)
        self._session = aiohttp.ClientSession(
            connector=self._connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=_AUTOMATIC_HEADERS,
            auto_decompress=False,
            trust_env=proxies_from_environment,
            timeout=_NO_TIMEOUTS,
            read_bufsize=UPSTREAM_READ_BUFFER_BYTES,
            max_line_size=UPSTREAM_HEAD_LINE_BYTES_MAX,
            max_field_size=UPSTREAM_HEAD_LINE_BYTES_MAX,
            max_headers=UPSTREAM_HEADERS_MAX,
        )
        self._watch = Watch(loop)

    async def exchange(self, request: UpstreamRequest) -> AiohttpExchange:
        """Send and wait for the head. Raises UpstreamError; CancelledError closes the socket first."""
        target = _checked(request)
        exchange = AiohttpExchange(self._watch, request)
        token = _CURRENT.set(exchange)
        self._watch.add(exchange)
        try:
            response = await self._send(request, target, exchange)
            exchange.answered(response)
        except BaseException as error:
            exchange.abort()
            explained = exchange.explain(error)
            if explained is error:
                raise
            raise explained from error
        finally:
            _CURRENT.reset(token)
        return exchange

    async def _send(self, request: UpstreamRequest, target: URL, exchange: AiohttpExchange) -> aiohttp.ClientResponse:
        headers = [*request.headers, ("Accept-Encoding", "identity")]
        body = _Body(request.body) if request.body else None
        try:
            return await self._once(request.method, target, headers, body)
        except aiohttp.ClientOSError as error:
            if exchange.connected_at is not None or not _nothing_was_written(error):
                raise
        return await self._once(request.method, target, headers, body)

    async def _once(self, method: str, target: URL, headers: list[tuple[str, str]], body: "_Body | None") -> aiohttp.ClientResponse:
        return await self._session.request(method, target, headers=headers, data=body, allow_redirects=False)

    async def close(self) -> None:
        """Close every socket. Running exchanges fail."""
        self._watch.close()
        await self._session.close()


class _Connector(aiohttp.TCPConnector):
    """Tells the exchange on whose behalf it works what it was given, and gives no pooled socket that is dead or dirty."""

    def __init__(self, sockets_max: int, tls: ssl.SSLContext | None) -> None:
        super().__init__(
            limit=sockets_max,
            keepalive_timeout=UPSTREAM_KEEP_ALIVE_IDLE_MS / 1e3,
            ttl_dns_cache=DNS_KEPT_S,
            ssl=tls if tls is not None else True,
        )
        self._factory = functools.partial(_Handler, loop=self._loop)  # type: ignore[assignment]  # a subclass of what it makes

    async def connect(self, req: "ClientRequest", traces: "list[Trace]", timeout: "ClientTimeout") -> "Connection":
        exchange = _CURRENT.get()
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol = connection.protocol
            assert isinstance(protocol, _Handler)
            if exchange.connected_at is not None or _still_idle(protocol, req.is_ssl()):
                break
            connection.close()
        protocol.interim = 0
        exchange.connected(protocol)
        return connection

    async def _create_connection(self, req: "ClientRequest", traces: "list[Trace]", timeout: "ClientTimeout") -> ResponseHandler:
        protocol = await super()._create_connection(req, traces, timeout)
        _CURRENT.get().connected_at = mono_ns()
        return protocol


class _Handler(ResponseHandler):
    """Ends an exchange whose upstream sends 1xx answers without end."""

    interim = 0

    def feed_data(self, data: "tuple[RawResponseMessage, StreamReader]", size: int = 0) -> None:
        if data[0].code < 200:
            self.interim += 1
            if self.interim > UPSTREAM_INTERIM_MAX:
                self.set_exception(aiohttp.ClientError(f"more than {UPSTREAM_INTERIM_MAX} interim (1xx) answers"))
                if self.transport is not None:
                    self.transport.abort()
                return
        super().feed_data(data, size)


class _Body(payload.Payload):
    """Bytes written in one piece: aiohttp's own warns above a megabyte. An error before that one write means nothing went out."""

    _autoclose = True

    def __init__(self, value: bytes) -> None:
        super().__init__(value, content_type="application/octet-stream")
        self._size = len(value)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return str(self._value, encoding, errors)

    async def write(self, writer: "AbstractStreamWriter") -> None:
        await writer.write(self._value)

    async def write_with_length(self, writer: "AbstractStreamWriter", content_length: int | None) -> None:
        await writer.write(self._value)


def _still_idle(protocol: _Handler, is_tls: bool) -> bool:
    """Whether a pooled socket is still as it was left: open, and with nothing to read. TLS may have records of its own to read."""
    transport = protocol.transport
    if protocol.should_close or transport is None:
        return False
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLRDHUP if is_tls else select.POLLIN | select.POLLRDHUP)
    return not poll.poll(0)


def _nothing_was_written(error: aiohttp.ClientOSError) -> bool:
    """True only when aiohttp found the socket closed before its first write (``StreamWriter._write``)."""
    causes: tuple[BaseException | None, ...] = (error, error.__cause__)
    return any(isinstance(cause, aiohttp.ClientConnectionResetError) and "closing transport" in str(cause) for cause in causes)


def _checked(request: UpstreamRequest) -> URL:
    """The target, when nothing in the request could write a line of the head. Raises UpstreamError with phase CONNECT."""
    try:
        target = _target(request.url)
    except ValueError as error:
        raise UpstreamError(f"not sent: {error}", phase=UpstreamPhase.CONNECT) from error
    if _METHOD.fullmatch(request.method) is None or not _headers_are_safe(request.headers):
        raise UpstreamError("not sent: the method or a header cannot be written to a request head", phase=UpstreamPhase.CONNECT)
    return target


def _headers_are_safe(headers: Iterable[tuple[str, str]]) -> bool:
    return all(
        _NAME.fullmatch(name) is not None and _VALUE.fullmatch(value) is not None and name.lower() not in _SET_BY_US
        for name, value in headers
    )


@functools.lru_cache(maxsize=UPSTREAM_URLS_KEPT)
def _target(url: str) -> URL:
    """An absolute address that every reader reads alike. ValueError names no part of it: it may hold a secret by mistake."""
    if _URL.fullmatch(url) is None:
        raise ValueError("the upstream's address is not http(s)://host[:port]/path, percent-encoded, without user and fragment")
    if _DOT_SEGMENT.search(url):
        raise ValueError("the upstream's address has a dot segment in its path")
    return URL(url, encoded=True)
