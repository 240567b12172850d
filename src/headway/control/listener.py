"""Control's HTTP listener: its socket, who may be let in from where, and a stop that ends live views first."""

import asyncio
import ipaddress
import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from headway.kernel.errors import ConfigError
from headway.kernel.limits import CONTROL_CONNECTIONS_MAX, HEAD_BYTES_MAX, KEEP_ALIVE_IDLE_MS

GRACEFUL_STOP_S = 3


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a listener at ``host``. A name other than localhost is not taken to be."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def bound(host: str, port: int) -> socket.socket:
    """A socket bound there. ``ConfigError`` when the address cannot be had."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except socket.gaierror as error:
        raise ConfigError(f"{host} is no address of this machine: {error.strerror}", where="control.listen") from error
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind(address)
    except OSError as error:
        made.close()
        raise ConfigError(
            f"{host}:{port} cannot be listened on: {error.strerror}",
            where="control.listen",
            fix="stop what listens there (ss -ltnp shows it), or give control another port",
        ) from error
    return made


def address_of(listening: socket.socket) -> str:
    """Where a browser on this machine finds it."""
    host, port = listening.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """uvicorn, told to end streams before it waits for connections to end. Signals are the caller's business."""

    def __init__(self, app: ASGIApp, before_stop: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=True,
                lifespan="off",
                proxy_headers=True,
                forwarded_allow_ips="127.0.0.1,::1",
                h11_max_incomplete_event_size=HEAD_BYTES_MAX,
                limit_concurrency=CONTROL_CONNECTIONS_MAX,
                timeout_keep_alive=KEEP_ALIVE_IDLE_MS // 1000,
                timeout_graceful_shutdown=GRACEFUL_STOP_S,
            )
        )
        self._before_stop = before_stop
        self.up = asyncio.Event()
        """It answers."""

    async def run_on(self, listening: socket.socket) -> None:
        """Serve until ``should_exit``."""
        await self._serve([listening])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._before_stop()
        await super().shutdown(sockets)
