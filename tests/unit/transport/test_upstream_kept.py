"""A pooled connection is left alone once its upstream is about to close it."""

import asyncio
import contextlib

import pytest

from headway.config.model import Timeouts
from headway.gateway.upstream.http1 import Http1Upstream
from headway.gateway.upstream.port import UpstreamRequest


@pytest.mark.parametrize(("told", "connections"), [("timeout=60, max=100", 1), ("timeout=1", 2), ("max=5", 1)])
async def test_a_connection_is_used_no_longer_than_its_upstream_keeps_it(told, connections):
    seen = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        seen += 1
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nKeep-Alive: {told}\r\n\r\nhi".encode())

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(served, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    upstream = Http1Upstream()
    request = UpstreamRequest(
        method="POST", url=f"http://127.0.0.1:{port}/", headers=(), body=b"", timeouts=Timeouts(), remaining_ms=None
    )
    for _ in range(2):
        exchange = await upstream.exchange(request)
        assert await exchange.read(10) == b"hi"
        await asyncio.sleep(0.05)
    assert seen == connections
    await upstream.close()
    await asyncio.sleep(0.05)
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize(("closes", "connections"), [(True, 30), (False, 2)])
async def test_a_connection_rests_after_a_stream_until_its_upstream_is_seen_to_keep_it(closes, connections):
    """llama.cpp's server ends the connection behind each stream although its head says ``Keep-Alive``; a request sent at once was lost."""
    seen = 0

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        seen += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nKeep-Alive: timeout=5\r\n\r\n2\r\nhi\r\n0\r\n\r\n")
                if closes:
                    await asyncio.sleep(0.001)
                    break
        writer.close()

    server = await asyncio.start_server(served, "127.0.0.1", 0)
    upstream = Http1Upstream()
    request = UpstreamRequest(
        method="POST",
        url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/",
        headers=(),
        body=b"",
        timeouts=Timeouts(),
        remaining_ms=None,
    )
    for turn in range(30):
        exchange = await upstream.exchange(request)
        assert await exchange.read(10) == b"hi"
        if turn == 1:
            await asyncio.sleep(0.3)
    assert seen == connections
    await upstream.close()
    await asyncio.sleep(0.05)
    server.close()
    await server.wait_closed()
