"""The comparison as rows of text: simulated, with what was measured in brackets."""

from typing import Final

from headway.lab.fair.compare import Compared, Comparison
from headway.lab.fair.figures import ratio_errors, same_ranking
from headway.lab.fair.workloads import SIX

HEAD: Final = ("workload", "order", "light p99 s", "heavy p99 s", "service gap", "tokens/s")
ORDERS: Final = (("fcfs", "fcfs"), ("vtc", "fair"), ("ours", "lanes"), ("published_vtc", "vtc, paper"))
RATIO_HEAD: Final = ("workload", "vtc / fcfs", "measured", "error", "order", "lanes / fair, light", "heavy")


def rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """One for each workload and order, by ``HEAD``."""
    found: list[tuple[str, ...]] = []
    for compared in comparison.compared:
        for arm, shown in ORDERS:
            name = compared.workload.name if arm == "fcfs" else ""
            cells = [_cell(compared, arm, field) for field in ("light_p99_s", "heavy_p99_s", "service_gap", "tokens_per_s")]
            found.append((name, shown, *cells))
    return found


def ratio_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """One for each of the six, by ``RATIO_HEAD``: the light tenant's p99."""
    found: list[tuple[str, ...]] = []
    for compared in comparison.compared:
        if compared.workload not in SIX:
            continue
        measured = compared.measured["vtc"].light_p99_s / compared.measured["fcfs"].light_p99_s
        found.append(
            (
                compared.workload.name,
                f"{compared.ratios('vtc', 'fcfs', 'light_p99_s')[0]:.4f}",
                f"{measured:.4f}",
                f"{ratio_errors(compared)[0]:+.1%}",
                "same" if same_ranking(compared) else "OTHER",
                f"{max(compared.ratios('ours', 'vtc', 'light_p99_s')):.3f}",
                f"{max(compared.ratios('ours', 'vtc', 'heavy_p99_s')):.3f}",
            )
        )
    return found


def notes(comparison: Comparison) -> list[str]:
    """What was fitted and who is who."""
    time = comparison.time
    lines = [
        f"A decode step takes {time.decode_ms:.2f} ms + {1000 * time.context_ms:.3f} ms a thousand tokens of context; a prefill "
        f"{time.prefill_ms:.2f} ms + {time.token_ms:.4f} ms a token, past 256 tokens {time.further_token_ms:.4f} ms.",
        f"{time.source[:1].upper()}{time.source[1:]}; relative error {time.rms_error:.2%} (rms).",
    ]
    for compared in comparison.compared:
        workload = compared.workload
        lines.append(f"{workload.name}: light is {workload.light}; heavy is {workload.heavy}.")
    return lines


def _cell(compared: Compared, arm: str, field: str) -> str:
    simulated = compared.disturbed(arm, field)[0]
    measured = compared.measured.get(arm)
    return _number(simulated) if measured is None else f"{_number(simulated)} ({_number(getattr(measured, field))})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 20 else f"{value:.2f}"
