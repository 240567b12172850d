"""Two thousand connections that dawdle, closed at their deadlines while the healthy ones go on; a thousand streams in one process."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from functools import partial

from headway.prove.checked import Checked, Progress, at_least, at_most, percentile
from headway.prove.forms import CHAT, PATHS, body_of, headers_of, stream_end
from headway.prove.rawhttp import Broken, RawConnection, until
from headway.prove.watching import cpu_s, metrics, rss_mb
from headway.prove.world import MODEL_BY_DIALECT, World

HEAD_DEADLINE_MS, BODY_DEADLINE_MS, SEND_STALL_MS = 8_000, 8_000, 20_000
CONFIGURATION = f"""
[gateway]
[gateway.limits]
head_deadline_ms = {HEAD_DEADLINE_MS}
body_deadline_ms = {BODY_DEADLINE_MS}
send_stall_ms = {SEND_STALL_MS}
"""
SLOW_HEADS, SLOW_BODIES, SLOW_READERS = 900, 900, 200
LATE_MS = 2_000
STALLED = 'headway_connections_closed_total{reason="send_stall"}'
HEALTHY_CALLS = 400
HEALTHY_AT_ONCE = 4
P99_RATIO_MAX = 2.0
P99_NOISE_MS = 5.0
"""Below this a ratio of two p99 says nothing on a shared machine."""
CONCURRENT_STREAMS = 1_000


async def _trickle(url: str, opening: bytes, drip: bytes) -> float:
    """Send ``opening``, then ``drip`` a byte a second until the gateway closes; the milliseconds that took."""
    connection = await RawConnection.open(url)
    began = time.monotonic()
    try:
        await connection.send_bytes(opening)
        for n in range(60):
            if await connection.closed_within(1.0):
                break
            await connection.send_bytes(drip[n % len(drip) : n % len(drip) + 1])
    except (OSError, Broken):
        pass
    finally:
        connection.abort()
    return (time.monotonic() - began) * 1000


async def _slow_head(stage: World) -> float:
    return await _trickle(stage.product.url, b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-slow: ", b"abcdefgh")


async def _slow_body(stage: World) -> float:
    head = f"POST {PATHS[CHAT]} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {stage.key}\r\ncontent-length: 5000\r\n\r\n"
    return await _trickle(stage.product.url, head.encode(), b'{"model": ')


async def _slow_reader(stage: World, closed: asyncio.Event) -> float:
    """Asks for a long stream and never reads. Whether it was closed only the gateway knows: the kernel keeps what was sent for us."""
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    began = time.monotonic()
    try:
        await loop.sock_connect(sock, ("127.0.0.1", stage.product.gateway_port))
        body = body_of(CHAT, MODEL_BY_DIALECT[CHAT], "<<words=3 oversize_bytes=8000 repeat=1500>>", stream=True)
        lines = [f"POST {PATHS[CHAT]} HTTP/1.1", "host: x", f"content-length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers_of(CHAT, stage.key)]
        await loop.sock_sendall(sock, ("\r\n".join(lines) + "\r\n\r\n").encode() + body)
        await closed.wait()
    finally:
        sock.close()
    return (time.monotonic() - began) * 1000


async def _until_full(stage: World) -> float:
    """Until every buffer on the way to the slow readers is full and the gateway rests: filling them is honest work, not slowness."""
    pid = stage.product.gateway.pid
    last = cpu_s(pid)

    async def rests() -> bool:
        nonlocal last
        before, last = last, cpu_s(pid)
        return last - before < 0.05

    await asyncio.sleep(0.5)
    last = cpu_s(pid)
    return await until("buffers are full", rests, within_s=60, every_s=0.5)


async def _all_stalled(stage: World, closed: asyncio.Event) -> None:
    """Set ``closed`` when the gateway has closed every slow reader for its stall."""

    async def are_closed() -> bool:
        return (await metrics(stage.product.url)).get(STALLED, 0) >= SLOW_READERS

    try:
        await until("all slow readers are closed", are_closed, within_s=60, every_s=0.25)
    finally:
        closed.set()


async def _healthy(stage: World) -> list[float]:
    """Milliseconds of short calls, HEALTHY_AT_ONCE at a time."""
    out: list[float] = []

    async def caller() -> None:
        connection = await RawConnection.open(stage.product.url)
        for _ in range(HEALTHY_CALLS // HEALTHY_AT_ONCE):
            began = time.perf_counter()
            answer = await stage.call_on(connection, CHAT, "<<words=5>>")
            out.append((time.perf_counter() - began) * 1000 if answer.status == 200 else float("inf"))
            await asyncio.sleep(0.005)
        connection.close()

    await asyncio.gather(*(caller() for _ in range(HEALTHY_AT_ONCE)))
    return out


async def slow(stage: World) -> list[Checked]:
    progress = Progress("soak: slow connections")
    alone = await _healthy(stage)
    before_mb = rss_mb(stage.product.gateway.pid)
    closed = asyncio.Event()
    kinds: list[tuple[str, Callable[[World], Awaitable[float]], int, int]] = [
        ("reading", partial(_slow_reader, closed=closed), SLOW_READERS, SEND_STALL_MS),
        ("head", _slow_head, SLOW_HEADS, HEAD_DEADLINE_MS),
        ("body", _slow_body, SLOW_BODIES, BODY_DEADLINE_MS),
    ]
    crowds: dict[str, list[asyncio.Future[float]]] = {}
    for name, dawdle, count, _ in kinds:
        crowds[name] = []
        for n in range(count):  # spread over a second, as strangers come
            crowds[name].append(asyncio.ensure_future(dawdle(stage)))
            await asyncio.sleep(10 / count if n % 10 == 0 else 0)
        if name == "reading":
            progress.say(f"their buffers were full after {await _until_full(stage):.1f} s", force=True)
    progress.say(f"{SLOW_READERS + SLOW_HEADS + SLOW_BODIES} open", force=True)
    watching = asyncio.create_task(_all_stalled(stage, closed))
    beside = await _healthy(stage)
    peak_mb = rss_mb(stage.product.gateway.pid)
    rows = []
    for name, _, count, deadline_ms in kinds:
        took = await asyncio.gather(*crowds[name])
        late = max(took) - deadline_ms
        slack = LATE_MS + (
            4_000 if name == "reading" else 1_000
        )  # a stall begins when the socket buffers are full; a drip tells late
        rows.append(at_most(f"slow_{name}_closed_late_ms", late, slack, unit="ms", n=count, method=f"deadline {deadline_ms} ms"))
        progress.say(f"{name}: all {count} closed", force=True)
    await watching
    progress.done()
    p99_alone, p99_beside = percentile(alone, 0.99), percentile(beside, 0.99)
    ratio = p99_beside / max(p99_alone, P99_NOISE_MS)
    story = f"{p99_alone:.1f} ms alone, {p99_beside:.1f} ms beside 2,000 slow connections"
    rows.append(at_most("healthy_p99_ratio", ratio, P99_RATIO_MAX, unit="ratio", n=len(beside), method=story))
    rows.append(
        at_most("slow_memory_mb", peak_mb - before_mb, 400, unit="MB", n=1, method="gateway's growth with all of them open")
    )
    return rows


async def thousand(stage: World) -> list[Checked]:
    """CONCURRENT_STREAMS at once through one gateway process, each to its clean end."""
    first_ms: list[float] = []

    async def stream() -> bool:
        connection = await RawConnection.open(stage.product.url)
        try:
            body = body_of(CHAT, MODEL_BY_DIALECT[CHAT], "<<words=60 delay_ms=100>>", stream=True)
            began = time.perf_counter()
            await connection.send("POST", PATHS[CHAT], headers_of(CHAT, stage.key), body)
            status, headers = await connection.head()
            pieces: list[bytes] = []
            async for piece in connection.chunks(headers):
                if not pieces:
                    first_ms.append((time.perf_counter() - began) * 1000)
                pieces.append(piece)
            return status == 200 and stream_end(CHAT, b"".join(pieces)).clean
        except (OSError, Broken):
            return False
        finally:
            connection.close()

    ends = await asyncio.gather(*(stream() for _ in range(CONCURRENT_STREAMS)))
    peak = (await stage.upstream.seen(last=0))["in_flight_max"]
    assert isinstance(peak, int)
    when = f"first byte p50 {percentile(first_ms, 0.5):.0f} ms, p99 {percentile(first_ms, 0.99):.0f} ms; at most {peak} at the upstream"
    return [
        at_most("thousand_streams_lost", ends.count(False), 0, unit="streams", n=len(ends), method=when),
        at_least(
            "thousand_streams_at_once", peak, CONCURRENT_STREAMS * 0.98, unit="streams", n=len(ends), method="seen by the upstream"
        ),
    ]
