"""A scripted origin for the conformance suite: raw sockets, so that it can do what no HTTP server would."""

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import msgspec

from headway.config.model import Timeouts
from headway.gateway.upstream.port import UpstreamRequest

Script = Callable[["Peer"], Awaitable[None]]

CLOSES_AFTER_S = 0.01
"""How long ``closing_origin`` keeps a connection after its answer."""

_WAIT_S = 10.0


class Seen(msgspec.Struct):
    """One request as it stood on the wire."""

    line: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Peer:
    """One connection, seen from the origin."""

    def __init__(self, origin: "Origin", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.origin, self.reader, self.writer = origin, reader, writer

    async def request(self) -> Seen:
        """Read one request with a Content-Length; it is added to ``origin.seen``. IncompleteReadError when none comes."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        lines = head[:-4].split(b"\r\n")
        headers = [(name, value.strip()) for name, _, value in (line.partition(b":") for line in lines[1:])]
        length = int({name.lower(): value for name, value in headers}.get(b"content-length", b"0"))
        seen = Seen(lines[0], headers, await self.reader.readexactly(length))
        self.origin.seen.append(seen)
        return seen

    async def head(self) -> bytes:
        return await self.reader.readuntil(b"\r\n\r\n")

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, body: bytes = b"ok", *, extra: bytes = b"", length: int | None = None) -> None:
        announced = len(body) if length is None else length
        await self.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n" % (announced, extra) + body)

    async def until_gone(self) -> float:
        """Wait until the other side has closed; the loop's time when it had. TimeoutError when it does not."""
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(_WAIT_S):
                while await self.reader.read(65536):
                    pass
        return asyncio.get_running_loop().time()


class Origin:
    """``url`` answers by ``script``; ``connections`` counts what was accepted, ``seen`` what ``Peer.request`` read."""

    def __init__(self) -> None:
        self.url = ""
        self.port = 0
        self.connections = 0
        self.seen: list[Seen] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def request(
        self,
        *,
        method: str = "POST",
        path: str = "/v1/x",
        headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),),
        body: bytes = b"{}",
        timeouts: Timeouts | None = None,
        remaining_ms: float | None = None,
    ) -> UpstreamRequest:
        return UpstreamRequest(
            method=method,
            url=self.url + path,
            headers=headers,
            body=body,
            timeouts=timeouts if timeouts is not None else Timeouts(),
            remaining_ms=remaining_ms,
        )

    async def _serve(self, script: Script, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                await script(Peer(self, reader, writer))
        finally:
            self._tasks.discard(task)
            writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=_WAIT_S)


@contextlib.asynccontextmanager
async def origin(script: Script, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> AsyncIterator[Origin]:
    """Run ``script`` for each connection."""
    self = Origin()
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    server = await asyncio.start_server(lambda reader, writer: self._serve(script, reader, writer), sock=sock, ssl=tls)
    self.port = sock.getsockname()[1]
    self.url = f"{'https' if tls is not None else 'http'}://{host}:{self.port}"
    try:
        yield self
    finally:
        server.close()
        await self.stop()


@contextlib.contextmanager
def unreachable() -> Iterator[str]:
    """An address that neither accepts nor refuses: a listener whose queue is full."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    fillers = []
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(listener.getsockname())
        fillers.append(filler)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        for each in (*fillers, listener):
            each.close()


@contextlib.contextmanager
def closing_origin() -> Iterator[tuple[str, list[bytes]]]:
    """An origin on a thread of its own, which promises to keep each connection and closes it after one answer.

    Yields its address and the heads it has read.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    served: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                data = b""
                while not data.endswith(b"\r\n\r\n{}"):
                    piece = connection.recv(65536)
                    if not piece:
                        break
                    data += piece
                else:
                    served.append(data)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                    time.sleep(CLOSES_AFTER_S)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/", served
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(_WAIT_S)
