"""The simulated engine on a socket: its answers, its cache, its order, its metrics, and what it refuses."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.lab.engine.fit import FitStepTime
from headway.lab.engine.model import EngineRequest, EngineSettings
from headway.lab.engine.settings import EngineRefusal
from headway.lab.engine_http import EngineServer, listening, with_settings
from headway.lab.engine_http_ask import BadAsk, block_hashes, read_ask
from headway.lab.engine_http_profiles import PROFILES, EngineProfile
from headway.prove.forms import sse_events
from headway.prove.rawhttp import RawAnswer, RawConnection, request

CHAT = "/v1/chat/completions"
WORDS = " ".join(f"word{i}" for i in range(900))


def profile(step_ms: float = 1.0, *, token_ms: float = 0.0, **more: Any) -> EngineProfile:
    """Every step takes ``step_ms``, and a prefilled token ``token_ms`` besides."""
    time = FitStepTime(
        name="test", source="test", floor_ms=step_ms, base_ms=step_ms, token_ms=token_ms, pair_ms=0, context_ms=0, decode_ms=0
    )
    return EngineProfile(name="m", about="", settings=EngineSettings(kv_blocks=1_000, **more), time=time, context_tokens_max=10_000)


@contextlib.asynccontextmanager
async def engine(made: EngineProfile, **more: Any) -> AsyncIterator[tuple[str, EngineServer]]:
    server = EngineServer(made, **more)
    async with listening(server) as url:
        yield url, server


def body(text: str, **more: Any) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": text}], "max_tokens": 4, **more}).encode()


async def ask(url: str, text: str, **more: Any) -> RawAnswer:
    return await request(url, "POST", CHAT, (), body(text, **more))


def usage(answer: RawAnswer) -> dict[str, Any]:
    assert answer.status == 200, answer.body
    found = json.loads(answer.body)["usage"]
    return {**found, "cached": found["prompt_tokens_details"]["cached_tokens"]}


async def test_a_stream_says_what_a_whole_answer_says_one_event_a_token():
    async with engine(profile()) as (url, _):
        whole = json.loads((await ask(url, "hello", max_tokens=6)).body)
        streamed = await ask(url, "hello", max_tokens=6, stream=True, stream_options={"include_usage": True})
        bare = await ask(url, "hello", max_tokens=6, stream=True)
    events = sse_events(streamed.body)
    assert events[-1].data == "[DONE]"
    chunks = [event.json() for event in events[:-1]]
    said = [c["choices"][0]["delta"].get("content") for c in chunks if c["choices"]]
    assert len([text for text in said if text]) == 6
    assert "".join(filter(None, said)) == whole["choices"][0]["message"]["content"]
    assert chunks[-2]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"] == "length"
    assert chunks[-1]["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"] == 6
    assert b'"usage"' not in bare.body


async def test_an_answer_ends_by_itself_unless_it_is_told_not_to():
    async with engine(profile(0.05)) as (url, _):
        natural = await ask(url, "hello", max_tokens=4_000)
        forced = await ask(url, "hello", max_tokens=600, ignore_eos=True)
    assert json.loads(natural.body)["choices"][0]["finish_reason"] == "stop"
    assert 16 <= usage(natural)["completion_tokens"] < 256
    assert usage(forced)["completion_tokens"] == 600


async def test_a_growing_prefix_finds_its_beginning_and_another_text_does_not():
    async with engine(profile()) as (url, _):
        first = usage(await ask(url, WORDS[:2_000], max_tokens=1))
        longer = usage(await ask(url, WORDS[:4_000], max_tokens=1))
        other = usage(await ask(url, "x" + WORDS[:4_000], max_tokens=1))
        again = usage(await ask(url, WORDS[:4_000], max_tokens=1))
    assert first["cached"] == 0
    assert first["prompt_tokens"] - 16 <= longer["cached"] <= first["prompt_tokens"]
    assert other["cached"] == 0
    assert again["cached"] >= again["prompt_tokens"] - 16
    assert again["cached"] < again["prompt_tokens"], "the last token is always computed"


async def test_without_a_prefix_cache_nothing_is_found():
    async with engine(profile(prefix_cache=False)) as (url, _):
        await ask(url, WORDS[:2_000])
        assert usage(await ask(url, WORDS[:2_000]))["cached"] == 0


async def first_token_s(url: str, text: str, **more: Any) -> float:
    loop = asyncio.get_running_loop()
    connection = await RawConnection.open(url)
    try:
        began = loop.time()
        await connection.send("POST", CHAT, (), body(text, stream=True, **more))
        await connection.head()
        return loop.time() - began
    finally:
        connection.close()


async def test_a_small_request_waits_behind_a_giant_and_the_long_threshold_frees_it():
    async def small_beside_giant(**more: Any) -> float:
        made = profile(2.0, token_ms=0.2, step_tokens_max=2_048, **more)
        async with engine(made) as (url, _):
            giant = asyncio.create_task(first_token_s(url, WORDS, max_tokens=1))
            await asyncio.sleep(0.05)  # the giant's first step has begun
            took = await first_token_s(url, "hi")
            await giant
            return took

    plain = await small_beside_giant()
    shared = await small_beside_giant(long_prefill_tokens_max=64)
    assert plain > 0.2, "1,900 tokens at 0.2 ms are 380 ms of which 50 have gone"
    assert shared < plain / 2


async def test_time_scales_with_speed():
    async def one(speed: float) -> float:
        async with engine(profile(100.0), speed=speed) as (url, _):
            loop = asyncio.get_running_loop()
            began = loop.time()
            await ask(url, "hello", max_tokens=5)
            return loop.time() - began

    slow, fast = await one(1.0), await one(10.0)
    assert slow >= 0.5
    assert 0.05 <= fast < slow / 2


@pytest.mark.parametrize(("by_priority", "order"), [(True, ["0", "1", "2"]), (False, ["2", "1", "0"])])
async def test_priority_goes_first_where_the_engine_takes_it(by_priority, order):
    ended: list[str] = []

    async def one(url: str, priority: int) -> None:
        await ask(url, f"say {priority}", max_tokens=1, priority=priority)
        ended.append(str(priority))

    async with engine(profile(20.0, sequences_max=1, priority=by_priority)) as (url, server):
        tasks = [asyncio.create_task(ask(url, "first", max_tokens=100, ignore_eos=True))]
        await until(lambda: server.engine.running == 1)
        for waiting, priority in enumerate((2, 1, 0), 1):
            tasks.append(asyncio.create_task(one(url, priority)))
            await until(lambda waiting=waiting: server.engine.waiting == waiting)
        await asyncio.gather(*tasks)
    assert ended == order


async def test_a_full_queue_refuses_with_retry_after_and_counts_it():
    async with engine(profile(1_000.0, sequences_max=1), waiting_max=2) as (url, server):
        tasks = [asyncio.create_task(ask(url, "first"))]
        await until(lambda: server.engine.running == 1)
        tasks += [asyncio.create_task(ask(url, f"{i}")) for i in range(2)]
        await until(lambda: server.engine.waiting == 2)
        refused = await ask(url, "one more")
        assert (refused.status, refused.header("retry-after")) == (503, "1")
        assert b'vllm:admission_rejections_total{engine="0",model_name="m"} 1.0\n' in (await request(url, "GET", "/metrics")).body
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(check: Any) -> None:
    async with asyncio.timeout(5):
        while not check():
            await asyncio.sleep(0.005)


async def test_a_caller_that_goes_away_frees_its_place():
    async with engine(profile(200.0, sequences_max=1)) as (url, server):
        connection = await RawConnection.open(url)
        await connection.send("POST", CHAT, (), body("long", max_tokens=500, ignore_eos=True))
        await until(lambda: server.engine.running == 1)
        connection.abort()
        await until(lambda: server.engine.running == 0 and not server.engine.busy)
        assert server.metrics.ended["abort"] == 1
        assert usage(await ask(url, "next", max_tokens=1))["completion_tokens"] == 1


NAMES = [
    "num_requests_running",
    "num_requests_waiting",
    "kv_cache_usage_perc",
    "prefix_cache_queries_total",
    "prefix_cache_hits_total",
    "num_preemptions_total",
    "prompt_tokens_total",
    "generation_tokens_total",
    "time_to_first_token_seconds_bucket",
    "time_to_first_token_seconds_count",
    "inter_token_latency_seconds_sum",
    "e2e_request_latency_seconds_count",
    "cache_config_info",
]


async def test_metrics_bear_vllms_names_and_add_up():
    async with engine(profile()) as (url, server):
        first = usage(await ask(url, WORDS[:2_000]))
        second = usage(await ask(url, WORDS[:2_000]))
        text = (await request(url, "GET", "/metrics")).body.decode()
    values = {name: float(value) for name, value in re.findall(r"^vllm:(\w+)\{[^}]*\} (\S+)$", text, re.MULTILINE)}
    assert set(NAMES) <= values.keys()
    assert values["generation_tokens_total"] == first["completion_tokens"] + second["completion_tokens"]
    assert values["prompt_tokens_total"] == values["prefix_cache_queries_total"] == 2 * first["prompt_tokens"]
    assert values["prefix_cache_hits_total"] == second["cached"] > 0
    assert values["time_to_first_token_seconds_count"] == values["e2e_request_latency_seconds_count"] == 2
    assert values["num_requests_running"] == values["num_requests_waiting"] == 0
    assert 'num_gpu_blocks="1000"' in text
    buckets = [float(v) for v in re.findall(r"^vllm:iteration_tokens_total_bucket\S+ (\S+)$", text, re.MULTILINE)]
    assert buckets == sorted(buckets)
    assert buckets[-1] == server.engine.steps


async def test_models_and_health():
    async with engine(profile(), model="mine") as (url, _):
        listed = (await request(url, "GET", "/v1/models")).json()
        assert [model["id"] for model in listed["data"]] == ["mine"]
        assert (await request(url, "GET", "/health")).status == 200


BAD = [
    (b"{", 400),
    (b"[]", 400),
    (json.dumps({"model": "m", "messages": []}).encode(), 400),
    (json.dumps({"model": "m", "messages": [{"content": "x"}]}).encode(), 400),
    (json.dumps({"model": "m", "messages": [{"role": "user", "content": 5}]}).encode(), 400),
    (body("x", n=2), 400),
    (body("x", max_tokens=0), 400),
    (body("x", priority="high"), 400),
    (body("x" * 50_000), 400),
    (body("x", max_tokens=20_000), 400),
    (body("x", model="other"), 404),
]


@pytest.mark.parametrize(("sent", "status"), BAD)
async def test_what_it_cannot_serve_is_refused_in_words(sent, status):
    async with engine(profile()) as (url, server):
        answer = await request(url, "POST", CHAT, (), sent)
        assert answer.status == status
        assert json.loads(answer.body)["error"]["message"]
        assert not server.engine.busy
        assert (await request(url, "GET", "/nothing")).status == 404


async def test_a_prompt_larger_than_memory_is_refused_not_queued_for_ever():
    small = msgspec.structs.replace(profile(), settings=EngineSettings(kv_blocks=10))
    async with engine(small) as (url, server):
        assert (await ask(url, "x" * 2_000)).status == 400
        assert not server.engine.busy


async def test_stopping_breaks_callers_off():
    async with engine(profile(10_000.0)) as (url, server):
        waiting = asyncio.create_task(ask(url, "x"))
        await until(lambda: server.engine.busy)
    with pytest.raises(Exception, match="closed before a head"):
        await waiting


def test_settings_that_make_no_engine_are_refused():
    with pytest.raises(EngineRefusal):
        EngineServer(with_settings(PROFILES["pro6000_8b"], long_prefill_tokens_max=0))
    assert with_settings(PROFILES["pro6000_8b"], sequences_max=None) == PROFILES["pro6000_8b"]
    assert with_settings(PROFILES["pro6000_8b"], sequences_max=7).settings.sequences_max == 7


def test_profiles_are_as_fast_as_they_say():
    time = PROFILES["pro6000_8b"]
    server = EngineServer(time)
    server.engine.submit(EngineRequest(id="a", prompt_tokens=28_000, output_tokens=1), 0)
    at = 0
    while server.engine.busy:
        at, _ = server.engine.step(at)
    assert 1.5e9 < at < 2.6e9, "28,000 tokens take about two seconds there"


@given(st.binary(max_size=400), st.binary(max_size=100), st.integers(1, 64))
@settings(max_examples=200, deadline=None)
def test_equal_beginnings_have_equal_hashes(start, end, block):
    grown = block_hashes(start + end, block)
    assert grown[: len(start) // block] == block_hashes(start, block)
    assert len(grown) == (len(start) + len(end)) // block
    changed = bytes([(start + end)[0] ^ 1]) + (start + end)[1:] if start + end else b""
    assert not grown or block_hashes(changed, block)[0] != grown[0]


def test_a_cut_text_is_a_prefix_of_the_prompt_whatever_stands_before_it():
    def blocks(text: str) -> tuple[int, ...]:
        messages = [{"role": "system", "content": [{"type": "text", "text": "be brief"}]}, {"role": "user", "content": text}]
        sent = json.dumps({"model": "m", "messages": messages, "tools": [{"type": "function"}]}).encode()
        return read_ask(sent, bytes_a_token=4, block_tokens=4, context_tokens_max=10_000).blocks

    whole, cut = blocks(WORDS), blocks(WORDS[:1_000])
    assert len(cut) >= 1_000 // 16
    assert whole[: len(cut)] == cut


def test_nothing_but_a_request_is_read():
    with pytest.raises(BadAsk, match="context is 10 tokens"):
        read_ask(body("word " * 20), bytes_a_token=4, block_tokens=16, context_tokens_max=10)
