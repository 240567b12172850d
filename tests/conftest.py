"""No test reaches beyond this machine, and none sees the configuration or keys of whoever runs it."""

import ipaddress
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

PRIVATE_VARIABLES = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "HEADWAY_CONFIG", "HEADWAY_TOKEN", "HEADWAY_CONTROL_URL")
_NAMES_OF_LOOPBACK = ("localhost", "localhost.localdomain", "ip6-localhost", "")


def is_loopback(host: Any) -> bool:
    """Whether a host, as sockets get it, is this machine."""
    name = host.decode() if isinstance(host, bytes) else str(host or "")
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return name in _NAMES_OF_LOOPBACK
    return address.is_loopback or address.is_unspecified


def refuse_beyond(address: Any) -> None:
    """ConnectionRefusedError for anything that leaves the machine; paths of Unix sockets stay."""
    if isinstance(address, tuple) and not is_loopback(address[0]):
        raise ConnectionRefusedError(f"a test tried to reach {address[0]}: tests stay on loopback")


@pytest.fixture(scope="session", autouse=True)
def only_loopback() -> Iterator[None]:
    """Sockets and name look-ups of this process end at loopback."""
    connect, connect_ex, sendto, lookup = socket.socket.connect, socket.socket.connect_ex, socket.socket.sendto, socket.getaddrinfo

    def guarded_connect(self: socket.socket, address: Any) -> None:
        refuse_beyond(address)
        return connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: Any) -> int:
        refuse_beyond(address)
        return connect_ex(self, address)

    def guarded_sendto(self: socket.socket, data: Any, *rest: Any) -> int:
        refuse_beyond(rest[-1])
        return sendto(self, data, *rest)

    def guarded_lookup(host: Any, *rest: Any, **named: Any) -> Any:
        if host is not None and not is_loopback(host):
            raise socket.gaierror(socket.EAI_NONAME, f"a test tried to look up {host}: tests stay on loopback")
        return lookup(host, *rest, **named)

    patch = pytest.MonkeyPatch()
    patch.setattr(socket.socket, "connect", guarded_connect)
    patch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
    patch.setattr(socket.socket, "sendto", guarded_sendto)
    patch.setattr(socket, "getaddrinfo", guarded_lookup)
    yield
    patch.undo()


@pytest.fixture(scope="session", autouse=True)
def nobody_s_environment() -> Iterator[None]:
    """Keys and addresses of the person who runs the tests are not there."""
    patch = pytest.MonkeyPatch()
    for name in PRIVATE_VARIABLES:
        if name in os.environ:
            patch.delenv(name)
    yield
    patch.undo()
