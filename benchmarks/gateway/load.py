"""The load generator: raw sockets on uvloop, one request built once, so that the generator costs less than what it measures."""

import asyncio
import json
import re
import socket
import time
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import urlsplit

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class Measured(NamedTuple):
    """``latencies_s`` of each whole answer; ``first_s`` until the first event of each stream."""

    requests: int
    events: int
    reads: int
    """Reads that held events: fewer than events where the peer merges."""
    errors: int
    seconds: float
    latencies_s: list[float]
    first_s: list[float]


def request_bytes(
    url: str, key: str, model: str, *, stream: bool, prompt: str = "hello there", headers: dict | None = None
) -> bytes:
    body = {"model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": 64}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    data = json.dumps(body).encode()
    host = urlsplit(url).netloc
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n"
    )
    head += "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    return (head + f"content-length: {len(data)}\r\n\r\n").encode() + data


class Caller(asyncio.Protocol):
    """Sends its request again as soon as the answer is whole, or at the next place in the offered rate, until told to stop."""

    def __init__(self, run: "Run") -> None:
        self.run = run
        self.buffer = b""
        self.due: int | None = None

    def connection_made(self, transport) -> None:
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.run.open.add(self)
        self.run.next_place(self.ask)

    def ask(self) -> None:
        self.buffer, self.due, self.streamed, self.first_at = b"", None, False, None
        self.sent_at = time.perf_counter()
        self.transport.write(self.run.request)

    def data_received(self, data: bytes) -> None:
        run = self.run
        if self.due is None and not self.streamed:
            self.buffer += data
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            if not self.buffer.startswith(b"HTTP/1.1 200"):
                run.errors += 1
                run.first_error = run.first_error or self.buffer[:400]
                self.transport.close()
                return
            length = _LENGTH.search(self.buffer, 0, end)
            data = self.buffer[end + 4 :]
            if length is not None:
                self.due = int(length[1])
            else:
                self.streamed, self.tail = True, b""
        if self.due is not None:
            self.due -= len(data)
            if self.due <= 0:
                self.done()
            return
        events = data.count(b"data: {")
        run.events += events
        run.reads += events > 0
        if events and self.first_at is None:
            self.first_at = time.perf_counter()
            run.first_s.append(self.first_at - self.sent_at)
        self.tail = (self.tail + data)[-5:]
        if self.tail == b"0\r\n\r\n":
            self.done()

    def done(self) -> None:
        run = self.run
        run.requests += 1
        run.latencies_s.append(time.perf_counter() - self.sent_at)
        if run.stopping or (run.most and run.requests >= run.most):
            run.stopping = True
            self.transport.close()
        else:
            run.next_place(self.ask)

    def connection_lost(self, exc) -> None:
        self.run.open.discard(self)
        if not self.run.open:
            self.run.ended.set()


class Run:
    """One load: ``connections`` callers for ``seconds`` (or ``most`` requests); what is under way then is finished and counted.

    With ``rate`` so many requests a second are offered in all, evenly, as long as a caller is free; without it each caller asks again at once.
    """

    def __init__(self, url: str, request: bytes, *, connections: int, seconds: float, most: int = 0, rate: float = 0.0) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname, parts.port
        self.request, self.connections, self.seconds, self.most = request, connections, seconds, most
        self.rate, self.place_s = rate, 0.0
        self.requests = self.events = self.reads = self.errors = 0
        self.first_error = b""
        self.latencies_s: list[float] = []
        self.first_s: list[float] = []
        self.stopping = False
        self.open: set[Caller] = set()
        self.ended = asyncio.Event()

    def next_place(self, ask: Callable[[], None]) -> None:
        if not self.rate:
            ask()
            return
        loop = asyncio.get_running_loop()
        self.place_s = max(self.place_s + 1 / self.rate, loop.time())
        loop.call_at(self.place_s, ask)

    async def __call__(self) -> Measured:
        began = time.perf_counter()
        loop = asyncio.get_running_loop()
        for _ in range(self.connections):
            await loop.create_connection(lambda: Caller(self), self.host, self.port)
        try:
            await asyncio.wait_for(self.ended.wait(), self.seconds)
        except TimeoutError:
            self.stopping = True
            await asyncio.wait_for(self.ended.wait(), 60)
        if self.errors:
            raise RuntimeError(f"{self.errors} calls failed, the first with: {self.first_error.decode(errors='replace')}")
        return Measured(
            self.requests, self.events, self.reads, self.errors, time.perf_counter() - began, self.latencies_s, self.first_s
        )
