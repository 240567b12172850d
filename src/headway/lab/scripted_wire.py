"""HTTP/1.1 for the scripted upstream on bare asyncio: a strict small parser in, exactly scripted bytes out.

One request at a time a connection; what is pipelined waits in the buffer. A peer that closes cancels the answer at once and is noted.
"""

import asyncio
import socket
from collections.abc import Callable
from http import HTTPStatus
from typing import cast

import msgspec

HEAD_BYTES_MAX = 64 * 1024
BODY_BYTES_MAX = 256 * 1024 * 1024


class Request(msgspec.Struct, frozen=True):
    """Header names are lower case, in order."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes


class Malformed(Exception):
    """The bytes are not a request: answered 400, then closed."""


def parse_head(head: bytes) -> tuple[str, str, list[tuple[str, str]]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        raise Malformed(first)
    headers = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or name != name.strip():
            raise Malformed(line)
        headers.append((name.lower(), value.strip()))
    return parts[0], parts[1], headers


def take_request(buffer: bytearray) -> Request | None:
    """The first whole request, removed from ``buffer``; None while it is not all there. Raises Malformed."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        if len(buffer) > HEAD_BYTES_MAX:
            raise Malformed("head too large")
        return None
    method, target, headers = parse_head(bytes(buffer[:end]))
    fields = dict(headers)
    at = end + 4
    if fields.get("transfer-encoding", "").lower() == "chunked":
        taken = take_chunked(buffer, at)
        if taken is None:
            return None
        body, at = taken
    else:
        length = int(fields.get("content-length", "0"))
        if length > BODY_BYTES_MAX:
            raise Malformed("body too large")
        if len(buffer) - at < length:
            return None
        body, at = bytes(buffer[at : at + length]), at + length
    del buffer[:at]
    return Request(method, target, headers, body)


def take_chunked(buffer: bytearray, at: int) -> tuple[bytes, int] | None:
    """The decoded chunked body that begins at ``at`` and where it ends; None while it is not all there."""
    out = []
    while (line_end := buffer.find(b"\r\n", at)) >= 0:
        size = int(bytes(buffer[at:line_end]).partition(b";")[0], 16)
        at = line_end + 2
        if len(buffer) < at + size + 2:
            return None
        out.append(bytes(buffer[at : at + size]))
        at += size + 2
        if size == 0:
            return b"".join(out), at
    return None


def head_bytes(status: int, headers: list[tuple[str, str]]) -> bytes:
    phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Scripted"
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class Connection(asyncio.Protocol):
    """``serve(connection, request)`` is called for each request in turn and must end with ``finished``."""

    def __init__(self, serve: Callable[["Connection", Request], None], on_change: Callable[[int], None], number: int) -> None:
        self.number = number
        self.gone = False
        self.on_gone: Callable[[], None] | None = None
        self._serve, self._on_change = serve, on_change
        self._buffer = bytearray()
        self._busy = False
        self._writable = asyncio.Event()
        self._writable.set()
        self._close_after = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        sock = self.transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._on_change(1)

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True
        self._writable.set()
        self._on_change(-1)
        if self.on_gone is not None:
            self.on_gone()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._busy:
            self._next()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    async def drain(self) -> None:
        await self._writable.wait()

    def finished(self, *, close: bool = False) -> None:
        """The answer is written: take the next request, or close."""
        self._busy = False
        self.on_gone = None
        if close or self._close_after:
            self.transport.close()
        elif self._buffer and not self.gone:
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        if self._busy or self.gone:
            return
        try:
            request = take_request(self._buffer)
        except (Malformed, ValueError):
            self.transport.write(head_bytes(400, [("content-length", "0"), ("connection", "close")]))
            self.transport.close()
            return
        if request is None:
            if b"100-continue" in self._buffer and self._buffer.endswith(b"\r\n\r\n"):
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            return
        self._busy = True
        self._close_after = dict(request.headers).get("connection", "").lower() == "close"
        self._serve(self, request)
