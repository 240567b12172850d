"""What any adapter of ``gateway/upstream/port.py`` must do, as checks to import.

``CHECKS`` are independent; a test binds an adapter with ``pytest.mark.parametrize("check", CHECKS)`` and
``await check(make_upstream)``. ``conformance`` runs all of them and names the one that failed.
"""

import asyncio
import contextlib
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

from headway.config.model import Timeouts
from headway.gateway.upstream.conformance_origin import CLOSES_AFTER_S, Origin, Peer, Script, closing_origin, origin, unreachable
from headway.gateway.upstream.port import Exchange, Upstream, UpstreamError, UpstreamPhase, UpstreamRequest
from headway.kernel.instants import mono_ns
from headway.kernel.limits import CLIENT_GONE_CLOSE_MS, UPSTREAM_HEADERS_MAX, UPSTREAM_INTERIM_MAX

CANCELLED_AT_ONCE = 16
_BACK_PRESSURE_BYTES_MAX = 16 * 1024 * 1024
_LATE_S = 0.4
"""How late a deadline may be noticed on a busy machine."""


class MakeUpstream(Protocol):
    def __call__(self, *, sockets_max: int = ...) -> Upstream: ...


Check = Callable[[MakeUpstream], Awaitable[None]]


@contextlib.asynccontextmanager
async def _between(make: MakeUpstream, script: Script, *, sockets_max: int = 64) -> AsyncIterator[tuple[Upstream, Origin]]:
    async with origin(script) as there:
        upstream = make(sockets_max=sockets_max)
        try:
            yield upstream, there
        finally:
            await upstream.close()


async def _whole(upstream: Upstream, request: UpstreamRequest) -> tuple[Exchange, bytes]:
    exchange = await upstream.exchange(request)
    body = await exchange.read(1 << 26)
    await exchange.close()
    return exchange, body


async def _failure(upstream: Upstream, request: UpstreamRequest) -> UpstreamError:
    """The UpstreamError of an exchange, wherever it shows."""
    try:
        exchange = await upstream.exchange(request)
        try:
            await exchange.read(1 << 26)
        finally:
            await exchange.close()
    except UpstreamError as error:
        return error
    raise AssertionError("the exchange succeeded")


async def _answers(peer: Peer) -> None:
    while True:
        await peer.request()
        await peer.answer()


async def _silent(peer: Peer) -> None:
    await peer.request()
    await peer.until_gone()


async def sends_what_it_was_told(make: MakeUpstream) -> None:
    async with _between(make, _answers) as (upstream, there):
        headers = (("content-type", "application/json"), ("x-two", "a"), ("x-two", "b"))
        await _whole(upstream, there.request(path="/v1/%2e%2fx?q=a%20b", headers=headers, body=b"\x00\xffbody"))
    (seen,) = there.seen
    assert seen.line == b"POST /v1/%2e%2fx?q=a%20b HTTP/1.1"
    assert seen.body == b"\x00\xffbody"
    got = sorted((name.lower(), value) for name, value in seen.headers)
    host = (b"host", b"127.0.0.1:%d" % there.port)
    told = [(name.encode(), value.encode()) for name, value in headers]
    assert got == sorted([*told, host, (b"content-length", b"6"), (b"accept-encoding", b"identity")]), got


async def reads_an_answer(make: MakeUpstream) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 429 Slow\r\nX-B: 1\r\nx-a: 2\r\nX-b: 3\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in (b"5\r\nhel", b"lo\r\n1;x=y\r\n!\r\n", b"0\r\nTrailer: x\r\n\r\n"):
            await peer.say(piece)
            await asyncio.sleep(0.01)

    async with _between(make, script) as (upstream, there):
        exchange, body = await _whole(upstream, there.request())
    assert (exchange.status, body) == (429, b"hello!")
    assert [field for field in exchange.headers if field[0].startswith("x-")] == [("x-b", "1"), ("x-a", "2"), ("x-b", "3")]
    assert exchange.connected_at is not None
    assert exchange.connected_at <= exchange.head_at
    assert exchange.ended_at is not None
    assert exchange.head_at + 15_000_000 <= exchange.ended_at <= mono_ns(), "two pauses of 10 ms lie between head and end"


