"""A finished call leaves nothing for the cycle collector: memory goes back as calls end, not when the collector comes."""

import gc

import pytest
from gateway_bench import JSON, STREAM, Bench, FakeExchange, chat, chat_stream, whole


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
