"""A finished call leaves nothing for the cycle collector: memory goes back as calls end, not when the collector comes."""

import gc

import pytest
from gateway_bench import JSON, STREAM, Bench, FakeExchange, chat, chat_stream, whole
from gateway_served import Client, served

from headway.gateway.flow import Flow, Inbound
from headway.gateway.listener.cycle import Cycle


@pytest.mark.parametrize("stream", [False, True])
async def test_a_finished_call_leaves_no_cycles(stream: bool) -> None:
    bench = Bench(lambda r: FakeExchange(200, STREAM, chat_stream()) if stream else FakeExchange(200, JSON, [whole()]))
    for _ in range(5):
        await bench.call(chat(stream=stream))
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            await bench.call(chat(stream=stream))
        bench.facts.rows.clear()
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        left = [type(o).__name__ for o in gc.garbage if type(o).__module__.startswith("headway")]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert left == []


@pytest.mark.parametrize("stream", [False, True])
async def test_a_finished_request_leaves_its_body_to_nobody(stream: bool) -> None:
    """Through the real listener: a body that waited for the collector would be memory that grows with traffic."""
    async with served() as gateway, Client(gateway.port) as client:
        body = chat(stream=stream, text="x" * 200_000)
        for _ in range(3):
            await client.send("POST", "/v1/chat/completions", body)
            assert (await client.answer()).status == 200
        gc.collect()
        gc.disable()
        try:
            for _ in range(10):
                await client.send("POST", "/v1/chat/completions", body)
                assert (await client.answer()).status == 200
            gateway.facts.rows.clear()
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            kept = [type(o).__name__ for o in gc.garbage if isinstance(o, Cycle | Flow | Inbound)]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
        assert kept == []
