"""The whole product between a scripted upstream and a trap, for tests that look at it from outside.

The trap is a listener that nothing is configured to reach: whoever connects to it was led there by a caller or an upstream.
"""

import asyncio
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from re import _constants as kinds  # type: ignore[attr-defined]
from re import _parser as regex  # type: ignore[attr-defined]
from typing import Any

from headway.gateway import app, opaque
from headway.prove.product import Product, Upstream
from headway.prove.rawhttp import Broken, RawAnswer, RawConnection
from headway.prove.world import configuration

MORE = """
[tenants.acme]
features = ["harbour-chat", "acme-secret"]
[tenants.globex]
features = ["harbour-messages", "globex-secret"]

[features.acme-secret]
targets = ["chat/harbour-chat"]
[features.globex-secret]
targets = ["chat/harbour-chat"]

[providers.azure]
preset = "azure"
base_url = "{url}"
api_version = "2026-01-01"
key = "env:HEADWAY_UPSTREAM_KEY"
models = ["harbour-azure"]
retries_max = 0

[providers.filing]
preset = "openai"
base_url = "{url}/v1"
key = "env:HEADWAY_UPSTREAM_KEY"
models = ["harbour-filed"]
files_tenant = "default"
"""


class Trap:
    """Counts who connects. Use as a context manager."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self.authority = f"127.0.0.1:{self.port}"
        self.caught: list[bytes] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while True:
            try:
                peer, _ = self._listening.accept()
            except OSError:
                return
            peer.settimeout(1)
            try:
                self.caught.append(peer.recv(4096))
            except OSError:
                self.caught.append(b"")
            peer.close()

    def __enter__(self) -> "Trap":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(5)


class Stage:
    """Upstream, control and gateway as processes of their own; ``key`` is one of tenant ``default``."""

    def __init__(self, folder: Path, *, more: str = "", env: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.upstream = Upstream(folder)
        text = configuration(
            self.upstream.url, more=MORE.replace("{url}", self.upstream.url) + more.replace("{url}", self.upstream.url)
        )
        self.product = Product(folder, text, env=env)
        self.key = ""

    def start(self) -> None:
        asyncio.run(self._start())

    async def _start(self) -> None:
        await self.upstream.start()
        await self.product.start()
        self.key = await self.product.new_key()

    def stop(self) -> None:
        self.product.stop()
        self.upstream.stop()

    async def seen(self) -> list[dict[str, Any]]:
        """What the upstream was sent since it last forgot, newest last."""
        report: Any = await self.upstream.seen(last=5_000)
        found: list[dict[str, Any]] = report["last"]
        return found


class Line:
    """Requests to one address over connections that are opened again when the other side closed them."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: RawConnection | None = None

    async def send(self, method: str, target: str, headers: Any = (), body: bytes = b"") -> RawAnswer | None:
        """None when the connection was closed without an answer."""
        for _ in range(2):
            fresh = self._connection is None
            if self._connection is None:
                self._connection = await RawConnection.open(self._url)
            try:
                answer = await asyncio.wait_for(self._connection.request(method, target, headers, body), 20)
            except (Broken, ConnectionError):
                self.close()
                if fresh:
                    return None
                continue
            if answer.status >= 400 or not self._connection.reusable:
                self.close()
            return answer
        return None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def opaque_routes() -> list[tuple[str, str]]:
    """Method and path of all that passes unread, enumerated from the gateway's own pattern; an id is ``file-1``."""
    return sorted(tuple(text.split(" ", 1)) for text in set(_texts(regex.parse(opaque._ALLOWED.pattern))))  # type: ignore[misc]


def routes() -> list[tuple[str, str]]:
    """Every route of the data plane: (method, path)."""
    own = [(method, path) for path, methods in app.ALLOWED_METHODS.items() for method in methods]
    return sorted({*own, ("GET", "/v1/models/chat/harbour-chat"), *opaque_routes()})


def _texts(tokens: Any) -> Iterator[str]:
    """Every text that a parsed pattern stands for; a class of characters repeated stands for ``file-1``."""
    texts = [""]
    for kind, given in tokens:
        if kind is kinds.LITERAL:
            choices = [chr(given)]
        elif kind is kinds.BRANCH:
            choices = [text for branch in given[1] for text in _texts(branch)]
        elif kind is kinds.SUBPATTERN:
            choices = list(_texts(given[-1]))
        elif kind in (kinds.MAX_REPEAT, kinds.MIN_REPEAT):
            least, most, inner = given
            choices = ["file-1"] if inner[0][0] is kinds.IN else [*([""] if not least else []), *_texts(inner)]
            assert most == 1 or choices == ["file-1"], given
        elif kind is kinds.IN:
            choices = [chr(value) for literal, value in given if literal is kinds.LITERAL]
        else:
            raise AssertionError(f"the pattern of routes holds {kind}, which is not enumerated here")
        texts = [before + choice for before in texts for choice in choices]
    yield from texts


def plain_headers(answer: RawAnswer) -> str:
    """Header lines as text, for searching."""
    return "\n".join(f"{name}: {value}" for name, value in answer.headers)


MODEL_OF_AN_OPAQUE_CALL = re.compile(rb'"model": ?"[^"]*"')
