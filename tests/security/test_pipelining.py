"""A thousand requests in one write: answered in order, memory flat, and no answer for a request that nobody sent."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headway.config.model import Limits

REQUESTS = 1_000


def rss_mb() -> float:
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * 4096 / 1e6


async def numbered(scope: Any, receive: Any, send: Any) -> None:
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
        if not message["more_body"]:
            break
    await asyncio.sleep(0)
    said = scope["path"].encode() + b" %d" % len(body)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(said))]})
    await send({"type": "http.response.body", "body": said})


def pipeline(count: int, padding: int) -> bytes:
    """Every third with a length, every third chunked, every third without a body."""
    parts = []
    for n in range(count):
        line = b"POST /n%d HTTP/1.1\r\nHost: a\r\n" % n
        if n % 3 == 0:
            parts.append(line + b"Content-Length: %d\r\n\r\n" % padding + b"x" * padding)
        elif n % 3 == 1:
            parts.append(line + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % padding + b"y" * padding + b"\r\n0\r\n\r\n")
        else:
            parts.append(line + b"\r\n")
    return b"".join(parts)


async def ask(port: int, data: bytes, last: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    answer = b""
    async with asyncio.timeout(30):
        while not answer.endswith(last):
            piece = await reader.read(1 << 20)
            assert piece, "closed before the last answer"
            answer += piece
    writer.close()
    await writer.wait_closed()
    return answer


def test_a_thousand_requests_in_one_write_are_answered_in_order(deploy: Callable[..., Any]) -> None:
    there = deploy(Limits(), numbered)
    answer = asyncio.run(ask(there.port, pipeline(REQUESTS, 50), b"/n%d 50" % (REQUESTS - 1)))
    expected = [(n, 0 if n % 3 == 2 else 50) for n in range(REQUESTS)]
    assert [(int(n), int(size)) for n, size in re.findall(rb"/n(\d+) (\d+)", answer)] == expected
    assert there.counters.requests_total == REQUESTS
    assert there.counters.refused == {}


def test_memory_stays_flat_under_a_pipeline_of_eighty_megabytes(deploy: Callable[..., Any]) -> None:
    """Both ends run in this process: what grows beyond the client's own buffer would be the listener keeping the pipeline."""
    there = deploy(Limits(), numbered)
    block = pipeline(99, 8_000)

    async def flood() -> float:
        reader, writer = await asyncio.open_connection("127.0.0.1", there.port)
        before, peak = rss_mb(), 0.0
        for _ in range(150):
            writer.write(block)
            await writer.drain()
            peak = max(peak, rss_mb())
            await reader.read(1 << 20)
        writer.transport.abort()
        await asyncio.sleep(0.1)
        return peak - before

    assert asyncio.run(flood()) < 30
