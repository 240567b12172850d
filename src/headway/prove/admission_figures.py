"""Figures of admission in the lab, from one sample a seed. Names are those by which they are checked."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from headway.kernel.figure import Figure
from headway.prove.admission_worlds import FLAGS, STALLS_MS, Sample

WINDOW: Final = "small requests that arrive within 10 s after five giants of 28,000 tokens"
MS, TOKENS_PER_S, RATIO, SHARE = "ms", "tok/s", "ratio", "share"

Samples = Sequence[Sample]
Value = Callable[[Sample], float]


def figures(samples: Mapping[str, Samples]) -> dict[str, Figure]:
    """``samples`` by kind of world; kinds that were not measured give no figures."""
    out: dict[str, Figure] = {}
    if giants := samples.get("giants"):
        out |= _ratios(giants) | _arms(giants) | _curve(giants)
    if flood := samples.get("flood"):
        out |= _flood(flood)
    if hosted := samples.get("hosted"):
        out |= _hosted(hosted)
    return out


def worst(samples: Samples, value: Value, unit: str, method: str, *, high: bool = True) -> Figure:
    """The worst seed's value (the highest, or the lowest), beside low and high over seeds."""
    values = [value(sample) for sample in samples]
    seeds = f"worst of {len(values)} seeds"
    return Figure(
        value=max(values) if high else min(values),
        unit=unit,
        n=len(values),
        method=f"{method}; {seeds}",
        low=min(values),
        high=max(values),
    )


def _of(name: str) -> Value:
    return lambda sample: sample[name]


def _over(above: str, below: str) -> Value:
    return lambda sample: sample[above] / sample[below]


def _ratios(samples: Samples) -> dict[str, Figure]:
    five = "five_giants"
    out = {
        f"{five}.headway_flag_over_fifo_flag.small_ttft_p99": worst(
            samples, _over(f"{five}.headway_flag.small_ttft_p99", f"{five}.fifo_flag_512.small_ttft_p99"), RATIO, WINDOW
        ),
        f"{five}.headway_flag_over_fifo_flag_best.small_ttft_p99": worst(
            samples, _over_best_flag, RATIO, f"{WINDOW}; against the engine's best threshold of {', '.join(map(str, FLAGS))}"
        ),
        f"{five}.headway_over_fifo.small_ttft_p99": worst(
            samples, _over(f"{five}.headway.small_ttft_p99", f"{five}.fifo.small_ttft_p99"), RATIO, WINDOW
        ),
        f"{five}.headway_over_alone.small_ttft_p99": worst(
            samples, _over(f"{five}.headway.small_ttft_p99", f"{five}.alone.small_ttft_p99"), RATIO, WINDOW
        ),
        f"{five}.headway_over_fifo.giant_ttft": worst(
            samples, _over(f"{five}.headway.giant_ttft", f"{five}.fifo.giant_ttft"), RATIO, "first token of the last giant"
        ),
    }
    for world in ("five_giants", "one_giant", "no_giant"):
        name = f"{world}.headway_over_fifo.tokens_per_s"
        value = _over(f"{world}.headway.tokens_per_s", f"{world}.fifo.tokens_per_s")
        out[name] = worst(samples, value, RATIO, "clients' tokens once, over makespan", high=False)
    one = "one_giant.headway_over_fifo"
    small = _over("one_giant.headway.small_ttft_p95", "one_giant.fifo.small_ttft_p95")
    out[f"{one}.small_ttft_p95"] = worst(samples, small, RATIO, "small requests within 2 s after one giant")
    giant = _over("one_giant.headway.giant_ttft", "one_giant.fifo.giant_ttft")
    out[f"{one}.giant_ttft"] = worst(samples, giant, RATIO, "first token of the giant")
    return out


def _over_best_flag(sample: Sample) -> float:
    best = min(sample[f"five_giants.fifo_flag_{flag}.small_ttft_p99"] for flag in FLAGS)
    return sample["five_giants.headway_flag.small_ttft_p99"] / best


ARM_NUMBERS: Final = (
    ("small_ttft_p50", MS, True),
    ("small_ttft_p99", MS, True),
    ("small_gap_max", MS, True),
    ("giant_ttft", MS, True),
    ("tokens_per_s", TOKENS_PER_S, False),
    ("not_done", "calls", True),
)


