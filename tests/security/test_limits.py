"""Each limit through the listener as deployed: the right status, the connection closed, and no memory taken for what is refused."""

import asyncio
import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headway.config.model import Limits

LIMITS = Limits(body_bytes_max=4 * 1024 * 1024, head_deadline_ms=3_000, body_deadline_ms=3_000)
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"


def rss_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


async def say(port: int, opening: bytes, more: bytes, times: int) -> tuple[bytes, bool]:
    """Send ``opening`` and ``more`` again and again for as long as the other side takes it; what it said, and whether it closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def pour() -> None:
        writer.write(opening)
        for _ in range(times):
            writer.write(more)
            await writer.drain()

    pouring = asyncio.create_task(pour())
    answer, closed = b"", False
    try:
        async with asyncio.timeout(10):
            while piece := await reader.read(65536):
                answer += piece
            closed = True
    except ConnectionError:
        closed = True
    except TimeoutError:
        pass
    pouring.cancel()
    await asyncio.gather(pouring, return_exceptions=True)
    writer.transport.abort()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return answer, closed


CASES: dict[str, tuple[bytes, bytes, int, str]] = {
    "request line": (b"GET /", b"a" * 4096, 414, "request_line_too_long"),
    "one header": (POST + b"X: ", b"y" * 4096, 431, "head_too_large"),
    "header count": (POST, b"X: y\r\n" * 50, 431, "head_too_large"),
    "announced body": (POST + b"Content-Length: 4194305\r\n\r\n", b"z" * 65536, 413, "body_too_large"),
    "absurd body": (POST + b"Content-Length: 999999999999999999\r\n\r\n", b"z", 413, "body_too_large"),
    "chunked body": (POST + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"z" * 65536 + b"\r\n", 413, "body_too_large"),
    "one huge chunk": (POST + b"Transfer-Encoding: chunked\r\n\r\n7fffffff\r\n", b"z" * 65536, 413, "body_too_large"),
    "chunk extension": (POST + b"Transfer-Encoding: chunked\r\n\r\n1;", b"e" * 1024, 400, "chunk_line_too_long"),
    "chunk extensions": (POST + b"Transfer-Encoding: chunked\r\n\r\n", b"1;" + b"e" * 500 + b"\r\nz\r\n", 400, "chunk_extensions"),
    "chunk count": (POST + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nz\r\n" * 5_000, 400, "too_many_chunks"),
    "trailers": (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n" * 20, 431, "head_too_large"),
    "leading blank lines": (b"", b"\r\n" * 1_000, 400, "bad_request_line"),
}


@pytest.fixture(scope="module")
def there(deploy_module: Callable[..., Any]) -> Any:
    return deploy_module(LIMITS)


@pytest.mark.parametrize("name", CASES)
def test_over_a_limit(name: str, there: Any) -> None:
    opening, more, status, code = CASES[name]
    before = rss_mb()
    answer, closed = asyncio.run(say(there.port, opening, more, 8_000_000 // max(len(more), 400)))
    assert closed
    assert int(answer[9:12]) == status, answer[:200]
    error = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
    assert error["code"] == code
    assert set(error) == {"message", "type", "code"}
    assert b"connection: close" in answer
    assert rss_mb() - before < 2 * LIMITS.body_bytes_max / 1e6 + 4


@pytest.mark.parametrize("more", [b"a: b\r\n", b"x"])
def test_two_hundred_unfinished_heads_take_no_more_than_their_limit(more: bytes, there: Any) -> None:
    """Every one stops one byte short of its limit; together they must cost what they hold, not a multiple."""

    async def hold() -> float:
        before = rss_mb()
        pairs = [await asyncio.open_connection("127.0.0.1", there.port) for _ in range(200)]
        head = b"GET / HTTP/1.1\r\n" + b"X-Long: " + b"y" * 30_000
        for _, writer in pairs:
            writer.write(head)
        await asyncio.sleep(0.3)
        grown = rss_mb() - before
        for _, writer in pairs:
            writer.transport.abort()
        await asyncio.sleep(0.1)
        return grown

    assert asyncio.run(hold()) < 2 * 200 * LIMITS.head_bytes_max / 1e6 + 10
