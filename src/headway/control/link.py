"""Control's end of the link: a Unix socket in the state folder, and TLS with a token for gateways elsewhere.

A gateway says Hello and gets the Snapshot; then changes of keys, leases and configuration as they come. What it sends is heard by
injected listeners. A segment is answered only when it is durable. A gateway that does not read is cut off and comes again.
"""

import asyncio
import contextlib
import fcntl
import hmac
import logging
import os
import socket
import ssl
import stat
from collections.abc import Callable
from pathlib import Path

import msgspec

from headway.control.link_connection import Connection as Connection
from headway.control.link_connection import Desk as Desk
from headway.control.link_connection import Listeners as Listeners
from headway.kernel.errors import HeadwayError
from headway.kernel.instants import WallMs, wall_ms
from headway.kernel.limits import LINK_GATEWAYS_MAX, LINK_HELLO_MS_MAX
from headway.link import frames
from headway.link.messages import (
    Down,
    Drain,
    Heartbeat,
    Hello,
    KeysChanged,
    LeaseClosed,
    Snapshot,
)

log = logging.getLogger(__name__)
SOCKET_PATH_BYTES_MAX = 107
"""Of an address of a Unix socket on Linux (unix(7))."""


class LinkBusy(HeadwayError):
    """Another control is alive at this socket, or it cannot be had."""


