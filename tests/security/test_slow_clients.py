"""Clients that trickle into the head, into the body, or out of the answer are closed at their deadline; healthy ones do not notice."""

import asyncio
import contextlib
import resource
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from headway.config.model import Limits

NOISE_MS = 1.0
"""A 99th percentile below this is the scheduler's on a small shared machine."""
BLOCK = b"x" * 65536


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers ``/flood`` without end and anything else with two bytes."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        if not message["more_body"]:
            break
    if scope["path"] != "/flood":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(1_000):
        await send({"type": "http.response.body", "body": BLOCK, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def shut(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def trickle_in(port: int, opening: bytes, interval_s: float) -> float:
    """Seconds until the other side ended it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    began = time.monotonic()
    writer.write(opening)

    async def drip() -> None:
        while not writer.transport.is_closing():
            writer.write(b"x")
            await asyncio.sleep(interval_s)

    task = asyncio.create_task(drip())
    try:
        async with asyncio.timeout(30):
            while await reader.read(4096):
                pass
    except ConnectionError:
        pass
    finally:
        task.cancel()
        await shut(writer)
    return time.monotonic() - began


async def trickle_out(port: int, interval_s: float) -> float:
    """Ask for much, read a byte now and then. Seconds until the connection is gone."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    began = time.monotonic()
    writer.write(b"GET /flood HTTP/1.1\r\nHost: a\r\n\r\n")
    try:
        async with asyncio.timeout(30):
            while True:
                await reader.readexactly(1)
                await asyncio.sleep(interval_s)
                writer.write(b" ")  # a reset shows when one writes
                await writer.drain()
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        await shut(writer)
    return time.monotonic() - began


def test_two_hundred_slow_clients_are_closed_at_their_deadlines(deploy: Callable[..., Any]) -> None:
    limits = Limits(
        head_deadline_ms=500, body_deadline_ms=500, send_stall_ms=500, keep_alive_idle_ms=2_000, body_rate_bytes_per_s_min=0
    )
    there = deploy(limits, app)

    async def all_of_them() -> tuple[list[float], list[float], list[float]]:
        heads = [trickle_in(there.port, b"GET / HTTP/1.1\r\nX: ", 0.05) for _ in range(80)]
        bodies = [trickle_in(there.port, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999\r\n\r\n", 0.05) for _ in range(80)]
        readers = [trickle_out(there.port, 0.05) for _ in range(40)]
        took = await asyncio.gather(*heads, *bodies, *readers)
        return took[:80], took[80:160], took[160:]

    heads, bodies, readers = asyncio.run(all_of_them())
    assert 0.45 < min(heads) <= max(heads) < 2.5
    assert 0.45 < min(bodies) <= max(bodies) < 2.5
    assert max(readers) < 6
    closed = there.counters.closed
    assert (closed["head"], closed["body"], closed["send_stall"]) == (80, 80, 40)


SERVER = """
import asyncio, signal
from headway.config.model import Limits
from headway.gateway.listener.server import new_loop, serve

BLOCK = b"x" * 65536

async def app(scope, receive, send):
    if scope["path"] == "/flood":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(1000):
            await send({"type": "http.response.body", "body": BLOCK, "more_body": True})
        return await send({"type": "http.response.body", "body": b""})
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        if not message["more_body"]:
            break
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})

async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    limits = Limits(head_deadline_ms=6000, body_deadline_ms=6000, send_stall_ms=6000)
    await serve(app, "127.0.0.1", 0, limits=limits, should_exit=stop, drain_s=1, on_started=lambda host, port: print(port, flush=True))

with asyncio.Runner(loop_factory=new_loop) as runner:
    runner.run(main())
"""
HEALTHY = """
import socket, statistics, sys, time
client = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
took, end = [], time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    began = time.monotonic()
    client.sendall(b"POST /ok HTTP/1.1\\r\\nHost: a\\r\\nContent-Length: 5\\r\\n\\r\\nhello")
    answer = b""
    while not answer.endswith(b"ok"):
        answer += client.recv(4096)
    took.append(time.monotonic() - began)
    time.sleep(0.002)
print(statistics.quantiles(took, n=100)[-1] * 1e3)
"""


async def healthy_p99_ms(port: int, seconds: float) -> float:
    """99th percentile of one client asking again and again on one connection, in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HEALTHY, str(port), str(seconds), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    return float(out)


async def later(delay_s: float, work: Awaitable[float]) -> float:
    await asyncio.sleep(delay_s)
    return await work


@pytest.mark.slow
def test_two_thousand_slow_clients_do_not_slow_healthy_ones() -> None:
    """Beside a second listener that nobody attacks, measured in the same seconds: what the machine does otherwise hits both."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 10_000:
        pytest.skip(f"needs 10,000 open files, this shell may have {hard} (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 10_000), hard))
    servers = [subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE) for _ in range(2)]
    attacked, spared = (int(server.stdout.readline()) for server in servers if server.stdout is not None)

    async def all_of_them() -> tuple[float, float, list[float]]:
        openings = [b"GET / HTTP/1.1\r\nX: "] * 1_000 + [b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999\r\n\r\n"] * 800
        slow = [asyncio.create_task(later(n / 1_800, trickle_in(attacked, opening, 1))) for n, opening in enumerate(openings)]
        slow += [asyncio.create_task(later(n / 200, trickle_out(attacked, 1))) for n in range(200)]
        await asyncio.sleep(1.5)
        p99s_ms = await asyncio.gather(healthy_p99_ms(spared, 3), healthy_p99_ms(attacked, 3))
        return *p99s_ms, await asyncio.gather(*slow)

    try:
        alone, beside, took = asyncio.run(all_of_them())
    finally:
        for server in servers:
            server.terminate()
            server.wait(10)
            if server.stdout is not None:
                server.stdout.close()
    assert max(took[:1_800]) < 8
    assert max(took[1_800:]) < 25
    assert beside <= 2 * max(alone, NOISE_MS), (
        f"healthy p99 {alone:.2f} ms at a listener left alone, {beside:.2f} ms at the attacked one"
    )