def _arms(samples: Samples) -> dict[str, Figure]:
    """What each arm did, absolute."""
    out: dict[str, Figure] = {}
    for world in ("no_giant", "one_giant", "five_giants"):
        for arm in ("alone", "fifo", "fifo_flag_512", "headway", "headway_flag"):
            out |= _absolute(samples, f"{world}.{arm}", f"{world}.{arm}")
            stalled = f"{world}.{arm}.small_stalled_by_giant"
            if stalled in samples[0]:
                method = "step time of giants' prefill chunks, summed over small requests in the engine; exact"
                out[stalled] = worst(samples, _of(stalled), MS, method)
    return out


def _absolute(
    samples: Samples, source: str, target: str, numbers: Iterable[tuple[str, str, bool]] = ARM_NUMBERS
) -> dict[str, Figure]:
    return {
        f"{target}.{name}": worst(samples, _of(f"{source}.{name}"), unit, _method(name), high=high)
        for name, unit, high in numbers
        if f"{source}.{name}" in samples[0]
    }


def _method(name: str) -> str:
    if name == "giant_ttft":
        return "first token of the last giant"
    return "clients' tokens once, over makespan" if name == "tokens_per_s" else "small requests judged"


def _curve(samples: Samples) -> dict[str, Figure]:
    """The trade, point by point: of the engine's threshold alone, of ours with it, and of ours without any."""
    points = [(f"fifo_flag_{flag}", f"fifo_flag_{flag}") for flag in FLAGS]
    points += [(f"headway_flag_{flag}", f"headway_flag_{flag}") for flag in FLAGS if flag != 256]
    points += [("headway_flag_256", "headway_flag"), ("stall_250ms", "headway")]
    points += [(f"stall_{ms:g}ms", f"headway_stall_{ms:g}ms") for ms in STALLS_MS]
    numbers = [number for number in ARM_NUMBERS if number[0] in ("small_ttft_p99", "giant_ttft", "tokens_per_s")]
    out: dict[str, Figure] = {}
    for name, arm in points:
        out |= _absolute(samples, f"five_giants.{arm}", f"five_giants.curve.{name}", numbers)
    return out


def _flood(samples: Samples) -> dict[str, Figure]:
    came = sum(sample["flood.came"] for sample in samples)
    told = f"tries that came at their Retry-After and were let in within their deadline; {came:.0f} tries"
    plain: list[tuple[str, str, str, bool]] = [
        ("retry_after_admitted", SHARE, told, False),
        ("lost", "calls", "calls without an end, or missing from submitted = done + queued + running + refused + evicted", True),
        ("refused_first", "calls", "calls of the flood refused at their first try", True),
        ("late", "calls", "calls of the flood that were let wait and whose deadline came first", True),
        ("chat_ttft_p99", MS, "tenants that do not flood", True),
        ("fifo.chat_ttft_p99", MS, "tenants that do not flood, without us", False),
        ("chat_refused", "calls", "tenants that do not flood", True),
    ]
    out = {f"flood.{name}": worst(samples, _of(f"flood.{name}"), unit, method, high=high) for name, unit, method, high in plain}
    longer = _over("flood.makespan", "flood.fifo.makespan")
    out["flood.makespan_over_fifo"] = worst(
        samples, longer, RATIO, "until the last call is done: what being told to come later costs"
    )
    return out


def _hosted(samples: Samples) -> dict[str, Figure]:
    plain: list[tuple[str, str, str, bool]] = [
        ("others_429", "calls", "429s of the provider or of ours that tenants within their share saw", True),
        ("cap_used", SHARE, "of the tighter quota, once what was saved up is spent, to the end of the load", False),
        ("provider_429", "calls", "429s of the provider to anybody", True),
        ("others_ttft_p99", MS, "tenants within their share", True),
        ("fifo.others_429", "calls", "without us", False),
        ("fifo.cap_used", SHARE, "without us", True),
    ]
    return {
        f"hosted_cap.{name}": worst(samples, _of(f"hosted_cap.{name}"), unit, method, high=high)
        for name, unit, method, high in plain
    }
