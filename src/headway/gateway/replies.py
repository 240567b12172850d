"""Replies on the two things the gateway is served by: the listener's own cycle, straight, and any ASGI server's ``send``.

The cycle is used where there is one: an answer's head and first bytes leave in one write, and a chunk costs one write and no dictionary.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from headway.gateway.flow import Reply
from headway.gateway.heads import Headers
from headway.gateway.listener.cycle import Cycle, Cycle10
from headway.kernel.instants import mono_ns
from headway.kernel.limits import BLOCKED_WRITES_MAX

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


BLOCKED_NS_MIN = 1_000_000


def noted(blocked: list[int] | None, began: int, ended: int) -> list[int]:
    """``blocked`` with one more stretch; past BLOCKED_WRITES_MAX of them the last grows by as much, so that the sum stays true."""
    if blocked is None:
        return [began, ended]
    if len(blocked) < 2 * BLOCKED_WRITES_MAX:
        blocked += (began, ended)
    else:
        blocked[-1] += ended - began
    return blocked


class EndableReply(Reply, Protocol):
    started: bool
    ended: bool


class CycleReply:
    """HTTP/1.1 on one request of the listener. What the caller no longer reads is dropped; its going is told by ``Cycle.on_gone``."""

    __slots__ = ("_chunked", "_cycle", "_head", "blocked", "ended", "started")

    def __init__(self, cycle: Cycle) -> None:
        self.blocked: list[int] | None = None
        self._cycle = cycle
        self._head: tuple[int, Headers] | None = None
        self._chunked = False
        self.started = self.ended = False

    async def start(self, status: int, headers: Headers) -> None:
        self.started = True
        self._head = (status, headers)

    async def send(self, data: bytes) -> None:
        cycle = self._cycle
        if cycle.flow.write_paused and not cycle.disconnected:
            await self._drain(cycle)
        if cycle.disconnected or not data or self.ended:
            return
        chunk = b"%x\r\n%b\r\n" % (len(data), data)
        if self._head is not None:
            self._chunked = True
            chunk = self._head_bytes(b"transfer-encoding: chunked\r\n") + chunk
        cycle.transport.write(chunk)

    async def end(self, data: bytes = b"") -> None:
        if self.ended:
            return
        self.ended = True
        cycle = self._cycle
        if cycle.flow.write_paused and not cycle.disconnected:
            await self._drain(cycle)
        if cycle.disconnected:
            return
        if self._head is not None:
            cycle.transport.write(self._head_bytes(b"content-length: %d\r\n" % len(data)) + data)
        elif data:
            cycle.transport.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data))
        else:
            cycle.transport.write(b"0\r\n\r\n")
        cycle.finish()

    async def _drain(self, cycle: Cycle) -> None:
        """The caller's socket is full. What it costs is told even where the wait is cut off."""
        began = mono_ns()
        try:
            await cycle.flow.drain()
        finally:
            self.blocked = noted(self.blocked, began, mono_ns())

    async def abort(self) -> None:
        self.ended = True
        self._cycle.transport.abort()

    def _head_bytes(self, framing: bytes) -> bytes:
        assert self._head is not None
        status, headers = self._head
        self._head = None
        cycle = self._cycle
        cycle.begin()
        lines = b"".join([b"%b: %b\r\n" % pair for pair in (*cycle.default_headers, *headers)])
        if (
            b"\r\n\r\n" in lines
            or lines.count(b"\n") != lines.count(b"\r\n")
            or lines.count(b"\n") != len(headers) + len(cycle.default_headers)
        ):
            raise ValueError("a header of an answer holds a line break")
        close = b"" if cycle.keep_alive else b"connection: close\r\n"
        return b"%b%b%b%b\r\n" % (STATUS_LINE[status], lines, framing, close)


class AsgiReply:
    """Any ASGI server. The head waits for the first bytes, so that a short answer is one write where the server joins them."""

    __slots__ = ("_head", "_send", "blocked", "ended", "started")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.blocked: list[int] | None = None
        self._head: MutableMapping[str, Any] | None = None
        self.started = self.ended = False

    async def start(self, status: int, headers: Headers) -> None:
        self.started = True
        self._head = {"type": "http.response.start", "status": status, "headers": headers}

    async def send(self, data: bytes) -> None:
        if self._head is not None:
            await self._send(self._head)
            self._head = None
        began = mono_ns()
        await self._send({"type": "http.response.body", "body": data, "more_body": True})
        if (ended := mono_ns()) - began > BLOCKED_NS_MIN:  # a server's send waits for nothing but a socket that is full
            self.blocked = noted(self.blocked, began, ended)

    async def end(self, data: bytes = b"") -> None:
        if self.ended:
            return
        self.ended = True
        if self._head is not None:
            self._head["headers"] = [*self._head["headers"], (b"content-length", str(len(data)).encode())]
            await self._send(self._head)
            self._head = None
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    async def abort(self) -> None:
        """No end is sent: the server closes a connection whose answer was left unfinished."""
        self.ended = True


def reply_on(scope: MutableMapping[str, Any], send: Send) -> tuple[EndableReply, Cycle | None]:
    """The reply for a request, and the listener's cycle where it is one of ours."""
    # Taken out: a cycle holds its scope, and the two would keep each other, and a body, until the collector comes.
    cycle = scope.get("extensions", {}).pop("headway", {}).get("cycle")
    if cycle is None:
        return AsgiReply(send), None
    return (AsgiReply(send) if isinstance(cycle, Cycle10) else CycleReply(cycle)), cycle
