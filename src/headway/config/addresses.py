"""Listen addresses: taken apart, reached from this machine, tried."""

import re
import socket
from typing import Final

_HOST: Final = re.compile(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]")
EVERY_HOST: Final = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
_FROM_HERE: Final = {EVERY_HOST[0]: "127.0.0.1", EVERY_HOST[1]: "::1"}


def parse_listen(text: str) -> tuple[str, int]:
    """``host:port`` taken apart. ValueError says what is wrong."""
    host, separator, port = text.rpartition(":")
    if not separator or not port.isascii() or not port.isdigit():
        raise ValueError("is not host:port, e.g. 127.0.0.1:8080")
    if int(port) > 65_535:
        raise ValueError("has a port above 65535")
    if not host:
        raise ValueError("has no host, e.g. 127.0.0.1:8080 or 0.0.0.0:8080")
    if not _HOST.fullmatch(host):
        raise ValueError("has no usable host; an IPv6 address stands in [ ]")
    return host.strip("[]"), int(port)


def reach(listen: str) -> str:
    """The address to use from this machine for something that listens on ``listen``."""
    host, port = parse_listen(listen)
    host = _FROM_HERE.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def port_problem(listen: str) -> str:
    """Why one cannot listen there now; empty when one can."""
    host, port = parse_listen(listen)
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return str(error.strerror or error)
    return ""
