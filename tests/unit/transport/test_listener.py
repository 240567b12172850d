"""The listener on a real socket: limits, deadlines, caps, early answers, HTTP/1.0, drain. Both loops."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import uvloop

from headway.config.model import Limits
from headway.gateway.listener.protocol import GuardedHttp
from headway.gateway.listener.server import ListenerCounters, bind, serve
from headway.kernel.errors import ConfigError

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LOOPS = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
Start = Callable[..., Awaitable[Any]]


async def say(send: Any, body: bytes, *, status: int = 200, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"%d" % len(body)), *headers]})
    await send({"type": "http.response.body", "body": body})


async def read_all(receive: Any) -> bytes | None:
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message["body"]
        if not message["more_body"]:
            return body


async def echo(scope: Any, receive: Any, send: Any) -> None:
    body = await read_all(receive)
    if body is not None:
        await say(send, b"%s %d" % (scope["path"].encode(), len(body)))


class Running:
    def __init__(self, port: int, counters: ListenerCounters, stop: asyncio.Event, task: "asyncio.Task[None]") -> None:
        self.port, self.counters, self.stop, self.task = port, counters, stop, task

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def ask(self, data: bytes, *, seconds: float = 5) -> tuple[bytes, bool]:
        """Everything that is answered until the connection closes (True) or the time is over."""
        reader, writer = await self.connect()
        writer.write(data)
        answer = b""
        try:
            async with asyncio.timeout(seconds):
                while piece := await reader.read(65536):
                    answer += piece
        except TimeoutError:
            return answer, False
        except ConnectionError:
            pass
        finally:
            writer.close()
        return answer, True


@contextlib.asynccontextmanager
async def running(app: Any, *, drain_s: float = 1, **limits: int) -> AsyncIterator[Running]:
    stop, counters = asyncio.Event(), ListenerCounters()
    started: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(
        serve(
            app,
            "127.0.0.1",
            0,
            limits=Limits(**limits),
            should_exit=stop,
            drain_s=drain_s,
            on_started=lambda _host, port: started.set_result(port),
            counters=counters,
        )
    )
    try:
        yield Running(await started, counters, stop, task)
    finally:
        stop.set()
        await task
        assert counters.connections_open == 0


def status(answer: bytes) -> int:
    return int(answer[9:12])


def code(answer: bytes) -> str:
    return str(json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"])


@pytest.fixture(params=LOOPS)
def on_loop(request: pytest.FixtureRequest) -> Callable[[Awaitable[None]], None]:
    def run(test: Any) -> None:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(asyncio.wait_for(test, 30))

    return run


OnLoop = Callable[[Any], None]


def test_it_answers_on_both_loops(on_loop: OnLoop) -> None:
    async def test() -> None:
        async with running(echo) as there:
            answer, closed = await there.ask(GET + GET.replace(b"Host", b"Connection: close\r\nHost"))
            assert answer.count(b"HTTP/1.1 200 OK") == 2
            assert closed
            assert there.counters.requests_total == 2
            assert there.counters.refused == {}

    on_loop(test())


def test_a_head_that_does_not_end_is_closed_at_its_deadline_however_it_trickles(on_loop: OnLoop) -> None:
    async def test() -> None:
        async with running(echo, head_deadline_ms=300) as there:
            reader, writer = await there.connect()
            loop = asyncio.get_running_loop()
            began = loop.time()

            async def trickle() -> None:
                for byte in b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 1000:
                    writer.write(bytes([byte]))
                    await asyncio.sleep(0.02)

            task = asyncio.create_task(trickle())
            answer = await reader.read(65536)
            took = loop.time() - began
            task.cancel()
            writer.close()
            assert (status(answer), code(answer)) == (408, "head_timeout")
            assert 0.25 < took < 0.7
            assert there.counters.closed == {"head": 1}

    on_loop(test())


def test_a_connection_that_says_nothing_is_closed_without_a_word(on_loop: OnLoop) -> None:
    async def test() -> None:
        async with running(echo, head_deadline_ms=200, keep_alive_idle_ms=200) as there:
            assert await there.ask(b"") == (b"", True)
            answer, closed = await there.ask(GET)
            assert (status(answer), closed) == (200, True)
            assert there.counters.closed == {"head": 1, "idle": 1}

    on_loop(test())


@pytest.mark.parametrize(
    ("limits", "deadline"),
    [
        ({"body_deadline_ms": 300, "body_rate_bytes_per_s_min": 0}, "body"),
        ({"body_deadline_ms": 2_000, "body_rate_bytes_per_s_min": 500}, "body_rate"),
    ],
)
def test_a_body_that_trickles_is_closed(on_loop: OnLoop, limits: dict[str, int], deadline: str) -> None:
    async def test() -> None:
        async with running(echo, **limits) as there:
            reader, writer = await there.connect()
            writer.write(b"POST /v1/messages HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")

            async def trickle() -> None:
                while True:
                    writer.write(b"x")
                    await asyncio.sleep(0.02)

            task = asyncio.create_task(trickle())
            async with asyncio.timeout(1.5):
                answer = await reader.read(65536)
            task.cancel()
            writer.close()
            assert (status(answer), code(answer)) == (408, deadline + "_timeout")
            assert json.loads(answer.partition(b"\r\n\r\n")[2])["type"] == "error", "callers of /v1/messages read Anthropic's form"
            assert there.counters.closed == {deadline: 1}

    on_loop(test())


def test_a_body_that_waits_for_us_is_not_late(on_loop: OnLoop) -> None:
    """The application reads nothing for longer than the body's deadline; the caller did nothing wrong."""

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(1.3)
        await echo(scope, receive, send)

    async def test() -> None:
        # a machine that stands still for a moment must not make a caller late that is not
        async with running(slow, body_deadline_ms=1_000) as there:
            body = b"x" * 2_000_000
            answer, _ = await there.ask(
                b"POST /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            )
            assert answer.endswith(b"/a 2000000")
            reader, writer = await there.connect()
            writer.write(b"POST /a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"abc")
            assert (await reader.readuntil(b"/a 3")).startswith(b"HTTP/1.1 200")
            writer.close()

    on_loop(test())


def test_a_reader_that_stops_is_cut(on_loop: OnLoop) -> None:
    ended = asyncio.Event()

    async def flood(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(3_000):
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
        ended.set()

    async def test() -> None:
        async with running(flood, send_stall_ms=300) as there:
            client = socket.create_connection(("127.0.0.1", there.port))
            client.setblocking(False)
            await asyncio.get_running_loop().sock_sendall(client, GET)
            async with asyncio.timeout(5):
                await ended.wait()
            assert there.counters.closed == {"send_stall": 1}
            client.close()

    on_loop(test())


def test_a_small_answer_that_nobody_takes_is_cut_after_close(on_loop: OnLoop) -> None:
    async def test() -> None:
        async with running(echo, keep_alive_idle_ms=200, send_stall_ms=300) as there:
            async with asyncio.timeout(5):
                answer, closed = await there.ask(GET)
            assert closed
            assert status(answer) == 200

    on_loop(test())


def test_connections_are_capped_in_all_and_for_an_address(on_loop: OnLoop) -> None:
    async def test() -> None:
        for cap in ("connections_max", "connections_per_address_max"):
            async with running(echo, **{cap: 2}) as there:
                held = [await there.connect() for _ in range(2)]
                await asyncio.sleep(0.05)
                answer, closed = await there.ask(GET)
                assert (status(answer), code(answer), closed) == (503, cap, True)
                assert b"retry-after: 1\r\n" in answer
                assert there.counters.refused == {cap: 1}
                held[0][1].close()
                await asyncio.sleep(0.05)
                assert status((await there.ask(GET, seconds=0.2))[0]) == 200
                held[1][1].close()

    on_loop(test())


def test_a_chunked_body_over_its_limit_is_413(on_loop: OnLoop) -> None:
    async def test() -> None:
        async with running(echo, body_bytes_max=1000) as there:
            head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            answer, closed = await there.ask(head + b"300\r\n" + b"x" * 0x300 + b"\r\n300\r\n" + b"x" * 0x300 + b"\r\n0\r\n\r\n")
            assert (status(answer), code(answer), closed) == (413, "body_too_large", True)

    on_loop(test())


def test_expect_is_answered_only_when_the_body_is_read(on_loop: OnLoop) -> None:
    async def refuses(scope: Any, receive: Any, send: Any) -> None:
        await say(send, b"no", status=401)

    async def test() -> None:
        async with running(refuses) as there:
            head = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
            answer, closed = await there.ask(head)
            assert b"100 Continue" not in answer
            assert (status(answer), closed) == (401, True)
            assert b"connection: close" in answer

    on_loop(test())


def test_a_refused_body_is_not_asked_for_afterwards(on_loop: OnLoop, caplog: pytest.LogCaptureFixture) -> None:
    """Head and bad body come in one read: the application starts when the refusal and the end have been written."""

    async def check() -> None:
        async with running(echo) as there:
            head = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"
            answer, closed = await there.ask(head + b"nonsense\r\n")
            assert closed
            assert answer.startswith(b"HTTP/1.1 400 ")
            assert b"100 Continue" not in answer

    on_loop(check())
    assert "Exception in ASGI" not in caplog.text


def test_an_answer_before_the_body_has_ended_is_read_whole_and_closes(on_loop: OnLoop) -> None:
    """The caller is still sending megabytes; the answer must not be lost in a reset, and what it sends is nobody's request."""

    async def refuses(scope: Any, receive: Any, send: Any) -> None:
        await say(send, b"no", status=401)

    async def test() -> None:
        async with running(refuses) as there:
            body = GET * 4_000
            answer, closed = await there.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\n" + body)
            assert (status(answer), closed) == (401, True)
            assert answer.endswith(b"no")
            assert there.counters.requests_total == 1

    on_loop(test())


def test_http_10_gets_no_chunks(on_loop: OnLoop) -> None:
    async def stream(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        for piece in (b"data: 1\n\n", b"data: 2\n\n"):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        if scope["path"] == "/broken":
            raise RuntimeError("the upstream is gone")
        await send({"type": "http.response.body", "body": b""})

    async def test() -> None:
        async with running(stream) as there:
            answer, closed = await there.ask(b"GET / HTTP/1.0\r\n\r\n")
            head, _, body = answer.partition(b"\r\n\r\n")
            assert (body, closed) == (b"data: 1\n\ndata: 2\n\n", True)
            assert b"transfer-encoding" not in head
            assert b"connection: close" in head
            reader, writer = await there.connect()
            writer.write(b"GET /broken HTTP/1.0\r\n\r\n")
            with pytest.raises(ConnectionResetError):
                await reader.read()
            writer.close()

    on_loop(test())


def test_an_application_that_fails_is_a_500_in_json(on_loop: OnLoop) -> None:
    async def fails(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("secret")

    async def test() -> None:
        async with running(fails) as there:
            answer, closed = await there.ask(GET)
            assert (status(answer), code(answer), closed) == (500, "internal", True)
            assert b"secret" not in answer

    on_loop(test())


def test_the_application_learns_that_its_caller_is_gone(on_loop: OnLoop) -> None:
    gone = asyncio.Event()

    async def waits(scope: Any, receive: Any, send: Any) -> None:
        await read_all(receive)
        message = await receive()
        assert message["type"] == "http.disconnect"
        gone.set()

    async def test() -> None:
        async with running(waits) as there:
            _, writer = await there.connect()
            writer.write(GET + GET)  # a second request in the pipeline must not hide that the caller is gone
            await asyncio.sleep(0.05)
            writer.close()
            async with asyncio.timeout(0.1):
                await gone.wait()

    on_loop(test())


def test_a_pipeline_is_held_and_not_kept(on_loop: OnLoop) -> None:
    """While one request is answered the rest waits in the caller's socket, not in our memory."""

    async def waits(scope: Any, receive: Any, send: Any) -> None:
        while await read_all(receive) is not None:
            await asyncio.sleep(0)

    async def test() -> None:
        async with running(waits) as there:
            _, writer = await there.connect()
            writer.write(GET * 1_500_000)  # 42 MB
            await asyncio.sleep(0.3)
            assert writer.transport.get_write_buffer_size() > 20_000_000
            writer.transport.abort()

    on_loop(test())


def test_drain_lets_answers_finish_and_takes_no_new_connection(on_loop: OnLoop) -> None:
    started = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await read_all(receive)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        started.set()
        await asyncio.sleep(0.5)
        await send({"type": "http.response.body", "body": b"done"})

    async def test() -> None:
        async with running(slow, drain_s=5) as there:
            idle_reader, idle_writer = await there.connect()
            asking = asyncio.create_task(there.ask(GET + GET))
            await started.wait()
            there.stop.set()
            assert await asyncio.wait_for(idle_reader.read(), 0.4) == b"", "an idle connection is closed at once"
            idle_writer.close()
            with pytest.raises(ConnectionRefusedError):
                await there.connect()
            answer, closed = await asking
            assert closed
            assert answer.count(b"HTTP/1.1 200") == 1
            assert answer.endswith(b"done\r\n0\r\n\r\n")
            await asyncio.wait_for(there.task, 1)

    on_loop(test())


def test_drain_cuts_what_outlives_it(on_loop: OnLoop) -> None:
    async def forever(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/started":
            await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(60)

    async def test() -> None:
        async with running(forever, drain_s=0.3) as there:
            asking = [asyncio.create_task(there.ask(GET.replace(b"/ ", path + b" "))) for path in (b"/", b"/started")]
            await asyncio.sleep(0.1)
            there.stop.set()
            await asyncio.wait_for(there.task, 3)
            (waiting, _), (cut, _) = await asyncio.gather(*asking)
            assert (status(waiting), code(waiting)) == (503, "draining")
            assert not cut.endswith(b"0\r\n\r\n"), "a cut answer must not look whole"

    on_loop(test())


def test_packets_leave_at_once(on_loop: OnLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    made = GuardedHttp.connection_made

    def spy(self: GuardedHttp, transport: Any) -> None:
        made(self, transport)
        seen.append(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    monkeypatch.setattr(GuardedHttp, "connection_made", spy)

    async def test() -> None:
        async with running(echo) as there:
            await there.ask(GET, seconds=0.1)

    on_loop(test())
    assert seen == [1]


def test_a_port_in_use_says_what_to_do() -> None:
    with bind("127.0.0.1", 0) as sock:
        sock.listen()
        port = sock.getsockname()[1]
        with pytest.raises(ConfigError) as error:
            bind("127.0.0.1", port)
    assert f"[gateway] listen = 127.0.0.1:{port}: another program listens on this port" in str(error.value)
    assert "ss -ltnp" in str(error.value)


def test_an_address_that_is_not_ours_says_so() -> None:
    for host in ("192.0.2.1", "no.such.host.invalid"):
        with pytest.raises(ConfigError):
            bind(host, 0)
