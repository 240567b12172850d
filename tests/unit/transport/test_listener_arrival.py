"""When a request arrived and when it was whole, as the listener saw it: by the reads that brought them, not by when its task got its turn."""

import asyncio
import itertools
from typing import Any

import pytest
from uvicorn.server import ServerState

from headway.config.model import Limits
from headway.gateway.listener import protocol as listener_protocol
from headway.gateway.listener.protocol import GuardedHttp
from headway.gateway.listener.server import ListenerConfig
from headway.gateway.listener.state import ListenerCounters, ListenerState

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n"


class Wire(asyncio.Transport):
    def write(self, data: Any) -> None: ...

    def close(self) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """One tick each time the listener looks at it: at the connection, then at each read."""
    ticks = itertools.count()
    monkeypatch.setattr(listener_protocol, "mono_ns", lambda: next(ticks))


async def played(*pieces: bytes) -> list[tuple[int, int | None]]:
    """Arrival and completion of each request, by number of the read; read 0 is the connection's beginning."""
    seen: list[tuple[int, int | None]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        cycle = protocol.cycle
        seen.append((cycle.arrived_at, cycle.whole_at))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    config = ListenerConfig(app, ListenerState(Limits(), ListenerCounters()), 1)
    config.load()
    protocol = GuardedHttp(config, ServerState(), {})
    protocol.connection_made(Wire())
    for piece in pieces:
        protocol.data_received(piece)
        for _ in range(4):
            await asyncio.sleep(0)
    protocol.connection_lost(None)
    return seen


@pytest.mark.usefixtures("clock")
async def test_one_read_brings_all() -> None:
    assert await played(HEAD + b"0123456789") == [(1, 1)]


@pytest.mark.usefixtures("clock")
async def test_a_head_in_two_reads_arrived_with_the_second_and_a_body_is_whole_with_its_last() -> None:
    assert await played(HEAD[:20], HEAD[20:] + b"0123", b"456", b"789") == [(2, 4)]


@pytest.mark.usefixtures("clock")
async def test_a_request_behind_another_arrives_when_that_is_answered() -> None:
    """Its bytes came with the first read; that it waited for its turn on the connection is HTTP's doing."""
    first, second = await played(HEAD + b"0123456789" + HEAD + b"0123456789")
    assert first == (1, 1)
    assert second == (3, 3), "2 is what came behind the first, looked at when it came"
