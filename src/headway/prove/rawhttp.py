"""A client that sees what a socket sees: HTTP/1.1 without a library between, so that a torn answer is told from a finished one.

For proofs, soaks and edge tests. Header names come back lower case; bodies come back decoded from chunks and nothing else.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from urllib.parse import urlsplit

import msgspec

READ_BYTES = 64 * 1024
Headers = Sequence[tuple[str, str]]


class Broken(Exception):
    """The connection ended where the framing promised more. ``so_far`` is the body until then."""

    def __init__(self, message: str, so_far: bytes = b"") -> None:
        super().__init__(message)
        self.so_far = so_far


class RawAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``torn`` is true when the body ended before its framing said so."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    torn: bool = False

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)

    def json(self) -> object:
        return json.loads(self.body)


class RawConnection:
    """One socket. Requests go one after another; ``close`` any time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, authority: str) -> None:
        self._reader, self._writer, self._authority = reader, writer, authority
        self.local_port: int = writer.get_extra_info("sockname")[1]
        self.reusable = True

    @classmethod
    async def open(cls, base_url: str) -> "RawConnection":
        parts = urlsplit(base_url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80, limit=1024 * 1024)
        return cls(reader, writer, parts.netloc)

    async def send(self, method: str, target: str, headers: Headers = (), body: bytes = b"") -> None:
        lines = [f"{method} {target} HTTP/1.1", f"host: {self._authority}", *(f"{name}: {value}" for name, value in headers)]
        if body or method in ("POST", "PUT"):
            lines.append(f"content-length: {len(body)}")
        self._writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body)
        await self._writer.drain()

    async def send_bytes(self, data: bytes) -> None:
        """As they are."""
        self._writer.write(data)
        await self._writer.drain()

    async def closed_within(self, wait_s: float) -> bool:
        """Whether the peer closes (or answers and closes) before ``wait_s`` have passed."""
        try:
            async with asyncio.timeout(wait_s):
                while await self._reader.read(READ_BYTES):
                    pass
        except TimeoutError:
            return False
        except ConnectionError:
            pass
        return True

    async def head(self) -> tuple[int, tuple[tuple[str, str], ...]]:
        """Status and headers of the next final answer. Raises Broken."""
        while True:
            try:
                block = await self._reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError) as error:
                raise Broken("closed before a head") from error
            first, *lines = block[:-4].decode("latin-1").split("\r\n")
            status = int(first.split(" ", 2)[1])
            if status >= 200:
                pairs = [line.partition(":") for line in lines]
                return status, tuple((name.lower(), value.strip()) for name, _, value in pairs)

    async def chunks(self, headers: Headers) -> AsyncIterator[bytes]:
        """The body as it comes. Raises Broken when it is torn."""
        fields = dict(headers)
        if fields.get("connection", "").lower() == "close":
            self.reusable = False
        try:
            if fields.get("transfer-encoding", "").lower() == "chunked":
                async for piece in self._chunked():
                    yield piece
            elif "content-length" in fields:
                left = int(fields["content-length"])
                while left:
                    piece = await self._reader.read(min(left, READ_BYTES))
                    if not piece:
                        raise Broken(f"closed with {left} bytes due")
                    left -= len(piece)
                    yield piece
            else:
                self.reusable = False
                while piece := await self._reader.read(READ_BYTES):
                    yield piece
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise Broken(f"closed inside the body: {type(error).__name__}") from error

    async def _chunked(self) -> AsyncIterator[bytes]:
        while True:
            line = await self._reader.readuntil(b"\r\n")
            size = int(line.partition(b";")[0], 16)
            piece = await self._reader.readexactly(size + 2)
            if not size:
                return
            yield piece[:-2]

    async def request(self, method: str, target: str, headers: Headers = (), body: bytes = b"") -> RawAnswer:
        """A whole exchange; a torn body comes back with ``torn`` set. Raises Broken when there is no head."""
        await self.send(method, target, headers, body)
        status, answer_headers = await self.head()
        pieces: list[bytes] = []
        torn = False
        if method != "HEAD" and status not in (204, 304):
            try:
                async for piece in self.chunks(answer_headers):
                    pieces.append(piece)
            except Broken:
                torn, self.reusable = True, False
        return RawAnswer(status=status, headers=answer_headers, body=b"".join(pieces), torn=torn)

    def close(self) -> None:
        self._writer.close()

    def abort(self) -> None:
        """Close at once, dropping what is unsent."""
        self._writer.transport.abort()


async def request(base_url: str, method: str, target: str, headers: Headers = (), body: bytes = b"") -> RawAnswer:
    """One exchange on a connection of its own."""
    connection = await RawConnection.open(base_url)
    try:
        return await connection.request(method, target, headers, body)
    finally:
        connection.close()


async def get_json(base_url: str, target: str, headers: Headers = ()) -> object:
    """The JSON at ``target``. Raises ValueError for any status but 200."""
    answer = await request(base_url, "GET", target, headers)
    if answer.status != 200:
        raise ValueError(f"GET {target}: {answer.status} {answer.body[:300]!r}")
    return answer.json()


async def until(what: str, check: Callable[[], Awaitable[bool]], *, within_s: float, every_s: float = 0.02) -> float:
    """Wait until ``check()`` gives true; the seconds it took. Raises TimeoutError naming ``what``."""
    began = time.monotonic()
    while not await check():
        if time.monotonic() - began > within_s:
            raise TimeoutError(f"not within {within_s} s: {what}")
        await asyncio.sleep(every_s)
    return time.monotonic() - began