async def reuses_a_clean_socket(make: MakeUpstream) -> None:
    async with _between(make, _answers) as (upstream, there):
        first, _ = await _whole(upstream, there.request())
        second, _ = await _whole(upstream, there.request())
    assert first.connected_at is not None
    assert second.connected_at is None
    assert there.connections == 1


async def streams_as_bytes_come(make: MakeUpstream) -> None:
    went_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc")
        await went_on.wait()
        await peer.say(b"def")

    async with _between(make, script) as (upstream, there):
        exchange = await upstream.exchange(there.request())
        reads = aiter(exchange.chunks())
        assert await anext(reads) == b"abc"
        went_on.set()
        assert await anext(reads) == b"def"
        assert [data async for data in reads] == []
        await exchange.close()


async def follows_no_redirect(make: MakeUpstream) -> None:
    async with origin(_answers) as trap:

        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.say(b"HTTP/1.1 307 X\r\nLocation: %s/trap\r\nContent-Length: 0\r\n\r\n" % trap.url.encode())

        async with _between(make, script) as (upstream, there):
            exchange, _ = await _whole(upstream, there.request())
        assert exchange.status == 307
        assert trap.connections == 0


async def keeps_no_cookies(make: MakeUpstream) -> None:
    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.answer(extra=b"Set-Cookie: a=b; Path=/\r\n")

    async with _between(make, script) as (upstream, there):
        await _whole(upstream, there.request())
        await _whole(upstream, there.request())
    assert not [field for seen in there.seen for field in seen.headers if field[0].lower() == b"cookie"]


async def passes_compressed_bytes(make: MakeUpstream) -> None:
    packed = zlib.compress(b"a" * 10_000)

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.answer(packed, extra=b"Content-Encoding: deflate\r\n")

    async with _between(make, script) as (upstream, there):
        assert (await _whole(upstream, there.request()))[1] == packed


async def _cancelled_closes(make: MakeUpstream, script: Script, gone: list[float]) -> None:
    """Cancel ``CANCELLED_AT_ONCE`` tasks in the state that ``script`` leaves them in; all sockets must be closed in time.

    ``script`` appends the loop's time to ``gone`` when its connection has ended.
    """
    async with _between(make, script) as (upstream, there):

        async def run() -> None:
            exchange = await upstream.exchange(there.request())
            async for _ in exchange.chunks():
                pass

        tasks = [asyncio.create_task(run()) for _ in range(CANCELLED_AT_ONCE)]
        await asyncio.sleep(0.3)
        at = asyncio.get_running_loop().time()
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results), results
        await asyncio.sleep(CLIENT_GONE_CLOSE_MS / 1e3 + _LATE_S)
    assert len(gone) == CANCELLED_AT_ONCE, f"{len(gone)} of {CANCELLED_AT_ONCE} sockets were closed"
    assert max(gone) - at < CLIENT_GONE_CLOSE_MS / 1e3, f"{(max(gone) - at) * 1e3:.0f} ms"


async def cancel_closes_while_waiting(make: MakeUpstream) -> None:
    gone: list[float] = []

    async def script(peer: Peer) -> None:
        await peer.request()
        gone.append(await peer.until_gone())

    await _cancelled_closes(make, script, gone)


async def cancel_closes_while_reading(make: MakeUpstream) -> None:
    gone: list[float] = []

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
        gone.append(await peer.until_gone())

    await _cancelled_closes(make, script, gone)