class GatewayState(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway as the link knows it. ``heartbeat_wall_ms`` is control's time of the last one."""

    name: str
    version: str
    connected: bool
    generation: int
    connected_wall_ms: int
    heartbeat_wall_ms: int | None = None
    in_flight: int = 0
    degraded: tuple[str, ...] = ()
    metrics: str = ""
    schema_version: int = 0


class LinkServer:
    """Listens, and knows every gateway that is or was connected. ``publish`` must have been called for a gateway to get an answer."""

    def __init__(self, desk: Desk, listeners: Listeners, *, token: str = "", now: Callable[[], WallMs] = wall_ms) -> None:
        self._desk, self._listeners, self._token, self._now = desk, listeners, token, now
        self._connections: dict[str, Connection] = {}
        self._states: dict[str, GatewayState] = {}
        self._snapshot: Snapshot | None = None
        self._snapshot_frame = b""
        self._first_snapshot = asyncio.Event()
        self._servers: list[asyncio.Server] = []
        self._handlers: set[asyncio.Task[None]] = set()
        self._lock_fd: int | None = None
        self._path: Path | None = None

    # --- listening

    async def listen_unix(self, path: Path) -> None:
        """Raises LinkBusy while another control holds this socket; a stale one is replaced. Only this user can connect."""
        self._lock_fd = await asyncio.to_thread(_lock, path)
        try:
            bound = _bind(path)
        except OSError as error:
            raise LinkBusy(f"cannot listen at {path}: {error.strerror}") from error
        self._path = path
        self._servers.append(await asyncio.start_unix_server(self._local, sock=bound))

    async def listen_tls(self, host: str, port: int, context: ssl.SSLContext) -> int:
        """For gateways elsewhere, which must send the token. The port, which may have been 0. LinkBusy when it is in use."""
        if not self._token:
            raise LinkBusy("a TLS link needs control.link_token, which gateways must send")
        try:
            server = await asyncio.start_server(self._remote, host, port, ssl=context)
        except OSError as error:
            raise LinkBusy(f"cannot listen at {host}:{port}: {error.strerror}") from error
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening and drop every gateway; they go on from their snapshot."""
        for server in self._servers:
            server.close()
        for handler in tuple(self._handlers):
            handler.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)
        for server in self._servers:
            await server.wait_closed()
        self._servers.clear()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        if self._lock_fd is not None:
            os.close(self._lock_fd)
        self._path = self._lock_fd = None

    # --- down

    def publish(self, snapshot: Snapshot) -> None:
        """To every gateway, and to each that connects from now on."""
        self._snapshot, self._snapshot_frame = snapshot, frames.encode(snapshot)
        self._first_snapshot.set()
        for connection in tuple(self._connections.values()):
            connection.send(self._snapshot_frame)
            self._note(connection.gateway, generation=snapshot.generation)

    def publish_keys(self, changed: KeysChanged) -> None:
        """To every gateway at once; the kept snapshot changes with it."""
        if self._snapshot is not None:
            self._snapshot = with_keys(self._snapshot, changed)
            self._snapshot_frame = frames.encode(self._snapshot)
        self._broadcast(changed)

    def close_lease(self, gateway: str, lease: str) -> None:
        """Ask for a block back. A gateway that is away hears of it at its next Hello."""
        if connection := self._connections.get(gateway):
            connection.send(frames.encode(LeaseClosed(lease=lease)))

    def drain(self, gateway: str) -> bool:
        """Ask one gateway to finish its calls and stop; whether it is connected."""
        connection = self._connections.get(gateway)
        if connection is not None:
            connection.send(frames.encode(Drain()))
        return connection is not None

    @property
    def snapshot(self) -> Snapshot | None:
        return self._snapshot

    def gateways(self) -> tuple[GatewayState, ...]:
        """Connected ones and those that were, by name."""
        return tuple(self._states[name] for name in sorted(self._states))

    # --- up

    async def _local(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._serve(reader, writer, remote=False)

    async def _remote(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._serve(reader, writer, remote=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, remote: bool) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        try:
            hello = await self._greeted(reader, remote=remote)
            if hello is not None:
                await self._talk(hello, reader, writer)
        except (frames.LinkBroken, OSError, TimeoutError) as error:
            log.warning("a gateway's link broke: %s", error or "no Hello in time")
        except asyncio.CancelledError:
            log.debug("link closed with control")
        finally:
            self._handlers.discard(task)
            writer.close()

    async def _greeted(self, reader: asyncio.StreamReader, *, remote: bool) -> Hello | None:
        async with asyncio.timeout(LINK_HELLO_MS_MAX / 1000):
            first = await frames.read_up(reader)
        if first is None:
            return None
        if not isinstance(first, Hello):
            raise frames.LinkBroken(f"it began with {type(first).__name__} instead of Hello")
        if remote and not hmac.compare_digest(first.token.encode(), self._token.encode()):
            raise frames.LinkBroken("it sent another token than control.link_token")
        if not first.gateway or (first.gateway not in self._states and not self._room()):
            raise frames.LinkBroken(
                "it has no name" if not first.gateway else f"{LINK_GATEWAYS_MAX} gateways are connected already"
            )
        return first

    async def _talk(self, hello: Hello, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name = hello.gateway
        await self._first_snapshot.wait()
        to_close = await self._desk.hello(name, hello.open_leases)
        if (older := self._connections.pop(name, None)) is not None:
            log.warning("gateway %s connected again: its older link is dropped", name)
            older.abort()
        connection = Connection(name, reader, writer, self._desk, self._listeners, self._heard)
        self._connections[name] = connection
        assert self._snapshot is not None
        connection.send(self._snapshot_frame)
        self._states[name] = GatewayState(
            name=name,
            version=hello.version,
            connected=True,
            generation=self._snapshot.generation,
            connected_wall_ms=self._now(),
            schema_version=hello.schema_version,
        )
        for lease in to_close:
            self.close_lease(name, lease)
        try:
            await connection.run()
        finally:
            if self._connections.get(name) is connection:
                del self._connections[name]
                self._desk.gone(name)
                self._note(name, connected=False)

    def _heard(self, gateway: str, beat: Heartbeat) -> None:
        self._note(
            gateway,
            heartbeat_wall_ms=self._now(),
            in_flight=beat.in_flight,
            degraded=beat.degraded,
            **({"metrics": beat.metrics} if beat.metrics else {}),
        )

    def _note(self, gateway: str, **changed: object) -> None:
        if (known := self._states.get(gateway)) is not None:
            self._states[gateway] = msgspec.structs.replace(known, **changed)

    def _room(self) -> bool:
        """Over the bound the gateway that has been away longest is forgotten."""
        if len(self._states) < LINK_GATEWAYS_MAX:
            return True
        away = [state for state in self._states.values() if not state.connected]
        if away:
            del self._states[min(away, key=lambda s: s.heartbeat_wall_ms or 0).name]
        return bool(away)

    def _broadcast(self, message: Down) -> None:
        frame = frames.encode(message)
        for connection in tuple(self._connections.values()):
            connection.send(frame)


def with_keys(snapshot: Snapshot, changed: KeysChanged) -> Snapshot:
    """The snapshot as it reads after a change of keys."""
    keys = {record.id: record for record in snapshot.keys if record.id not in changed.removed}
    keys.update((record.id, record) for record in changed.upserted)
    return msgspec.structs.replace(snapshot, keys=tuple(keys.values()))


def _lock(path: Path) -> int:
    """Held as long as this process lives, so a socket without a holder is stale. Released by the kernel, whatever ends the process."""
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES_MAX:
        raise LinkBusy(f"{path} is longer than the {SOCKET_PATH_BYTES_MAX} bytes of a socket's path; choose a shorter state.dir")
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise LinkBusy(f"another control is running with this state folder: it holds {path}; stop it, or set state.dir") from error
    return fd


def _bind(path: Path) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise LinkBusy(f"{path} is in the way and is not a socket; move it")
        path.unlink()
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)  # from its first moment nobody else may connect
    try:
        bound.bind(str(path))
    except OSError:
        bound.close()
        raise
    finally:
        os.umask(before)
    return bound
