"""A valid stream gives the same requests and the same answers wherever the network cuts it."""

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState

from headway.config.model import Limits
from headway.gateway.listener.protocol import GuardedHttp
from headway.gateway.listener.server import ListenerConfig
from headway.gateway.listener.state import ListenerCounters, ListenerState

STREAM = (
    b"POST /one?x=y HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nX-A:  b \r\n\r\nhello"
    b"POST /two HTTP/1.1\r\nhost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n2\r\n\r\n\r\n0\r\nX-T: u\r\n\r\n"
    b"GET /three HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 4\r\n\r\nGET "
    b"GET /four HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
)


class FakeTransport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.closed = False

    def write(self, data: Any) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def can_write_eof(self) -> bool:
        return False

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


async def play(pieces: list[bytes]) -> tuple[list[Any], bytes, bool]:
    """What the application was given, what was answered, and whether the connection was closed."""
    given_: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers, body = list(scope["headers"]), b""
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return
            body += message["body"]
            if not message["more_body"]:
                break
        given_.append((scope["method"], scope["raw_path"], scope["query_string"], headers, body, list(scope["headers"]) == headers))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    counters = ListenerCounters()
    config = ListenerConfig(app, ListenerState(Limits(), counters), 1)
    config.load()
    state = ServerState()
    protocol = GuardedHttp(config, state, {})
    transport = FakeTransport()
    protocol.connection_made(transport)
    for piece in pieces:
        if not transport.closed:
            protocol.data_received(piece)
        await asyncio.sleep(0)
    for _ in range(200):
        if not state.tasks and not protocol._buffer:
            break
        await asyncio.sleep(0)
    protocol.connection_lost(None)
    assert counters.connections_open == 0
    return given_, bytes(transport.written), transport.closed


@pytest.fixture(scope="module")
def whole() -> tuple[list[Any], bytes, bool]:
    return asyncio.run(play([STREAM]))


def test_the_whole_stream_reads_as_four_requests(whole: tuple[list[Any], bytes, bool]) -> None:
    requests, answers, closed = whole
    assert [(method, path, query, body) for method, path, query, _, body, _ in requests] == [
        ("POST", b"/one", b"x=y", b"hello"),
        ("POST", b"/two", b"", b"abc\r\n"),
        ("GET", b"/three", b"", b"GET "),
        ("GET", b"/four", b"", b""),
    ]
    assert all(unchanged for *_, unchanged in requests), "a trailer was added to the headers"
    assert (b"x-a", b"b") in requests[0][3]
    assert answers.count(b"HTTP/1.1 200 OK") == 4
    assert closed


@pytest.mark.parametrize("at", range(1, len(STREAM)))
def test_one_cut(at: int, whole: tuple[list[Any], bytes, bool]) -> None:
    assert asyncio.run(play([STREAM[:at], STREAM[at:]])) == whole


def test_single_bytes(whole: tuple[list[Any], bytes, bool]) -> None:
    assert asyncio.run(play([STREAM[n : n + 1] for n in range(len(STREAM))])) == whole


@given(st.lists(st.integers(1, len(STREAM) - 1), min_size=1, max_size=20))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_many_cuts(whole: tuple[list[Any], bytes, bool], cuts: list[int]) -> None:
    edges = [0, *sorted(set(cuts)), len(STREAM)]
    assert asyncio.run(play([STREAM[a:b] for a, b in zip(edges, edges[1:], strict=False)])) == whole


@given(st.lists(st.binary(min_size=1, max_size=60), max_size=6))
@settings(max_examples=150, deadline=None)
def test_any_bytes_after_a_good_head_raise_nothing(pieces: list[bytes]) -> None:
    for head in (b"", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n"):
        asyncio.run(play([head, *pieces] if head else pieces))
