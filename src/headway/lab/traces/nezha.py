"""Nezha: traces of Online Boutique and Train Ticket with faults put in at known pods and times (Yu et al., ESEC/FSE 2023; MIT).

789,336 spans, 14,717 traces. Clocks are those of three machines: children outlive parents by milliseconds, some calls are given up on.
"""

from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

import msgspec

from headway.calls.hops.model import HopSpan
from headway.lab.traces.parquet import columns
from headway.lab.traces.reading import table

App = Literal["onlineboutique", "trainticket"]
FILES: Final = MappingProxyType(
    {"onlineboutique": "nezha_onlineboutique_2022-08-23.parquet", "trainticket": "nezha_trainticket_2023-01-29.parquet"}
)
FAULTS: Final = "nezha_fault_list.csv"
COLUMNS: Final = ("trace", "span", "parent", "service", "operation", "start_us", "dur_us", "window", "phase")
LATENCY_FAULTS: Final = frozenset({"cpu_contention", "cpu_consumed", "network_delay"})


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """``service`` is the pod's; ``at_us`` since 1970."""

    app: str
    service: str
    kind: str
    at_us: int

    @property
    def slows(self) -> bool:
        """Against faults that change what is answered."""
        return self.kind in LATENCY_FAULTS


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Which part of the experiment a trace is of: minute ``window`` (HH:MM), within or outside of faults."""

    window: str
    normal: bool


def load_nezha(folder: Path, app: App) -> tuple[list[HopSpan], dict[str, Place]]:
    """All spans, and by trace where it belongs. TraceMissing, TraceError."""
    read = columns(folder / FILES[app], COLUMNS)
    spans = [
        HopSpan(
            trace=f"{app}/{trace}",
            span=str(span),
            parent="" if parent < 0 else str(parent),
            hop=service,
            name=operation,
            start_us=start,
            duration_us=duration,
        )
        for trace, span, parent, service, operation, start, duration in zip(
            *(read[name] for name in ("trace", "span", "parent", "service", "operation", "start_us", "dur_us")), strict=True
        )
    ]
    places: dict[str, Place] = {}
    known: dict[tuple[str, str], Place] = {}
    for trace, window, phase in zip(read["trace"], read["window"], read["phase"], strict=True):
        name = f"{app}/{trace}"
        if name not in places:
            places[name] = known.setdefault((window, phase), Place(window=window, normal=phase == "normal"))
    return spans, places


def load_faults(folder: Path) -> list[Fault]:
    """In the file's order. TraceMissing, TraceError."""
    return [
        Fault(
            app=row.text("app"),
            service=service_of(row.text("inject_pod")),
            kind=row.text("inject_type"),
            at_us=row.whole("inject_timestamp") * 1_000_000,
        )
        for row in table(folder / FAULTS, ("app", "inject_timestamp", "inject_pod", "inject_type"))
    ]


def service_of(pod: str) -> str:
    """A pod's name without its replica set and its own suffix."""
    return pod.rsplit("-", 2)[0]
