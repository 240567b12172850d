"""A caller that does not read is seen by the gateway's own socket, soon, and is neither the provider's stall nor its slow decode."""

import asyncio
import json
from typing import cast

import pytest
from gateway_served import Client, served

from headway.calls.phases.split import split
from headway.facts.model import AttemptFact
from headway.facts.seen import seen_of
from headway.gateway.upstream.http1 import Http1Upstream
from headway.gateway.upstream.on_aiohttp import AiohttpUpstream
from headway.kernel.limits import UPSTREAM_STREAM_SETTLE_MS

BODY = json.dumps({"model": "chat", "stream": True, "messages": [{"role": "user", "content": "hello"}]}).encode()
TOKENS = 1_500
PAUSE_S = 0.4


async def answered(pause_s: float) -> tuple[dict[str, float], float]:
    """Parts of a call whose caller reads nothing for a while, and its blocked milliseconds."""
    async with served() as made:
        made.script(words=TOKENS)
        async with Client(made.port) as client:
            await client.send("POST", "/v1/chat/completions", BODY, content_type="application/json")
            if pause_s:
                transport = cast("asyncio.ReadTransport", client.writer.transport)
                transport.pause_reading()
                await asyncio.sleep(pause_s)
                transport.resume_reading()
            await client.answer("POST")
        while not made.facts.calls():
            await asyncio.sleep(0.01)
        attempts = [row for row in made.facts.rows if isinstance(row, AttemptFact)]
        found = split(seen_of(made.facts.call(), attempts))
        assert sum(found.parts_ms.values()) == found.duration_ms
        return found.parts_ms, made.facts.call().blocked_ms


async def test_a_caller_that_reads_nothing_for_a_while_is_the_slow_reader() -> None:
    parts, blocked_ms = await answered(PAUSE_S)
    assert blocked_ms > 0.6 * PAUSE_S * 1_000
    assert max(parts, key=parts.__getitem__) == "reader"
    assert parts["stall"] < 0.1 * parts["reader"]


async def test_a_caller_that_reads_at_once_is_none() -> None:
    parts, _ = await answered(0.0)
    assert parts["reader"] < 0.5 * parts["decode"]
    assert parts["stall"] == 0.0


@pytest.mark.parametrize("client", [Http1Upstream, AiohttpUpstream])
async def test_what_the_sockets_tell_of_an_attempt(client: type[Http1Upstream] | type[AiohttpUpstream]) -> None:
    async with served() as made:
        await made.services.upstream.close()
        made.services.upstream = client()
        made.script(words=20, head_delay_ms=30, times=0)
        for _ in range(2):
            await made.call("POST", "/v1/chat/completions", BODY, content_type="application/json")
            await asyncio.sleep(UPSTREAM_STREAM_SETTLE_MS / 1e3)  # before that a connection is not used again behind a stream
        while len(made.facts.calls()) < 2:
            await asyncio.sleep(0.01)
        fresh, pooled = [row for row in made.facts.rows if isinstance(row, AttemptFact)]
        for row in (fresh, pooled):
            assert row.address == f"127.0.0.1:{made.upstream_port}"
            assert row.sent_ms is not None
            assert row.head_ms is not None
            assert row.head_ms - row.sent_ms >= 29.0
        assert fresh.connect_ms is not None
        assert fresh.sent_ms is not None
        assert 0.0 < fresh.connect_ms <= fresh.sent_ms
        assert pooled.connect_ms is None
