"""HTTP in: a bare ASGI application on uvicorn and httptools, with deadlines, limits and strict framing around it.

``serve`` runs until ``should_exit`` is set, then drains: no new connection, running answers finish within ``drain_s``, the
rest is cut. It runs on any asyncio loop; ``new_loop`` is uvloop where there is one, which is worth 1.3 to 2 times a request.

Read on in ``listener/protocol.py`` (one connection), ``listener/framing.py`` (what a request may look like).
"""

import asyncio
import contextlib
import errno
import importlib.util
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, cast

import uvicorn

from headway.config.model import Limits
from headway.gateway.listener.protocol import GuardedHttp
from headway.gateway.listener.state import ListenerCounters, ListenerState
from headway.kernel.errors import ConfigError
from headway.kernel.limits import CALLER_UNSENT_BYTES_MAX, LISTEN_BACKLOG

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

__all__ = ["ListenerCounters", "bind", "new_loop", "serve"]

_CUT_WAIT_S = 1.0
_FLUSH_S = 0.05


def new_loop() -> asyncio.AbstractEventLoop:
    """For ``asyncio.Runner(loop_factory=new_loop)``: uvloop where it is installed, else the stock loop."""
    if importlib.util.find_spec("uvloop") is None:
        return asyncio.new_event_loop()
    return cast("asyncio.AbstractEventLoop", importlib.import_module("uvloop").new_event_loop())


def bind(host: str, port: int, *, setting: str = "[gateway] listen") -> socket.socket:
    """A listening address. ConfigError when it cannot be had; ``setting`` names what to change. Port 0 takes a free one."""
    where = f"{setting} = {host}:{port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except socket.gaierror as error:
        raise ConfigError(f"{host!r} is not an address of this machine: {error.strerror}", where=where) from error
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _hold_little_unsent(sock)
        sock.bind(address)
    except OSError as error:
        sock.close()
        raise ConfigError(_why(error), where=where, fix=_fix(error, port, setting)) from error
    sock.setblocking(False)
    return sock


def _hold_little_unsent(sock: socket.socket) -> None:
    """Accepted sockets inherit it. Else a kernel takes megabytes for a caller that reads nothing (4 MB on Linux' loopback), and neither would a
    slow reader be seen nor would an upstream be slowed down to its pace. What is sent and not yet acknowledged is not counted."""
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if option is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, option, CALLER_UNSENT_BYTES_MAX)


def _why(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another program listens on this port"
    if error.errno == errno.EACCES:
        return "this user may not listen on this port"
    return f"cannot listen: {error.strerror}"


def _fix(error: OSError, port: int, setting: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"stop it (`ss -ltnp 'sport = :{port}'` names it) or set {setting} to a free port"
    if error.errno == errno.EACCES:
        return f"set {setting} to a port from 1024 up, or put a front proxy on the low one"
    return f"set {setting} to an address of this machine"


class ListenerConfig(uvicorn.Config):
    """uvicorn's configuration with everything off that the gateway does not use, and what connections share."""

    def __init__(self, app: "ASGI3Application", shared: ListenerState, drain_s: float) -> None:
        super().__init__(
            app,
            http=GuardedHttp,
            ws="none",
            lifespan="off",
            interface="asgi3",
            loop="none",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=LISTEN_BACKLOG,
        )
        self.shared = shared
        self.timeout_graceful_shutdown = cast("int", drain_s)  # a fraction of a second works as well


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handlers, woken once a second (the Date header) instead of ten times."""

    def __init__(self, config: ListenerConfig, stop: asyncio.Event, on_started: Callable[[str, int], None] | None) -> None:
        super().__init__(config)
        self._stop, self._shared, self._on_started = stop, config.shared, on_started

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._on_started is not None and sockets:
            address = sockets[0].getsockname()
            self._on_started(str(address[0]), int(address[1]))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._shared.draining = True
        await super().shutdown(sockets)

    async def main_loop(self) -> None:
        while not self._stop.is_set():
            await self.on_tick(0)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._stop.wait()


async def serve(
    app: "ASGI3Application",
    host: str,
    port: int,
    *,
    limits: Limits,
    should_exit: asyncio.Event,
    drain_s: float,
    sock: socket.socket | None = None,
    on_started: Callable[[str, int], None] | None = None,
    counters: ListenerCounters | None = None,
) -> None:
    """Serve ``app`` until ``should_exit``. ``sock`` is a bound socket to use instead of host and port; it is closed at the end.

    ``on_started`` is told the address as soon as connections are taken. ConfigError when the address cannot be had.
    """
    shared = ListenerState(limits, counters if counters is not None else ListenerCounters())
    listening = sock if sock is not None else bind(host, port)
    server = _Server(ListenerConfig(app, shared, drain_s), should_exit, on_started)
    shared.start_sweeping(asyncio.get_running_loop(), lambda: cast("set[GuardedHttp]", server.server_state.connections))
    try:
        await server.serve(sockets=[listening])
        await _cut(server)
    finally:
        shared.stop_sweeping()
        listening.close()


async def _cut(server: _Server) -> None:
    """End what outlived the drain: its tasks were cancelled and say so where nothing was said yet, then connections are reset."""
    if server.server_state.tasks:
        await asyncio.wait(server.server_state.tasks, timeout=_CUT_WAIT_S)
    for connection in list(server.server_state.connections):
        connection.transport.close()
    await asyncio.sleep(_FLUSH_S)
    for connection in list(server.server_state.connections):
        connection.transport.abort()
