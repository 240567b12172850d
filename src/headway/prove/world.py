"""A scripted upstream and a Headway in front of it, in a folder that is gone afterwards: the stage of edge, soak and fuzz."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from headway.prove.forms import CHAT, DIALECTS, MESSAGES, PATHS, RESPONSES, body_of, headers_of
from headway.prove.product import Product, Upstream
from headway.prove.rawhttp import RawAnswer, RawConnection

MODEL_BY_DIALECT = {CHAT: "harbour-chat", RESPONSES: "harbour-responses", MESSAGES: "harbour-messages"}
PAGE_ROWS = 400
_PRESETS = {CHAT: ("chat", "openai", "/v1"), RESPONSES: ("responses", "openai", "/v1"), MESSAGES: ("messages", "anthropic", "")}
_PROVIDER = """
[providers.{name}]
preset = "{preset}"
dialect = "{dialect}"
base_url = "{url}{suffix}"
key = "env:HEADWAY_UPSTREAM_KEY"
models = ["{model}"]
price_as = "free"
retries_max = {retries}
{timeouts}

[features.{model}]
targets = ["{name}/{model}"]
"""


def configuration(upstream_url: str, *, retries: int = 0, timeouts: str = "", more: str = "") -> str:
    """Three providers, one a dialect, all at the scripted upstream; a feature of the same name as each model."""
    parts = [
        _PROVIDER.format(
            name=_PRESETS[dialect][0],
            preset=_PRESETS[dialect][1],
            suffix=_PRESETS[dialect][2],
            dialect=dialect,
            url=upstream_url,
            model=MODEL_BY_DIALECT[dialect],
            retries=retries,
            timeouts=timeouts,
        )
        for dialect in DIALECTS
    ]
    return "\n".join([*parts, more])


class World:
    """``key`` is one of tenant ``default``."""

    def __init__(self, upstream: Upstream, product: Product, key: str) -> None:
        self.upstream, self.product, self.key = upstream, product, key

    async def call(
        self, dialect: str, text: str, *, target: str = "", stream: bool = False, key: str = "", **more: Any
    ) -> RawAnswer:
        """One call on a connection of its own."""
        connection = await RawConnection.open(self.product.url)
        try:
            return await self.call_on(connection, dialect, text, target=target, stream=stream, key=key, **more)
        finally:
            connection.close()

    async def call_on(
        self,
        connection: RawConnection,
        dialect: str,
        text: str,
        *,
        target: str = "",
        stream: bool = False,
        key: str = "",
        **more: Any,
    ) -> RawAnswer:
        body = body_of(dialect, MODEL_BY_DIALECT[target or dialect], text, stream=stream, **more)
        return await connection.request("POST", PATHS[dialect], headers_of(dialect, key or self.key), body)

    async def facts(self) -> dict[str, dict[str, Any]]:
        """Every finished call that control knows, by id."""
        out: dict[str, dict[str, Any]] = {}
        before = ""
        while True:
            page = await self.product.api_json(f"/calls?limit={PAGE_ROWS}&origin=any&before={before}")
            calls: Any = page["calls"]
            for call in calls:
                if call.get("fact") is not None:
                    out[call["call"]] = call["fact"]
            before = str(page.get("next") or "")
            if not before:
                return out

    async def facts_of(self, calls: set[str], *, within_s: float = 20.0) -> dict[str, dict[str, Any]]:
        """Facts once all of ``calls`` are there, or what is there after ``within_s``."""
        found: dict[str, dict[str, Any]] = {}
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            found = await self.facts()
            if calls <= found.keys():
                break
            await asyncio.sleep(0.5)
        return found


@asynccontextmanager
async def world(*, retries: int = 0, timeouts: str = "", more: str = "") -> AsyncIterator[World]:
    """Upstream, gateway and control up; all ended and the folder gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="headway-prove-") as name:
        folder = Path(name)
        upstream = Upstream(folder)
        product = Product(folder, configuration(upstream.url, retries=retries, timeouts=timeouts, more=more))
        try:
            await upstream.start()
            await product.start()
            yield World(upstream, product, await product.new_key())
        finally:
            product.stop()
            upstream.stop()
