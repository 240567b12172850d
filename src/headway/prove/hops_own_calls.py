"""The caller of ``hops_own``: keep-alive connections that are asked in turn, one call at a time, with as little of its own as can be.

It asks again as soon as an answer is whole, as ``make bench`` does, and notes three instants of a call: before its request is handed over, after, and
when its answer was whole.
"""

import asyncio
import itertools
import json
import re
from collections.abc import Sequence
from typing import Final, cast
from urllib.parse import urlsplit

from headway.kernel.instants import mono_ns

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_OK: Final = b"HTTP/1.1 200"
STUCK_S: Final = 30.0


class CallFailed(Exception):
    """An answer that is not 200 and whole."""


def request_bytes(url: str, key: str, model: str) -> bytes:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hello there"}], "max_tokens": 64}).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: {urlsplit(url).netloc}\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Line(asyncio.Protocol):
    """One connection and the request that it sends. ``took`` and ``waited``: nanoseconds of each call, from before and from after its sending."""

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.took: list[int] = []
        self.waited: list[int] = []
        self.turns: Turns | None = None
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._began = self._sent = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one by its methods only

    def ask(self) -> None:
        assert self._transport is not None
        self._buffer = b""
        self._began = mono_ns()
        self._transport.write(self.request)
        self._sent = mono_ns()

    def data_received(self, data: bytes) -> None:
        now = mono_ns()
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n") + 4
        if end < 4:
            return
        length = _LENGTH.search(self._buffer, 0, end)
        if length is None or not self._buffer.startswith(_OK):
            self._fail(CallFailed(f"not an answer: {self._buffer[:300]!r}"))
        elif len(self._buffer) >= end + int(length[1]):
            self.took.append(now - self._began)
            self.waited.append(now - self._sent)
            if self.turns is not None:
                self.turns.next()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(CallFailed(f"the connection was closed ({exc})"))

    def clear(self) -> None:
        """Forget what was noted."""
        self.took, self.waited = [], []

    def close(self) -> None:
        self.turns = None
        if self._transport is not None:
            self._transport.close()

    def _fail(self, error: CallFailed) -> None:
        if self.turns is not None:
            self.turns.fail(error)


class Turns:
    """``each`` calls on every one of ``lines``, one after the other in turn. Await ``done``."""

    def __init__(self, lines: Sequence[Line], each: int) -> None:
        self._left = each * len(lines)
        self._order = itertools.cycle(lines)
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for line in lines:
            line.turns = self

    async def done(self) -> None:
        """CallFailed for one that failed, or when nothing came for STUCK_S."""
        self.next()
        try:
            async with asyncio.timeout(STUCK_S):
                await self._done
        except TimeoutError:
            raise CallFailed(f"no answer within {STUCK_S:.0f} s") from None

    def next(self) -> None:
        if self._left:
            self._left -= 1
            next(self._order).ask()
        elif not self._done.done():
            self._done.set_result(None)

    def fail(self, error: CallFailed) -> None:
        if not self._done.done():
            self._done.set_exception(error)


async def connect(url: str, key: str, model: str) -> Line:
    parts = urlsplit(url)
    line = Line(request_bytes(url, key, model))
    await asyncio.get_running_loop().create_connection(lambda: line, parts.hostname or "127.0.0.1", parts.port or 80)
    return line
