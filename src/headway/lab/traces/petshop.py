"""PetShop on AWS under high traffic: what real hops beside a model take, every five minutes (Amazon.com, "PetShop" root cause analysis dataset,
Hardt et al. 2024; CC-BY-4.0)."""

from pathlib import Path
from typing import Final

from headway.lab.traces.calls import quantile
from headway.lab.traces.parquet import columns

FILE: Final = "petshop_latency_high_traffic.parquet"
QUIET: Final = "high_traffic/noissue"


def load_petshop(folder: Path, statistic: str, *, scenario: str = QUIET) -> dict[str, float]:
    """By service, the median over its five-minute values of ``statistic`` (p50, p90, p95, p99), ms. TraceMissing, TraceError."""
    read = columns(folder / FILE, ("microservice", "statistic", "value", "scenario"))
    found: dict[str, list[float]] = {}
    for service, kind, value, where in zip(read["microservice"], read["statistic"], read["value"], read["scenario"], strict=True):
        if kind == statistic and where == scenario and value == value:
            found.setdefault(service, []).append(value * 1_000)
    return {service: quantile(values, 0.5) for service, values in found.items()}
