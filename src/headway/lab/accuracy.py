"""How far the simulated engine is from engines that were measured: ``headway lab accuracy``.

Three measured runs of vLLM 0.19.0 are replayed: same arrivals, prompts and answers on the simulated engine, kernel times from the
machine's own tables. What tables do not hold is fitted on one run. Rule: on the run of data parallel ranks, since only there is something
missing, the exchange between ranks (two numbers). The other two are predicted with nothing fitted: overhead 0, dense layers as measured.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

import msgspec

from headway.kernel.figure import Figure, Proof
from headway.kernel.instants import NS_PER_S
from headway.lab.engine.engine import ContinuousEngine, ParallelEngine
from headway.lab.engine.model import EngineRequest, EngineSettings
from headway.lab.engine.ranks import Exchange, Experts, RanksTable
from headway.lab.engine.search import least
from headway.lab.engine.table import TableStepTime
from headway.lab.traces.calls import quantile
from headway.lab.traces.measured import Request, load_vllm_requests, load_vllm_seconds
from headway.lab.traces.profiles import Profile, load_profile

METRICS: Final = ("ttft", "tpot", "e2e")
SHARES: Final = (("p50", 0.5), ("p99", 0.99))
FITTED: Final = "pro6000_30b"
RESAMPLES: Final = 200
LLAMA_LAYERS: Final = 32
QWEN_LAYERS: Final = 48
QWEN_EXPERTS: Final = Experts(total=128, chosen=8, ranks=2)
EXCHANGE_US_MAX: Final = (160.0, 0.2)
"""Where the two fitted numbers are looked for, from 0: microseconds a layer, and a layer and token."""

VLLM: Final = EngineSettings(step_tokens_max=2_048, block_tokens=16, reserve_prompt=True, plan_ahead=True)
"""vLLM 0.19.0 as it was run: prefix cache on; whole prompts must fit, and steps are planned ahead, by its defaults."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One measured run: its file, its machine's tables, its engine's settings."""

    file: str
    hardware: str
    model: str
    settings: EngineSettings


RUNS: Final[Mapping[str, Run]] = MappingProxyType(
    {
        "4090_8b": Run(
            file="RTX4090_Llama-3.1-8B",
            hardware="RTX4090",
            model="meta-llama/Llama-3.1-8B",
            settings=msgspec.structs.replace(VLLM, sequences_max=256, kv_blocks=2_588),
        ),
        "pro6000_8b": Run(
            file="RTXPRO6000_Llama-3.1-8B",
            hardware="RTXPRO6000",
            model="meta-llama/Llama-3.1-8B",
            settings=msgspec.structs.replace(VLLM, sequences_max=128),
        ),
        "pro6000_30b": Run(
            file="RTXPRO6000_Qwen3-30B-A3B-Instruct-2507",
            hardware="RTXPRO6000",
            model="Qwen/Qwen3-30B-A3B-Instruct-2507",
            settings=msgspec.structs.replace(VLLM, sequences_max=128),
        ),
    }
)


def bounds() -> dict[str, float]:
    """The most that each bounded figure may be."""
    wanted: dict[str, float] = {}
    for run in RUNS:
        tpot, e2e = ((0.03, 0.05), (0.05, 0.05)) if run == FITTED else ((0.08, 0.08), (0.09, 0.09))
        for metric, most in (("ttft", (0.08, 0.08)), ("tpot", tpot), ("e2e", e2e)):
            for (share, _), bound in zip(SHARES, most, strict=True):
                wanted[f"{run}.{metric}_{share}_error"] = bound
        wanted[f"{run}.max_running_error"] = 2
    wanted["pro6000_30b.ttft_p50_error"] = 0.25  # not a queue but the edge of saturation: small numbers beside a steep curve
    return wanted


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """A run's requests in order of arrival: ``ttft`` and ``e2e`` in seconds, ``tpot`` in milliseconds (None for answers of one token)."""

    ttft: list[float]
    tpot: list[float | None]
    e2e: list[float]
    running_max: int
    preemptions: int


def prove(traces: Path, *, seed: int = 1, say: Callable[[str], None] = lambda text: None) -> Proof:
    """``seed`` draws the resamples behind the intervals; the simulation itself has no chance in it. TraceMissing, TraceError."""
    began = time.monotonic()
    figures: dict[str, Figure] = {}
    for name, run in RUNS.items():
        say(f"{name}: replaying 300 requests")
        requests = load_vllm_requests(traces, run.file)
        profile = load_profile(traces, run.hardware, run.model)
        measured = _measured(traces, run, requests)
        if name == FITTED:
            exchange = _fit(run, requests, measured, profile, say)
            simulated = _with_ranks(run, requests, profile, exchange)
            how = f"fitted here: exchange {exchange.layer_us:.1f} us a layer + {exchange.token_us:.4f} us a token"
        else:
            simulated = replay(requests, ContinuousEngine(run.settings, TableStepTime(profile, layers=LLAMA_LAYERS)))
            how = "nothing fitted"
        figures |= _figures(name, measured, simulated, how, random.Random(f"{seed}/{name}"))
    return Proof(pillar="accuracy", engine="lab", seed=seed, figures=figures, took_s=round(time.monotonic() - began, 2))


