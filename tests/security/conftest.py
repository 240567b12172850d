"""The listener as deployed, on a thread with a loop of its own, in front of an application that writes down what it was given.

``HEADWAY_TEST_LOOP=asyncio`` runs it on the stock loop instead of uvloop.
"""

import asyncio
import contextlib
import hashlib
import os
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from stage import Line, Stage

from headway.config.model import Limits
from headway.gateway.listener.server import ListenerCounters, new_loop, serve

App = Callable[[Any, Any, Any], Any]
Reading = tuple[bytes, bytes, tuple[tuple[bytes, bytes], ...], bytes]


@dataclass
class Readings:
    """Whole requests by the port that they came from: (method, target, headers, body)."""

    by_port: dict[int, list[Reading]] = field(default_factory=lambda: defaultdict(list))

    def app(self) -> App:
        async def echo(scope: Any, receive: Any, send: Any) -> None:
            body = bytearray()
            headers = tuple(scope["headers"])
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return
                body += message["body"]
                if not message["more_body"]:
                    break
            target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
            self.by_port[scope["client"][1]].append((scope["method"].encode(), target, headers, bytes(body)))
            said = b'{"n":%d,"sha":"%s"}' % (len(body), hashlib.sha256(body).hexdigest()[:16].encode())
            head = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(said))]
            await send({"type": "http.response.start", "status": 200, "headers": head})
            await send({"type": "http.response.body", "body": said})

        return echo


@dataclass
class Deployed:
    port: int
    readings: Readings
    counters: ListenerCounters


@contextlib.contextmanager
def deployed(limits: Limits, app: App | None = None) -> Iterator[Deployed]:
    readings, counters = Readings(), ListenerCounters()
    ready, address = threading.Event(), []
    stop: list[Callable[[], None]] = []

    async def main() -> None:
        should_exit = asyncio.Event()
        loop = asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(should_exit.set))

        def started(_host: str, port: int) -> None:
            address.append(port)
            ready.set()

        await serve(
            app or readings.app(),
            "127.0.0.1",
            0,
            limits=limits,
            should_exit=should_exit,
            drain_s=1,
            on_started=started,
            counters=counters,
        )

    def run() -> None:
        factory = asyncio.new_event_loop if os.environ.get("HEADWAY_TEST_LOOP") == "asyncio" else new_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(10), "the listener did not start"
    try:
        yield Deployed(address[0], readings, counters)
    finally:
        stop[0]()
        thread.join(10)
        assert not thread.is_alive(), "the listener did not stop"
        assert counters.connections_open == 0


@pytest.fixture
def deploy() -> Iterator[Callable[..., Deployed]]:
    """``deploy(limits, app=None)`` starts a listener that ends with the test."""
    with contextlib.ExitStack() as stack:
        yield lambda limits, app=None: stack.enter_context(deployed(limits, app))


@pytest.fixture(scope="module")
def deploy_module() -> Iterator[Callable[..., Deployed]]:
    """The same, ending with the module."""
    with contextlib.ExitStack() as stack:
        yield lambda limits, app=None: stack.enter_context(deployed(limits, app))


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The whole product, started once for all tests that only look at it from outside."""
    made = Stage(tmp_path_factory.mktemp("stage"))
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture
async def line(stage: Stage) -> AsyncIterator[Line]:
    """A caller of the gateway."""
    made = Line(stage.product.url)
    yield made
    made.close()