async def cancel_closes_while_sending(make: MakeUpstream) -> None:
    """What is still to be sent is not flushed first: the origin, reading on afterwards, gets a part and the end."""
    body = b"x" * 16_000_000
    cancelled, gone = asyncio.Event(), asyncio.Event()
    received = 0

    async def script(peer: Peer) -> None:
        nonlocal received
        await peer.head()
        await cancelled.wait()
        with contextlib.suppress(ConnectionError):
            while data := await peer.reader.read(65536):
                received += len(data)
        gone.set()

    async with _between(make, script) as (upstream, there):
        task = asyncio.create_task(upstream.exchange(there.request(body=body)))
        await asyncio.sleep(0.2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        cancelled.set()
        async with asyncio.timeout(5):
            await gone.wait()
    assert received < len(body), "the whole body was sent after the cancellation"


async def close_before_the_end_drops_the_socket(make: MakeUpstream) -> None:
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
        await peer.until_gone()
        gone.set()

    async with _between(make, script) as (upstream, there):
        exchange = await upstream.exchange(there.request())
        await exchange.close()
        async with asyncio.timeout(CLIENT_GONE_CLOSE_MS / 1e3 + _LATE_S):
            await gone.wait()


async def holds_back_a_fast_upstream(make: MakeUpstream) -> None:
    offered = 0

    async def script(peer: Peer) -> None:
        nonlocal offered
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 300000000\r\n\r\n")
        block = b"x" * 65536
        while offered < 300_000_000:
            await peer.say(block)
            offered += len(block)

    async with _between(make, script) as (upstream, there):
        exchange = await upstream.exchange(there.request())
        await anext(aiter(exchange.chunks()))
        await asyncio.sleep(0.5)
        await exchange.close()
    assert offered < _BACK_PRESSURE_BYTES_MAX, offered


async def _times_out(make: MakeUpstream, script: Script, phase: UpstreamPhase, **limits_: float) -> None:
    """The failure is in ``phase``, a timeout, and came about 200 ms after the start."""
    remaining = limits_.pop("remaining_ms", None)
    timeouts = Timeouts(**{name: int(value) for name, value in limits_.items()})
    async with _between(make, script) as (upstream, there):
        started = time.monotonic()
        error = await _failure(upstream, there.request(timeouts=timeouts, remaining_ms=remaining))
        took = time.monotonic() - started
    assert (error.phase, error.timed_out) == (phase, True), error
    assert 0.15 < took < 0.2 + _LATE_S, took


async def first_byte_times_out(make: MakeUpstream) -> None:
    await _times_out(make, _silent, UpstreamPhase.FIRST_BYTE, first_byte_ms=200)


async def silence_times_out(make: MakeUpstream) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        await peer.until_gone()

    await _times_out(make, script, UpstreamPhase.BODY, idle_ms=200)


async def the_total_times_out(make: MakeUpstream) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n")
        for _ in range(1000):
            await peer.say(b"x")
            await asyncio.sleep(0.01)

    await _times_out(make, script, UpstreamPhase.BODY, total_ms=200)


async def the_deadline_of_the_call_times_out(make: MakeUpstream) -> None:
    await _times_out(make, _silent, UpstreamPhase.FIRST_BYTE, remaining_ms=200)


async def a_slow_reader_is_not_silence(make: MakeUpstream) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.answer(b"x" * 1_000_000)

    async with _between(make, script) as (upstream, there):
        exchange = await upstream.exchange(there.request(timeouts=Timeouts(idle_ms=100)))
        reads, size = aiter(exchange.chunks()), 0
        size += len(await anext(reads))
        await asyncio.sleep(0.4)
        size += sum([len(data) async for data in reads])
        await exchange.close()
    assert size == 1_000_000


async def connecting_times_out(make: MakeUpstream) -> None:
    with unreachable() as url:
        upstream = make()
        try:
            started = time.monotonic()
            request = UpstreamRequest(method="POST", url=url + "/", headers=(), body=b"", timeouts=Timeouts(connect_ms=200))
            error = await _failure(upstream, request)
            took = time.monotonic() - started
        finally:
            await upstream.close()
    assert (error.phase, error.timed_out, error.sent) == (UpstreamPhase.CONNECT, True, False)
    assert 0.15 < took < 0.2 + _LATE_S, took


async def a_refused_connection_was_not_sent(make: MakeUpstream) -> None:
    async with origin(_answers) as there:
        pass
    upstream = make()
    error = await _failure(upstream, there.request())
    await upstream.close()
    assert (error.phase, error.timed_out, error.sent) == (UpstreamPhase.CONNECT, False, False)


async def a_full_pool_waits_as_connecting(make: MakeUpstream) -> None:
    async with _between(make, _silent, sockets_max=1) as (upstream, there):
        first = asyncio.create_task(upstream.exchange(there.request()))
        await asyncio.sleep(0.05)
        error = await _failure(upstream, there.request(timeouts=Timeouts(connect_ms=150)))
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert (error.phase, error.timed_out) == (UpstreamPhase.CONNECT, True)
        assert there.connections == 1


async def a_dead_pooled_socket_is_replaced(make: MakeUpstream) -> None:
    """The upstream closed while the socket was idle: nothing was sent on it, so the call goes out on a new one, once."""
    with closing_origin() as (url, served):
        upstream = make()
        request = UpstreamRequest(method="POST", url=url, headers=(), body=b"{}", timeouts=Timeouts())
        for _ in range(20):
            await _whole(upstream, request)
            time.sleep(CLOSES_AFTER_S * 2)  # noqa: ASYNC251 - the close arrives, and this loop has not heard of it yet
        await upstream.close()
    assert len(served) == 20


async def nothing_is_sent_twice(make: MakeUpstream) -> None:
    """The upstream reads a call on a pooled socket and closes without a word: it may have worked on it."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.answer()
        await peer.request()

    async with _between(make, script) as (upstream, there):
        await _whole(upstream, there.request())
        error = await _failure(upstream, there.request())
    assert (error.phase, error.sent) == (UpstreamPhase.FIRST_BYTE, True)
    assert len(there.seen) == 2


async def bytes_after_the_end_reach_nobody(make: MakeUpstream) -> None:
    """At once or later, a whole answer or junk: the socket is not used again. Junk in the same read may spoil its own answer."""
    spill = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nSPILL"
    for gap_s in (0.0, 0.02):
        for junk in (spill, b"junk", b"\r\n" + spill):

            async def script(peer: Peer, gap_s: float = gap_s, junk: bytes = junk) -> None:
                await peer.request()
                if gap_s:
                    await peer.answer(b"first")
                    await asyncio.sleep(gap_s)
                    await peer.say(junk)
                else:
                    await peer.answer(b"first" + junk, length=5)
                await peer.request()
                await peer.answer(b"dirty")

            async with _between(make, script) as (upstream, there):
                for connections in (1, 2):
                    with contextlib.suppress(UpstreamError):
                        assert (await _whole(upstream, there.request()))[1] == b"first"
                    assert there.connections == connections
                    await asyncio.sleep(gap_s * 2)


async def a_short_answer_is_an_error(make: MakeUpstream) -> None:
    for head, part in (
        (b"Content-Length: 10", b"abc"),
        (b"Transfer-Encoding: chunked", b"3\r\nabc\r\n"),
        (b"Transfer-Encoding: chunked", b"a\r\nabc"),
    ):

        async def script(peer: Peer, head: bytes = head, part: bytes = part) -> None:
            await peer.request()
            await peer.say(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n" + part)
            await asyncio.sleep(0.02)

        async with _between(make, script) as (upstream, there):
            error = await _failure(upstream, there.request())
        assert (error.phase, error.timed_out) == (UpstreamPhase.BODY, False)


async def an_unsure_length_is_an_error(make: MakeUpstream) -> None:
    for heads in (
        b"Content-Length: 2\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nContent-Length: 2",
        b"Content-Length: 2\r\nContent-Length: 3",
        b"Content-Length: +2",
        b"Content-Length: 2, 2",
    ):

        async def script(peer: Peer, heads: bytes = heads) -> None:
            await peer.request()
            await peer.say(b"HTTP/1.1 200 OK\r\n" + heads + b"\r\n\r\n2\r\nok\r\n0\r\n\r\n")
            await peer.until_gone()

        async with _between(make, script) as (upstream, there):
            await _failure(upstream, there.request())
            await _failure(upstream, there.request())
            assert there.connections == 2


async def interim_answers_are_skipped(make: MakeUpstream) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 102 P\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n")
        await asyncio.sleep(0.02)
        await peer.answer()

    async with _between(make, script) as (upstream, there):
        exchange, body = await _whole(upstream, there.request())
    assert (exchange.status, body) == (200, b"ok")
    assert not [field for field in exchange.headers if field[0] == "link"]


async def a_flood_of_interim_answers_ends(make: MakeUpstream) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        for _ in range(UPSTREAM_INTERIM_MAX * 50):
            await peer.say(b"HTTP/1.1 103 Early\r\n\r\n" * 20)
            await asyncio.sleep(0)
        await peer.answer()

    async with _between(make, script) as (upstream, there):
        error = await _failure(upstream, there.request())
        assert error.phase is UpstreamPhase.FIRST_BYTE


async def an_unasked_upgrade_is_an_error(make: MakeUpstream) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nraw")
        await peer.until_gone()

    async with _between(make, script) as (upstream, there):
        await _failure(upstream, there.request())


async def an_early_answer_is_read_and_its_socket_dropped(make: MakeUpstream) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.say(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        await peer.until_gone()

    async with _between(make, script) as (upstream, there):
        for expected in (1, 2):
            exchange, body = await _whole(upstream, there.request(body=b"x" * 8_000_000))
            assert (exchange.status, body) == (413, b"no")
            assert there.connections == expected


async def an_endless_head_is_an_error(make: MakeUpstream) -> None:
    for flood in (b"x-a: " + b"b" * 70_000, b"\r\n".join(b"x-%d: y" % n for n in range(UPSTREAM_HEADERS_MAX * 2))):

        async def script(peer: Peer, flood: bytes = flood) -> None:
            await peer.request()
            await peer.say(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + flood + b"\r\n\r\n")
            await peer.until_gone()

        async with _between(make, script) as (upstream, there):
            assert (await _failure(upstream, there.request())).sent


async def a_head_that_is_not_http_is_an_error(make: MakeUpstream) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"SSH-2.0-x\r\n\r\n")
        await peer.until_gone()

    async with _between(make, script) as (upstream, there):
        assert (await _failure(upstream, there.request())).phase is UpstreamPhase.FIRST_BYTE


async def a_long_answer_stops_at_the_limit(make: MakeUpstream) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.answer(b"x" * 1_000_000)

    async with _between(make, script) as (upstream, there):
        exchange = await upstream.exchange(there.request())
        try:
            await exchange.read(1000)
        except UpstreamError as error:
            assert error.phase is UpstreamPhase.BODY  # noqa: PT017 - product code, no pytest here
        else:
            raise AssertionError("read more than its limit")
        finally:
            await exchange.close()


async def nothing_writes_a_line_of_the_head(make: MakeUpstream) -> None:
    """A value with a line end, an unsure address, or a header that decides the framing: refused before anything is sent."""
    async with _between(make, _answers) as (upstream, there):
        bad = [
            there.request(headers=((name, value),))
            for name, value in (
                ("x", "a\r\nx-evil: 1"), ("x", "a\nb"), ("x", "a\rb"), ("x", "a\x00b"), ("x\r\nevil", "a"), ("x: y\r\nz", "a"), ("", "a"),
                ("x y", "a"), ("Host", "elsewhere"), ("content-length", "3"), ("Transfer-Encoding", "chunked"), ("Connection", "x"), ("x", "\u0100"),
            )
        ]  # fmt: skip
        bad += [
            there.request(path=path)
            for path in ("/a\r\nx: y", "/a b", "/a#b", "/../a", "/a/%2E%2e/b", "@evil/", "/\u0100", "\\evil")
        ]
        bad += [there.request(method=method) for method in ("GET / HTTP/1.1\r\nx: y\r\n\r\nGET", "get", "", "A B")]
        for request in bad:
            error = await _failure(upstream, request)
            assert (error.phase, error.sent) == (UpstreamPhase.CONNECT, False), request
    assert there.connections == 0


CHECKS: tuple[Check, ...] = (
    sends_what_it_was_told,
    reads_an_answer,
    reuses_a_clean_socket,
    streams_as_bytes_come,
    follows_no_redirect,
    keeps_no_cookies,
    passes_compressed_bytes,
    cancel_closes_while_waiting,
    cancel_closes_while_reading,
    cancel_closes_while_sending,
    close_before_the_end_drops_the_socket,
    holds_back_a_fast_upstream,
    first_byte_times_out,
    silence_times_out,
    the_total_times_out,
    the_deadline_of_the_call_times_out,
    a_slow_reader_is_not_silence,
    connecting_times_out,
    a_refused_connection_was_not_sent,
    a_full_pool_waits_as_connecting,
    a_dead_pooled_socket_is_replaced,
    nothing_is_sent_twice,
    bytes_after_the_end_reach_nobody,
    a_short_answer_is_an_error,
    an_unsure_length_is_an_error,
    interim_answers_are_skipped,
    a_flood_of_interim_answers_ends,
    an_unasked_upgrade_is_an_error,
    an_early_answer_is_read_and_its_socket_dropped,
    an_endless_head_is_an_error,
    a_head_that_is_not_http_is_an_error,
    a_long_answer_stops_at_the_limit,
    nothing_writes_a_line_of_the_head,
)


async def conformance(make_upstream: MakeUpstream) -> None:
    """Run every check. AssertionError names the one that failed."""
    for check in CHECKS:
        try:
            await check(make_upstream)
        except AssertionError as error:
            raise AssertionError(f"{check.__name__}: {error}") from error
