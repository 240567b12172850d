"""The gateway's application behind its real listener, with the real client out and the scripted upstream behind, all on one loop."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import msgspec
from gateway_bench import MINTED, Facts, NoFeed, key_record

from headway.calls.pricing import PriceTable
from headway.config.model import Feature, Limits, Provider, Settings, Tenant, Timeouts
from headway.config.secrets import Secrets
from headway.gateway.app import GatewayApp
from headway.gateway.dialects.registry import REGISTRY
from headway.gateway.families import GatewayMetrics
from headway.gateway.listener.server import serve
from headway.gateway.live import Live
from headway.gateway.services import Services
from headway.gateway.state import GatewayState
from headway.gateway.upstream.http1 import Http1Upstream
from headway.kernel.instants import wall_ms
from headway.lab import scripted
from headway.lab.scripted_script import Script
from headway.ledger.keys import mint
from headway.link.messages import Snapshot

PROVIDER_KEY = "sk-canary-provider-0123456789abcdef"
OTHER = mint(wall_ms())
"""A key of the tenant that may use files."""


class Answer(msgspec.Struct):
    status: int
    headers: list[tuple[str, str]]
    body: bytes
    version: str

    def header(self, name: str) -> str:
        return next((v for n, v in self.headers if n == name), "")

    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """One connection, HTTP by hand."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def __aenter__(self) -> "Client":
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()

    async def send(
        self, method: str, path: str, body: bytes = b"", *, key: str | None = MINTED.text, version: str = "1.1", **headers: str
    ) -> None:
        lines = [f"{method} {path} HTTP/{version}", "host: gateway"]
        if key is not None:
            lines.append(f"authorization: Bearer {key}")
        if body or method in ("POST", "PUT"):
            lines.append(f"content-length: {len(body)}")
        lines += [f"{n.replace('_', '-')}: {v}" for n, v in headers.items()]
        self.writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        await self.writer.drain()

    async def head(self) -> Answer:
        raw = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = raw[:-4].decode("latin-1").split("\r\n")
        version, status, _ = first.split(" ", 2)
        headers = [(n.lower(), v.strip()) for n, _, v in (line.partition(":") for line in lines)]
        return Answer(int(status), headers, b"", version)

    async def answer(self, method: str = "GET") -> Answer:
        got = await self.head()
        if method == "HEAD" or got.status in (204, 304):
            return got
        if got.header("transfer-encoding") == "chunked":
            while True:
                size = int(await self.reader.readuntil(b"\r\n"), 16)
                got.body += (await self.reader.readexactly(size + 2))[:-2]
                if not size:
                    return got
        length = got.header("content-length")
        got.body = await (self.reader.readexactly(int(length)) if length else self.reader.read())
        return got


class Served:
    """Everything a test may look at or change."""

    def __init__(self, upstream_port: int, limits: Limits) -> None:
        self.facts = Facts()
        self.metrics = GatewayMetrics()
        self.state = GatewayState(self.metrics, body_bytes_max=limits.body_bytes_max)
        self.state.link_up = True
        self.scripted = scripted.ScriptedUpstream()
        self.port = 0
        self.stop = asyncio.Event()
        self.upstream_port = upstream_port

    def begin(self, settings: Settings) -> None:
        self.services = Services(
            gateway="gw",
            upstream=Http1Upstream(),
            dialects=dict(REGISTRY),
            facts=self.facts,
            feed=NoFeed(),
            metrics=self.metrics,
        )
        self.install(settings)
        self.state.watch(self.services)
        self.app = GatewayApp(self.services, self.state)

    def install(self, settings: Settings) -> None:
        keys = (key_record(), msgspec.structs.replace(key_record(), id=OTHER.id, digest=OTHER.digest, tenant="filing"))
        snapshot = Snapshot(generation=7, made_wall_ms=wall_ms(), settings=settings, keys=keys, prices=PriceTable(version="v"))
        self.services.book.install(())
        self.services.live = Live(snapshot, Secrets({"CANARY": PROVIDER_KEY}), {})

    async def call(self, method: str, path: str, body: bytes | dict[str, Any] = b"", **how: Any) -> Answer:
        """One request on a connection of its own."""
        raw = json.dumps(body).encode() if isinstance(body, dict) else body
        if isinstance(body, dict):
            how.setdefault("content_type", "application/json")
        async with Client(self.port) as client:
            await client.send(method, path, raw, **how)
            return await client.answer(method)

    def script(self, **fields: Any) -> None:
        """For the next request to the upstream."""
        self.scripted.queue.add(Script(**fields))


def configured(port: int) -> Settings:
    def provider(preset: str, *models: str, **fields: Any) -> Provider:
        return Provider(
            preset=preset,
            base_url=f"http://127.0.0.1:{port}",
            key="env:CANARY",
            models=models,
            timeouts=Timeouts(connect_ms=1_000, first_byte_ms=2_000, idle_ms=2_000, total_ms=5_000),
            retries_max=0,
            **fields,
        )

    return Settings(
        providers={
            "one": provider("openai", "m1", "whisper", "embed", files_tenant="filing"),
            "claude": provider("anthropic", "opus"),
        },
        features={
            "chat": Feature(targets=("one/m1",)),
            "deep": Feature(targets=("claude/opus",)),
            "listen": Feature(targets=("one/whisper",)),
            "vectors": Feature(targets=("one/embed",)),
            "hidden": Feature(targets=("one/m1",)),
        },
        tenants={"acme": Tenant(features=("chat", "deep", "listen", "vectors")), "filing": Tenant()},
    )


@asynccontextmanager
async def served(limits: Limits | None = None, drain_s: float = 1.0) -> AsyncIterator[Served]:
    limits = limits or Limits()
    made = Served(0, limits)
    server, made.upstream_port = await scripted.start(made.scripted)
    made.begin(configured(made.upstream_port))
    ready = asyncio.Event()

    def started(_host: str, port: int) -> None:
        made.port = port
        ready.set()

    task = asyncio.create_task(
        serve(
            cast("Any", made.app),
            "127.0.0.1",
            0,
            limits=limits,
            should_exit=made.stop,
            drain_s=drain_s,
            on_started=started,
            counters=made.state.listener,
        )
    )
    try:
        await ready.wait()
        yield made
    finally:
        made.stop.set()
        await task
        await made.services.upstream.close()
        server.close()
        await server.wait_closed()
        assert not made.services.in_flight
