"""What engines say of their load: pages as they were written by old and new versions, and by ones that write nonsense."""

import asyncio

import pytest
from gateway_bench import JSON, FakeExchange, FakeUpstream
from gateway_engine import Engine, SharedBench, shared_settings
from hypothesis import given
from hypothesis import strategies as st

from headway.calls.admission.model import EngineLoad
from headway.config.model import Admission
from headway.gateway.engine.load import EngineLoads
from headway.gateway.engine.load_names import ALIASES, load_of_metrics, with_slots
from headway.gateway.upstream.port import UpstreamError, UpstreamPhase, UpstreamRequest
from headway.kernel.instants import mono_ns

VLLM_NEW = """# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 7.0
vllm:num_requests_waiting{engine="0",model_name="m"} 3.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.625
vllm:num_preemptions_total{engine="0",model_name="m"} 12.0
vllm:num_preemptions_created{engine="0",model_name="m"} 1.7e9
vllm:cache_config_info{block_size="16",cache_dtype="auto",num_gpu_blocks="2588",engine="0"} 1.0
"""
VLLM_OLD = """vllm:num_requests_running{model_name="m"} 7.0
vllm:num_requests_waiting{model_name="m"} 3.0
vllm:gpu_cache_usage_perc{model_name="m"} 0.625
vllm:cpu_cache_usage_perc{model_name="m"} 0.0
vllm:num_preemptions{model_name="m"} 12.0
vllm:cache_config_info{block_size="16",num_gpu_blocks="2588"} 1.0
"""
VLLM_UNDERSCORES = VLLM_OLD.replace("vllm:", "vllm_")
SGLANG = """sglang:num_running_reqs{model_name="m"} 7
sglang:num_queue_reqs{model_name="m"} 3
sglang:token_usage{model_name="m"} 0.625
sglang:max_total_num_tokens{model_name="m"} 41408
"""
LLAMA = """# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing 2
llamacpp:requests_deferred 1
llamacpp:n_decode_total 99
"""
FULL = EngineLoad(running=7, waiting=3, kv_used_share=0.625, preemptions=12, kv_tokens=41_408)


@pytest.mark.parametrize("page", [VLLM_NEW, VLLM_OLD, VLLM_UNDERSCORES])
def test_names_of_vllm_old_and_new(page: str) -> None:
    assert load_of_metrics(page) == FULL


def test_names_of_sglang_and_llama_cpp() -> None:
    assert load_of_metrics(SGLANG) == EngineLoad(running=7, waiting=3, kv_used_share=0.625, kv_tokens=41_408)
    assert load_of_metrics(LLAMA) == EngineLoad(running=2, waiting=1)
    assert load_of_metrics(LLAMA + "llamacpp:kv_cache_usage_ratio 0.25\n").kv_used_share == 0.25


def test_every_name_is_heard_and_the_first_of_a_row_counts() -> None:
    for field, names in ALIASES.items():
        for name in names:
            assert (
                getattr(load_of_metrics(f'{name}{{a="b"}} 0.5\n' if field == "kv_used_share" else f"{name} 5"), field) is not None
            )
    both = load_of_metrics("vllm:gpu_cache_usage_perc 0.9\nvllm:kv_cache_usage_perc 0.1\n")
    assert both.kv_used_share == 0.1


def test_ranks_are_added_and_shares_averaged() -> None:
    page = "".join(f'{line.replace("ENGINE", str(n))}\n' for n in range(2) for line in (
        'vllm:num_requests_running{engine="ENGINE"} 4', 'vllm:kv_cache_usage_perc{engine="ENGINE"} 0.ENGINE'
    ))  # fmt: skip
    assert load_of_metrics(page) == EngineLoad(running=8, kv_used_share=0.05)


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-1", "1e400", "many", ""])
def test_a_figure_that_is_none_is_not_told(value: str) -> None:
    assert load_of_metrics(f"vllm:num_requests_running {value}\n") == EngineLoad()