def replay(requests: Sequence[Request], engine: ContinuousEngine | ParallelEngine) -> Times:
    """``requests`` on ``engine``. A request counts as queued from the step boundary at which the engine takes note of it, as measured ones do."""
    queued: dict[str, int] = {}
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    coming = [(round(request.arrived_s * NS_PER_S), request) for request in requests]
    now = place = running_max = 0
    while place < len(coming) or engine.busy:
        if not engine.busy:
            now = max(now, coming[place][0])
        while place < len(coming) and coming[place][0] <= now:
            request = coming[place][1]
            engine.submit(
                EngineRequest(id=request.id, prompt_tokens=request.prompt_tokens, output_tokens=request.output_tokens), now
            )
            queued[request.id] = now
            place += 1
        now, events = engine.step(now)
        running_max = max(running_max, engine.running)
        for event in events:
            if event.kind == "first":
                first[event.id] = event.at
            elif event.kind == "finished":
                last[event.id] = event.at
    ids = [request.id for request in requests]
    gaps = [request.output_tokens - 1 for request in requests]
    return Times(
        ttft=[(first[i] - queued[i]) / NS_PER_S for i in ids],
        tpot=[(last[i] - first[i]) * 1_000 / NS_PER_S / n if n else None for i, n in zip(ids, gaps, strict=True)],
        e2e=[(last[i] - queued[i]) / NS_PER_S for i in ids],
        running_max=running_max,
        preemptions=engine.preemptions,
    )


def _measured(traces: Path, run: Run, requests: Sequence[Request]) -> Times:
    return Times(
        ttft=[request.ttft_s for request in requests],
        tpot=[request.tpot_ms for request in requests],
        e2e=[request.e2e_s for request in requests],
        running_max=max(second.running for second in load_vllm_seconds(traces, run.file)),
        preemptions=0,
    )


def _with_ranks(run: Run, requests: Sequence[Request], profile: Profile, exchange: Exchange) -> Times:
    step = RanksTable(profile, layers=QWEN_LAYERS, experts=QWEN_EXPERTS, exchange=exchange)
    return replay(requests, ParallelEngine(run.settings, step, QWEN_EXPERTS.ranks))


def _fit(run: Run, requests: Sequence[Request], measured: Times, profile: Profile, say: Callable[[str], None]) -> Exchange:
    """Least squares over the errors of all three metrics at p50, p90 and p99."""

    def miss(point: tuple[float, ...]) -> float:
        say(f"{FITTED}: fitting the exchange between ranks, {point[0]:.0f} us a layer, {point[1]:.3f} us a token")
        simulated = _with_ranks(run, requests, profile, Exchange(layer_us=point[0], token_us=point[1]))
        return sum(
            _error(_known(measured, metric), _known(simulated, metric), share) ** 2
            for metric in METRICS
            for share in (0.5, 0.9, 0.99)
        )

    layer_us, token_us = least(miss, EXCHANGE_US_MAX)
    return Exchange(layer_us=layer_us, token_us=token_us)


def _known(times: Times, metric: str) -> list[float]:
    values: list[float | None] = getattr(times, metric)
    return [value for value in values if value is not None]


def _error(measured: Sequence[float], simulated: Sequence[float], share: float) -> float:
    return abs(quantile(simulated, share) / quantile(measured, share) - 1)


def _figures(name: str, measured: Times, simulated: Times, how: str, draw: random.Random) -> dict[str, Figure]:
    figures: dict[str, Figure] = {}
    for metric in METRICS:
        truth, told = _known(measured, metric), _known(simulated, metric)
        unit = "ms" if metric == "tpot" else "s"
        for label, share in SHARES:
            low, high = _interval(truth, told, share, draw)
            figures[f"{name}.{metric}_{label}_error"] = Figure(
                value=_error(truth, told, share),
                unit="relative",
                n=len(truth),
                low=low,
                high=high,
                method=f"simulated {quantile(told, share):.4g} {unit} against measured {quantile(truth, share):.4g} {unit}; {how}",
            )
    n = len(measured.ttft)
    figures[f"{name}.max_running_error"] = Figure(
        value=abs(simulated.running_max - measured.running_max),
        unit="requests",
        n=n,
        method=f"simulated {simulated.running_max}, measured {measured.running_max}, sampled each second",
    )
    figures[f"{name}.preemptions"] = Figure(value=simulated.preemptions, unit="preemptions", n=n, method="simulated; not measured")
    figures[f"{name}.fitted"] = Figure(value=float(name == FITTED), unit="", n=n, method=how)
    return figures


def _interval(truth: Sequence[float], told: Sequence[float], share: float, draw: random.Random) -> tuple[float, float]:
    """95 % of the error over resampled requests, each with its measured and its simulated time."""
    errors = []
    for _ in range(RESAMPLES):
        picked = draw.choices(range(len(truth)), k=len(truth))
        errors.append(_error([truth[i] for i in picked], [told[i] for i in picked], share))
    return quantile(errors, 0.025), quantile(errors, 0.975)
