"""The figures ``fair.*``: our default policy against VTC in one lab, and that lab against the measured runs."""

from pathlib import Path
from typing import Final

from headway.kernel.figure import Figure
from headway.lab.fair.compare import ARMS, Compared, Comparison, Say, compare
from headway.lab.fair.workloads import SHORT_LONG, SIX
from headway.lab.traces.reading import traces_folder

SHOWN: Final = ("fcfs", "vtc", "ours")
GAP: Final = "largest difference of service (prompt + 2 x answer tokens) between two clients from 60 s on, those counted that ask for less than their share"


def figures(seed: int, data: Path | str | None = None, progress: Say = lambda _: None) -> dict[str, Figure]:
    """``data`` holds ``traces/``; None: $HEADWAY_DATA, else beside the checkout. TraceMissing names the variable to set."""
    return told(compare(traces_folder(data), seed, say=progress))


def told(comparison: Comparison) -> dict[str, Figure]:
    found: dict[str, Figure] = {}
    six = [compared for compared in comparison.compared if compared.workload in SIX]
    for compared in comparison.compared:
        name = f"fair.{compared.workload.name}"
        if compared in six:
            found[f"{name}.light_ttft_p99_over_vtc"] = _over_vtc(compared, "light")
            found[f"{name}.heavy_ttft_p99_over_vtc"] = _over_vtc(compared, "heavy")
            found[f"{name}.vtc_over_fcfs_error"] = _error(compared, comparison)
            found[f"{name}.light_ttft_p99_over_published_vtc"] = _over_published(compared)
            found[f"{name}.tokens_per_s_over_fcfs"] = _throughput(compared)
        for arm in SHOWN:
            found |= {f"{name}.{arm}_{what}": figure for what, figure in _absolute(compared, arm).items()}
    found["fair.ranking_matches"] = _ranking(six)
    return found


def ratio_errors(compared: Compared) -> list[float]:
    """VTC's p99 over first come first served for the light tenant: simulated over measured, less 1. The exact replay first."""
    measured = compared.measured["vtc"].light_p99_s / compared.measured["fcfs"].light_p99_s
    return [ratio / measured - 1.0 for ratio in compared.ratios("vtc", "fcfs", "light_p99_s")]


def same_ranking(compared: Compared) -> bool:
    """Which of the two serves the light tenant better is told as it was measured."""
    measured = compared.measured["vtc"].light_p99_s < compared.measured["fcfs"].light_p99_s
    return measured == (compared.exact("vtc").light_p99_s < compared.exact("fcfs").light_p99_s)


def _replays(compared: Compared) -> str:
    """How often it was replayed."""
    count = len(compared.simulated["ours"]) - 1
    if not count:
        return "one exact replay of the file, without chance"
    return (
        f"the exact replay of the file, which no seed changes; low and high are over {count} more in which sends come up to 20 ms late and steps take "
        "0.3 % more or less, drawn from the seed"
    )


def _over_vtc(compared: Compared, side: str) -> Figure:
    ratios = compared.ratios("ours", "vtc", f"{side}_p99_s")
    who = compared.workload.light if side == "light" else compared.workload.heavy
    return Figure(
        value=max(ratios),
        unit="ratio",
        n=compared.light_requests if side == "light" else compared.heavy_requests,
        low=min(ratios),
        high=max(ratios),
        method=f"p99 of time to first token of {who}: policy lanes over policy fair, the worst of all replays: {_replays(compared)}. "
        "No prompt is long and no call belongs to a run here: then lanes decides as fair does",
    )


def _over_published(compared: Compared) -> Figure:
    ratios = compared.ratios("ours", "published_vtc", "light_p99_s")
    return Figure(
        value=ratios[0],
        unit="ratio",
        n=compared.light_requests,
        low=min(ratios),
        high=max(ratios),
        method=f"p99 of time to first token of {compared.workload.light}: policy lanes, which charges an estimate when a call is sent, over VTC "
        f"as its paper has it, which charges tokens as they come; {_replays(compared)}",
    )


def _error(compared: Compared, comparison: Comparison) -> Figure:
    errors = [abs(error) for error in ratio_errors(compared)]
    simulated = compared.ratios("vtc", "fcfs", "light_p99_s")[0]
    fcfs, vtc = compared.measured["fcfs"].light_p99_s, compared.measured["vtc"].light_p99_s
    return Figure(
        value=errors[0],
        unit="ratio",
        n=compared.light_requests,
        low=min(errors),
        high=max(errors),
        method=f"p99 of time to first token of {compared.workload.light}, policy fair over fcfs: simulated {simulated:.4f} against measured "
        f"{vtc / fcfs:.4f} ({vtc:.2f} of {fcfs:.2f} s). {_replays(compared)}. Step times {comparison.time.source}; runs under VTC were not used",
    )


def _throughput(compared: Compared) -> Figure:
    ratios = compared.ratios("ours", "fcfs", "tokens_per_s")
    return Figure(
        value=min(ratios),
        unit="ratio",
        n=compared.requests,
        low=min(ratios),
        high=max(ratios),
        method="prompt and answer tokens over makespan, policy lanes over fcfs, the worst of all replays",
    )


def _absolute(compared: Compared, arm: str) -> dict[str, Figure]:
    """Values themselves, beside what was measured, so that a ratio hides nothing."""
    workload = compared.workload
    light, heavy = ("long", "short") if workload == SHORT_LONG else ("light", "heavy")
    return {
        f"{light}_ttft_p50_s": _value(compared, arm, "light_p50_s", workload.light, compared.light_requests),
        f"{light}_ttft_p99_s": _value(compared, arm, "light_p99_s", workload.light, compared.light_requests),
        f"{heavy}_ttft_p50_s": _value(compared, arm, "heavy_p50_s", workload.heavy, compared.heavy_requests),
        f"{heavy}_ttft_p99_s": _value(compared, arm, "heavy_p99_s", workload.heavy, compared.heavy_requests),
        "service_gap": _value(compared, arm, "service_gap", GAP, compared.requests, "virtual tokens"),
        "tokens_per_s": _value(
            compared, arm, "tokens_per_s", "prompt and answer tokens over makespan", compared.requests, "tokens/s"
        ),
    }


def _value(compared: Compared, arm: str, field: str, what: str, n: int, unit: str = "s") -> Figure:
    values = compared.disturbed(arm, field)
    measured = compared.measured.get(arm)
    return Figure(
        value=values[0],
        unit=unit,
        n=n,
        low=min(values),
        high=max(values),
        method=f"{what}; policy {ARMS[arm]}, {_replays(compared)}"
        + ("" if measured is None else f"; measured {getattr(measured, field):,.2f}"),
    )


def _ranking(six: list[Compared]) -> Figure:
    right = [compared.workload.name for compared in six if same_ranking(compared)]
    wrong = [compared.workload.name for compared in six if not same_ranking(compared)]
    return Figure(
        value=float(len(right)),
        unit="workloads",
        n=len(six),
        method="workloads in which the light tenant's p99 orders first come first served and VTC as it was measured"
        + (f"; not in {', '.join(wrong)}" if wrong else ""),
    )