@given(st.text(max_size=300))
def test_any_page_can_be_read(text: str) -> None:
    load_of_metrics(text)
    load_of_metrics(f"vllm:num_requests_running{text}")
    with_slots(EngineLoad(), text)


def test_slots() -> None:
    page = '[{"id":0,"is_processing":true},{"id":1,"is_processing":false},{"id":2,"is_processing":true}]'
    assert with_slots(EngineLoad(), page) == EngineLoad(slots=3, running=2)
    assert with_slots(EngineLoad(running=1), page) == EngineLoad(slots=3, running=1)
    assert with_slots(EngineLoad(), '{"error":"disabled"}') == EngineLoad()


# --- the asking


class Pages(FakeUpstream):
    def __init__(self, **pages: str | None) -> None:
        super().__init__(self.answer)
        self.pages = pages

    def answer(self, request: UpstreamRequest) -> FakeExchange | UpstreamError:
        text = self.pages.get(request.url.rpartition("/")[2])
        if text is None:
            return FakeExchange(501, JSON, [b"{}"])
        if text == "cut":
            return UpstreamError("no route", phase=UpstreamPhase.CONNECT)
        return FakeExchange(200, (("content-type", "text/plain"),), [text.encode()])


def bench(pages: Pages, preset: str = "llama.cpp", every_ms: int = 1_000) -> tuple[SharedBench, EngineLoads]:
    b = SharedBench(Engine(), shared_settings(Admission(load_every_ms=every_ms), preset=preset))
    b.services.upstream = pages
    return b, EngineLoads(b.services, b.admission)


async def settled(loads: EngineLoads) -> None:
    while loads._asking:
        await asyncio.sleep(0.001)


async def test_what_an_engine_says_bounds_what_it_is_sent() -> None:
    pages = Pages(metrics=LLAMA, slots='[{"is_processing":false},{"is_processing":false}]')
    b, loads = bench(pages)
    loads.look(mono_ns())
    loads.look(mono_ns())
    await settled(loads)
    assert [r.url for r in pages.requests] == ["http://engine.test/metrics", "http://engine.test/slots"]
    assert all(r.remaining_ms == 2_000 for r in pages.requests)
    b.services.upstream = engine = Engine(word_s=0.02)
    calls = [b.start("acme", f"call {n}") for n in range(5)]
    await asyncio.gather(*calls)
    assert engine.running_max == 2


async def test_it_is_asked_when_it_is_due_and_seldom_where_there_is_no_page() -> None:
    pages = Pages(metrics=None, slots='[{"is_processing":false}]')
    _, loads = bench(pages)
    now = mono_ns()
    loads.look(now)
    await settled(loads)
    for s in range(1, 11):
        loads.look(type(now)(now + s * 1_500_000_000))
        await settled(loads)
        loads._due = {key: type(now)(now + s * 1_500_000_000) if key[1] == "/slots" else due for key, due in loads._due.items()}
    asked = [r.url.rpartition("/")[2] for r in pages.requests]
    assert asked.count("metrics") == 1
    assert asked.count("slots") == 11


@pytest.mark.parametrize(("preset", "every_ms"), [("ollama", 1_000), ("openai", 1_000), ("vllm", 0)])
async def test_who_has_no_page_or_is_not_to_be_asked_is_not(preset: str, every_ms: int) -> None:
    pages = Pages()
    _, loads = bench(pages, preset, every_ms)
    loads.look(mono_ns())
    await settled(loads)
    assert pages.requests == []


async def test_an_engine_that_is_away_costs_one_line(caplog: pytest.LogCaptureFixture) -> None:
    pages = Pages(metrics="cut")
    _, loads = bench(pages, "vllm")
    for _ in range(3):
        loads._due.clear()
        loads.look(mono_ns())
        await settled(loads)
    assert len(pages.requests) == 3
    assert len([r for r in caplog.records if "does not tell its load" in r.message]) == 1
