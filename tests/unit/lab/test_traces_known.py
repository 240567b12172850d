"""Known answers of the traces' README, by their numbers there (data folder, HEADWAY_DATA). A loader that misses one is wrong."""

from collections import Counter
from statistics import fmean, median, pstdev

import numpy as np
import pytest

from headway.lab.traces.arena import load_arena
from headway.lab.traces.azure import load_azure
from headway.lab.traces.calls import TraceCall, quantile
from headway.lab.traces.catalog import TRAFFIC, load_calls
from headway.lab.traces.lengths import load_lengths
from headway.lab.traces.machines import load_distserve, load_sarathi_batches, load_sarathi_chunking, load_splitwise
from headway.lab.traces.measured import FairRequest, load_vllm_requests, load_vllm_seconds, load_vtc_runs
from headway.lab.traces.mooncake import load_mooncake
from headway.lab.traces.reading import traces_folder
from headway.lab.traces.servegen import load_servegen

TRACES = traces_folder()
pytestmark = pytest.mark.skipif(not TRACES.is_dir(), reason=f"no traces in {TRACES}; set HEADWAY_DATA")


def quantiles(values, *shares: float) -> list[float]:
    return [quantile(list(values), share) for share in shares]


def arrivals(calls: list[TraceCall]) -> tuple[float, float, float, int]:
    """Span in seconds, requests a second, coefficient of variation of gaps, busiest minute."""
    span = calls[-1].at_ns / 1e9
    gaps = [(b.at_ns - a.at_ns) / 1e9 for a, b in zip(calls, calls[1:], strict=False)]
    minutes = Counter(call.at_ns // 60_000_000_000 for call in calls)
    return span, len(calls) / span, pstdev(gaps) / fmean(gaps), max(minutes.values())


@pytest.mark.parametrize(
    ("service", "rows", "shape", "context", "output", "sums"),
    [
        ("code", 8_819, (3_435.9, 2.567, 13.2, 632), (1_469, 5_187.6, 7_436, 7_437), (13, 251.5), (18_059_974, 245_896)),
        ("conv", 19_366, (3_501.7, 5.530, 1.09, 507), (1_020, 2_734.5, 4_142, 14_050), (129, 601), (22_361_870, 4_088_665)),
    ],
)
def test_1_and_2_azure(service, rows, shape, context, output, sums) -> None:
    calls = load_azure(TRACES, service)
    assert len(calls) == rows
    span, rate, cv, minute = arrivals(calls)
    assert (round(span, 1), round(rate, 3), minute) == (shape[0], shape[1], shape[3])
    assert cv == pytest.approx(shape[2], rel=0.005)
    assert quantiles([c.prompt_tokens for c in calls], 0.5, 0.9, 0.99, 1) == pytest.approx(context, abs=0.05)
    assert quantiles([c.output_tokens for c in calls], 0.5, 0.99) == pytest.approx(output, abs=0.05)
    assert (sum(c.prompt_tokens for c in calls), sum(c.output_tokens for c in calls)) == sums


def test_3_mooncake() -> None:
    """Its hit shares: test_engine_blocks.py."""
    calls = load_mooncake(TRACES)
    assert len(calls) == 12_031
    assert round(calls[-1].at_ns / 1e9, 1) == 3_537.0
    assert len({call.at_ns for call in calls}) == 1_180
    prompts = [call.prompt_tokens for call in calls]
    assert round(fmean(prompts)) == 12_035
    assert [round(value) for value in quantiles(prompts, 0.5, 0.9, 0.99, 1)] == [6_909, 27_367, 85_400, 126_195]
    outputs = [call.output_tokens for call in calls]
    assert (round(fmean(outputs), 1), round(quantile(outputs, 0.99), 1)) == (342.6, 1_118.5)
    blocks = [block for call in calls for block in call.blocks]
    assert (len(blocks), len(set(blocks))) == (288_500, 182_790)


def test_3_mooncakes_ticks_are_spread_within_themselves() -> None:
    recorded, spread = load_mooncake(TRACES), load_mooncake(TRACES, spread_seed=7)
    assert [(c.prompt_tokens, c.blocks) for c in spread] == [(c.prompt_tokens, c.blocks) for c in recorded]
    ticks = sorted({call.at_ns for call in recorded})
    after = dict(zip(ticks, [*ticks[1:], ticks[-1] + 3_000_000_000], strict=True))
    assert all(was.at_ns <= now.at_ns < after[was.at_ns] for was, now in zip(recorded, spread, strict=True))
    assert len({call.at_ns for call in spread}) > 12_000
    assert arrivals(spread)[2] < 1.3 < arrivals(recorded)[2]
    assert load_mooncake(TRACES, spread_seed=7) == spread
    assert load_mooncake(TRACES, spread_seed=8) != spread


@pytest.mark.parametrize(
    ("name", "clients", "windows", "rates", "tops", "cvs", "lengths"),
    [
        ("r1", 73, 3_111, (16.01, 42.5), (28.6, 67.7), (1.03, 3.95), (184, 1_865, 1_206, 0.742)),
        ("m_mid", 51, 3_578, (554.8, 1_477.5), (34.8, 83.3), (1.13, 4.88), (165, 1_702, 253, None)),
    ],
)
def test_4_and_5_servegen(name, clients, windows, rates, tops, cvs, lengths) -> None:
    told = load_servegen(TRACES, name)
    traces = [window for client in told for window in client.trace]
    assert (len(told), len(traces)) == (clients, windows)
    by_window: Counter[int] = Counter()
    for window in traces:
        by_window[window.start_s] += window.rate
    assert round(sum(by_window.values()) / 144, 2) == pytest.approx(rates[0], abs=0.04)
    assert round(max(by_window.values()), 1) == rates[1]
    totals = sorted((sum(window.rate for window in client.trace) for client in told), reverse=True)
    assert [round(100 * sum(totals[:n]) / sum(totals), 1) for n in (1, 10)] == list(tops)
    assert [round(value, 2) for value in quantiles([window.gap_cv for window in traces], 0.5, 0.9)] == list(cvs)
    if name == "r1":
        assert Counter(window.family for window in traces) == {"Gamma": 2_589, "Weibull": 522}
    known = [item for client in told for item in client.dataset.values() if item.input_tokens[0]]

    def mean(spread) -> float:
        return sum(value * share for value, share in zip(*spread, strict=True))

    assert len(known) == lengths[0]
    assert round(fmean(mean(item.input_tokens) for item in known)) == pytest.approx(lengths[1], abs=1)
    assert round(fmean(mean(item.output_tokens) for item in known)) == pytest.approx(lengths[2], abs=1)
    if lengths[3]:
        assert round(fmean(mean(item.reason_ratio) for item in known), 3) == lengths[3]


def test_6_arena() -> None:
    calls = load_arena(TRACES)
    of = Counter(call.tenant for call in calls)
    assert (len(calls), len(of)) == (1_500, 27)
    assert [count for _, count in of.most_common(4)] == [296, 262, 199, 120]
    assert (median(of.values()), min(of.values())) == (26, 1)
    prompts, outputs = [c.prompt_tokens for c in calls], [c.output_tokens for c in calls]
    assert [round(v) for v in (*quantiles(prompts, 0.5, 0.99), sum(prompts))] == [40, 902, 204_398]
    assert [round(v) for v in (*quantiles(outputs, 0.5, 0.99), sum(outputs))] == [211, 785, 384_297]


def test_7_lengths() -> None:
    chat, papers = load_lengths(TRACES, "sharegpt"), load_lengths(TRACES, "arxiv")
    assert (len(chat), len(papers)) == (30_731, 28_257)
    assert quantiles([p for p, _ in chat], 0.5, 0.99) == pytest.approx([1_730, 7_433.7])
    assert quantiles([d for _, d in chat], 0.5, 0.99) == pytest.approx([415, 998])
    assert max(p + d for p, d in chat) == 8_149
    assert quantile([p for p, _ in papers], 0.5) == 2_730
    assert quantiles([d for _, d in papers], 0.5, 0.99) == pytest.approx([167, 3_271.3], abs=0.05)


@pytest.mark.parametrize(
    ("run", "ttft", "mean", "queue", "tpot", "rate", "makespan", "most", "prefill_ms"),
    [
        ("RTX4090_Llama-3.1-8B", (60.11, 121.12, 137.36), 65.46, 99.6, (30.8, 56.0), 1_066, 183.6, (49, 234), 222),
        ("RTXPRO6000_Llama-3.1-8B", (9.443, 16.853, 19.755), 7.097, 98.3, (33.4, 37.3), 2_969, 65.9, (128, 104), 104),
        ("RTXPRO6000_Qwen3-30B-A3B-Instruct-2507", (0.139, 5.183, 9.588), 1.086, 87.2, (48.9, 53.3), 3_116, 64.0, (256, 37), 129),
    ],
)
def test_8_measured_vllm(run, ttft, mean, queue, tpot, rate, makespan, most, prefill_ms) -> None:
    requests, seconds = load_vllm_requests(TRACES, run), load_vllm_seconds(TRACES, run)
    times = [request.ttft_s for request in requests]
    assert len(requests) == 300
    assert quantiles(times, 0.5, 0.9, 0.99) == pytest.approx(ttft, abs=0.005)
    assert fmean(times) == pytest.approx(mean, abs=0.005)
    assert 100 * sum(r.scheduled_s - r.queued_s for r in requests) / sum(times) == pytest.approx(queue, abs=0.05)
    paces = [request.tpot_ms for request in requests if request.tpot_ms is not None]
    assert quantiles(paces, 0.5, 0.99) == pytest.approx(tpot, abs=0.05)
    end = max(request.last_token_s for request in requests)
    assert end == pytest.approx(makespan, abs=0.05)
    assert sum(request.output_tokens for request in requests) / end == pytest.approx(rate, abs=0.5)
    assert (max(s.running for s in seconds), max(s.waiting for s in seconds)) == most
    assert 1_000 * quantile([r.first_token_s - r.scheduled_s for r in requests], 0.5) == pytest.approx(prefill_ms, abs=0.5)


@pytest.fixture(scope="module")
def fair() -> dict[str, list[FairRequest]]:
    return load_vtc_runs(TRACES)


def test_the_fair_runs_are_all_there(fair) -> None:
    assert (len(fair), sum(map(len, fair.values()))) == (26, 48_888)


@pytest.mark.parametrize(
    ("workload", "until", "fcfs", "vtc", "heavy"),
    [
        ("on_off_less", None, (84.7, 173.6), (2.68, 8.34), (110.6, 181.1)),
        ("proportional", None, (96.1, 196.0), (4.65, 10.38), (145.3, 202.5)),
        ("increase", None, (0.43, 48.0), (0.26, 0.71), (3.30, 50.1)),
        ("on_off_overload", None, (374, 748), (75.8, 152.9), (568, 787)),
        ("overload", 360.4, (290, 576), (124, 250), (430, 554)),
    ],
)
def test_9_light_and_heavy_tenants(fair, workload, until, fcfs, vtc, heavy) -> None:
    def told(scheduler: str, client: int) -> list[float]:
        run = fair[f"{scheduler}.{workload}"]
        return quantiles([r.ttft_s for r in run if r.client == client and (until is None or r.arrived_s <= until)], 0.5, 0.99)

    heaviest = Counter(request.client for request in fair[f"VTC.{workload}"]).most_common(1)[0][0]
    assert told("FCFS", 0) == pytest.approx(fcfs, rel=0.015)
    assert told("VTC", 0) == pytest.approx(vtc, rel=0.015)
    assert told("VTC", heaviest) == pytest.approx(heavy, rel=0.015)


def test_9_arena_light_and_heavy_tenants(fair) -> None:
    counts = Counter(request.client for request in fair["FCFS.real"])
    light = {client for client, count in counts.items() if count <= 40}
    heavy = {client for client, _ in counts.most_common(4)}
    assert len(light) == 17

    def told(scheduler: str, clients: set[int]) -> list[float]:
        return quantiles([r.ttft_s for r in fair[f"{scheduler}.real"] if r.client in clients], 0.5, 0.99)

    assert told("FCFS", light) == pytest.approx((66.9, 137.6), rel=0.01)
    assert told("VTC", light) == pytest.approx((1.51, 21.7), rel=0.01)
    assert told("VTC", heavy) == pytest.approx((25.8, 216.3), rel=0.01)


def test_11_weighted_arrivals_share_the_weights_ratio(fair) -> None:
    run = fair["WVTC.overload-weighted"]
    minutes = max(request.arrived_s for request in run) / 60
    counts = Counter(request.client for request in run)
    assert [round(counts[client] / minutes / 24) for client in sorted(counts)] == [1, 2, 3, 4]


def test_12_refusals_and_pace(fair) -> None:
    refused = {name: sum(request.ttft_s is None for request in run) for name, run in fair.items()}
    assert {name: count for name, count in refused.items() if count} == {
        "LShare.rpm5.real": 919,
        "LShare.rpm10.real": 600,
        "LShare.rpm15.real": 447,
        "LShare.rpm20.real": 342,
        "LShare.rpm30.real": 176,
    }
    for name, pace in (("FCFS.overload", 43.2), ("VTC.overload", 42.0)):
        paces = [1_000 * (r.e2e_s - r.ttft_s) / (r.output_tokens - 1) for r in fair[name] if r.output_tokens > 1]
        assert quantile(paces, 0.5) == pytest.approx(pace, abs=0.4)


@pytest.mark.parametrize(
    ("hardware", "degree", "a", "b", "r2"),
    [
        ("a100-80gb", 2, -41, 0.399, 0.997),
        ("a100-80gb", 4, -139, 0.334, 0.997),
        ("a100-80gb", 8, -107, 0.231, 0.995),
        ("h100-80gb", 2, 17, 0.148, 0.997),
        ("h100-80gb", 4, 7.7, 0.107, 0.999),
        ("h100-80gb", 8, 12.3, 0.0908, 0.997),
    ],
)
def test_13_splitwise_lines(hardware, degree, a, b, r2) -> None:
    rows = load_splitwise(TRACES)
    assert (len(rows), len(load_splitwise(TRACES, broken=True))) == (1_245, 1_260)
    groups: dict[tuple[int, int], list[float]] = {}
    for row in rows:
        if (row.model, row.hardware, row.tensor_parallel) == ("llama2-70b", hardware, degree):
            groups.setdefault((row.prompt_tokens, row.batch), []).append(row.prompt_ms)
    x = np.array([prompt * batch for prompt, batch in groups], dtype=float)
    y = np.array([median(times) for times in groups.values()])
    slope, start = np.polyfit(x, y, 1)
    fitted = start + slope * x
    assert slope == pytest.approx(b, rel=0.02)
    assert start == pytest.approx(a, abs=8)
    assert 1 - ((y - fitted) ** 2).sum() / ((y - y.mean()) ** 2).sum() == pytest.approx(r2, abs=0.002)


def test_14_distserve() -> None:
    ours, vllm = load_distserve(TRACES, "distserve"), load_distserve(TRACES, "vllm")
    assert (len(ours), len(vllm)) == (7, 7)
    small = ours["facebook/opt-13b", 1]
    assert small.prefill_ms((2_048,)) == pytest.approx(257, abs=0.5)
    assert small.decode_ms(10_000, 10) == pytest.approx(19.9 + 6.27 + 0.385, abs=0.05)
    assert small.decode_ms(10_000, 200) == pytest.approx(7.166 + 5.798 + 31.662, abs=0.05)
    assert vllm["facebook/opt-66b", 2].prefill[2] == pytest.approx(-7.1e-6, rel=0.01)


def test_15_sarathi() -> None:
    over = load_sarathi_chunking(TRACES)
    assert [round(100 * (over[length, 512] - 1), 1) for length in (2_047, 4_095, 8_191, 16_383)] == [15.2, 18.9, 11.7, -0.5]
    assert [round(100 * (over[length, 2_048] - 1)) for length in (4_095, 16_383)] == [2, -19]
    decode = {b.decode_tokens: b.ms for b in load_sarathi_batches(TRACES, "figure-2_decode")}
    assert (round(decode[1], 1), round(decode[128], 1)) == (46.8, 189.3)
    assert len(load_sarathi_batches(TRACES, "figure-2_prefill")) == 8
    mixed = {(b.prefill_tokens, b.decode_tokens): round(b.ms, 1) for b in load_sarathi_batches(TRACES, "table-2_results")}
    assert mixed == {(0, 4): 68.1, (1_021, 3): 217.6, (1_024, 0): 217.2}


@pytest.mark.parametrize("name", TRAFFIC)
def test_all_traffic_comes_in_one_form(name: str) -> None:
    calls = load_calls(name, TRACES, seed=3)
    assert len(calls) >= 1_500
    assert all(a.at_ns <= b.at_ns for a, b in zip(calls, calls[1:], strict=False))
    assert all(call.prompt_tokens >= 1 and call.output_tokens >= 1 and call.at_ns >= 0 for call in calls)
    assert load_calls(name, TRACES, seed=3) == calls


@pytest.mark.parametrize(("name", "clients", "scale"), [("servegen_r1", "r1", 1.0), ("servegen_m_mid", "m_mid", 0.01)])
def test_drawn_calls_keep_rates_and_lengths(name: str, clients: str, scale: float) -> None:
    """Rates of the drawn hour within 10 %, by the busiest client too; other seeds draw others."""
    began = {"r1": 43_200, "m_mid": 129_600}[clients]
    calls = load_calls(name, TRACES, seed=3)
    wanted = {
        str(client.client): sum(w.rate for w in client.trace if began <= w.start_s < began + 3_600) * 600 * scale
        for client in load_servegen(TRACES, clients)
    }
    got = Counter(call.tenant for call in calls)
    busiest = max(wanted, key=lambda tenant: wanted[tenant])
    assert len(calls) == pytest.approx(sum(wanted.values()), rel=0.1)
    assert got[busiest] == pytest.approx(wanted[busiest], rel=0.1)
    assert load_calls(name, TRACES, seed=4) != calls
