"""``headway prove hops``: on every shared trace exclusive times sum to the root, tails are told by hop, the slow process is found, and Headway's own hop
is what a caller measures from outside.

The quiet control is the normal window cut in two at random, several times: no hop may stand out between the halves.
"""

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

from headway.calls.hops.clean import Cleaned, clean
from headway.calls.hops.critical_path import walk
from headway.calls.hops.model import HopTrace
from headway.calls.hops.report_compare import compare
from headway.calls.hops.report_whatif import Stage
from headway.calls.hops.times import TraceTimes, all_times
from headway.calls.hops.types import type_by_calls
from headway.kernel.figure import Figure, Proof
from headway.lab.traces.jaeger import load_agent, load_cases
from headway.lab.traces.nezha import App, Place, load_faults, load_nezha
from headway.lab.traces.ops import ops_folder
from headway.lab.traces.petshop import load_petshop
from headway.lab.traces.reading import TraceError, TraceMissing
from headway.prove import hops_own
from headway.prove.hops_anchors import Times, halved, of_type
from headway.prove.hops_nezha import Tried, tried
from headway.prove.hops_nezha import figures as nezha_figures
from headway.prove.report import NotMeasurable, Wanted

Say = Callable[[str], None]
QUIET_HALVES: Final = 5
PETSHOP: Final = MappingProxyType({"sts": "STS_AWS::STS", "feature_flags": "Evidently_AWS::Evidently", "ssm": "SSM_AWS::SSM"})
WANTED: Final[Mapping[str, Wanted]] = MappingProxyType(
    {
        "sum_error_us": Wanted(at_most=0),
        "trainticket.p50_ms": Wanted(at_least=161.5, at_most=162.5),
        "trainticket.p99_ms": Wanted(at_least=1285.5, at_most=1286.5),
        "boutique.p50_ms": Wanted(at_least=212.5, at_most=213.5),
        "boutique.p99_ms": Wanted(at_least=5010.5, at_most=5011.5),
        "trainticket.tail99.auth_share": Wanted(at_most=0.01),
        "trainticket.tail99.order_share": Wanted(at_least=0.35, at_most=0.37),
        "trainticket.tail99.seat_share": Wanted(at_least=0.29, at_most=0.31),
        "boutique.tail95.recommendation_share": Wanted(at_least=0.18, at_most=0.20),
        "nezha.ours_over_best_baseline": Wanted(at_least=1),
        **hops_own.WANTED,
    }
)


class _App:
    """One application's traces, cleaned and walked."""

    __slots__ = ("cleaned", "places", "rows", "tried")

    def __init__(self, folder: Path, app: App) -> None:
        spans, self.places = load_nezha(folder, app)
        self.cleaned: Cleaned = clean(spans, type_of=type_by_calls)
        self.rows: list[TraceTimes] = all_times(self.cleaned.traces)
        self.tried: list[Tried] = tried(
            self.cleaned.traces, self.places, [fault for fault in load_faults(folder) if fault.app == app]
        )

    @property
    def normal(self) -> list[TraceTimes]:
        return [row for row in self.rows if self._place(row).normal]

    def _place(self, row: TraceTimes) -> Place:
        return self.places[row.trace]


def prove(seed: int, *, data: str | None, say: Say) -> Proof:
    """NotMeasurable where the shared traces are not there or cannot be read, and where the product cannot be started."""
    began = time.monotonic()
    found, alarms = _on_traces(seed, data, say)
    found |= hops_own.measure(say)
    return Proof(
        pillar="hops",
        engine="lab",
        seed=seed,
        figures={name: found[name] for name in [*WANTED, *(name for name in found if name not in WANTED)]},
        control_alarms=alarms,
        took_s=round(time.monotonic() - began, 1),
    )


def _on_traces(seed: int, data: str | None, say: Say) -> tuple[dict[str, Figure], int]:
    folder = ops_folder(data)
    try:
        say("Train Ticket")
        train = _App(folder, "trainticket")
        say("Online Boutique")
        boutique = _App(folder, "onlineboutique")
        cases = load_cases(folder)
        small = [clean(case.spans, skew_us_max=0) for case in cases]
        agent = clean(load_agent(folder))
        petshop = load_petshop(folder, "p50")
    except (TraceMissing, TraceError) as error:
        raise NotMeasurable(str(error), "point HEADWAY_DATA or --data at the folder that holds ops/traces/") from None
    say("sums, tails, faults")
    found = _sums([train.cleaned, boutique.cleaned, *small, agent])
    found |= _tails(train.rows, boutique.rows)
    found |= nezha_figures([*boutique.tried, *train.tried])
    say("what halving a hop would change")
    found |= _beside(train.cleaned.traces, train.rows)
    found |= {
        f"petshop.{name}_p50_ms": Figure(
            value=petshop[service], unit="ms", n=1, method="median of five-minute p50s, scenario without an issue"
        )
        for name, service in PETSHOP.items()
    }
    agree = sum(
        1
        for case, cleaned in zip(cases, small, strict=True)
        if all_times(cleaned.traces)[0].by_hop == {hop: us for hop, us in case.expected.items() if us}
    )
    told = "cases whose exclusive times equal CRISP's own; the others overlap by a rounding, which CRISP counts twice and we once"
    found["crisp.cases_equal"] = Figure(value=agree, unit="cases", n=len(cases), method=told)
    return found, _alarms(boutique.normal, seed) + _alarms(train.normal, seed)


def _sums(all_cleaned: Iterable[Cleaned]) -> dict[str, Figure]:
    spans = traces = error = loose = 0
    repairs: dict[str, int] = {}
    for cleaned in all_cleaned:
        spans += cleaned.spans_in
        traces += len(cleaned.traces)
        for repair in cleaned.repairs:
            repairs[repair.reason] = repairs.get(repair.reason, 0) + repair.count
        for trace in cleaned.traces:
            off, apart = _off(trace)
            error += off
            loose += apart
    method = "sum over all shared traces of |sum of exclusive times - root duration|"
    mended = ", ".join(f"{reason} {count:,}" for reason, count in sorted(repairs.items()))
    return {
        "sum_error_us": Figure(value=error, unit="us", n=traces, method=method),
        "parts_apart": Figure(value=loose, unit="parts", n=traces, method="parts of a path that do not touch the one before"),
        "spans": Figure(value=spans, unit="spans", n=traces, method=f"cleaned and walked; repairs: {mended}"),
    }


def _off(trace: HopTrace) -> tuple[int, int]:
    """Microseconds that the sum is off, and parts that do not touch."""
    parts = walk(trace)
    at, apart = trace.spans[0].start_us, 0
    for part in parts:
        apart += part.start_us != at
        at = part.start_us + part.duration_us
    return abs(sum(part.duration_us for part in parts) - trace.duration_us), apart


def _tails(train: Sequence[TraceTimes], boutique: Sequence[TraceTimes]) -> dict[str, Figure]:
    found: dict[str, Figure] = {}
    tickets, shop = Times(train), Times(boutique)
    for name, times in (("trainticket", tickets), ("boutique", shop)):
        found |= {f"{name}.p50_ms": times.quantile_ms(0.5), f"{name}.p99_ms": times.quantile_ms(0.99)}
    for hop in ("auth", "order", "seat"):
        service = f"ts-{hop}-service"
        found[f"trainticket.tail99.{hop}_share"] = tickets.tail_share(service, 0.99)
        found[f"trainticket.middle.{hop}_share"] = tickets.middle_share(service)
        found[f"trainticket.median.{hop}_share"] = tickets.at_share(service, 0.5, tickets.n // 10)
    found["boutique.tail95.recommendation_share"] = shop.tail_share("recommendationservice", 0.95)
    found["boutique.tail99.recommendation_share"] = shop.tail_share("recommendationservice", 0.99)
    return found


def _beside(traces: Sequence[HopTrace], rows: Sequence[TraceTimes]) -> dict[str, Figure]:
    """The other figures of the anchors: halving auth and order, order within preserve, basic within trips-left of travel2."""
    found: dict[str, Figure] = {}
    stage = Stage(traces)
    for hop in ("auth", "order"):
        p50, p99 = halved(stage, f"ts-{hop}-service")
        found |= {f"trainticket.{hop}_halved.p50_saved_ms": p50, f"trainticket.{hop}_halved.p99_saved_ms": p99}
    times = {row.trace: row for row in rows}
    for name, word, hop in (
        ("preserve", "/api/v1/preserveservice/preserve", "order"),
        ("trips_left2", "/api/v1/travel2service/trips/left", "basic"),
    ):
        within = Times((times[trace.trace] for trace in of_type(traces, word)), "within one request type")
        service = f"ts-{hop}-service"
        found[f"trainticket.{name}.middle.{hop}_share"] = within.middle_share(service)
        found[f"trainticket.{name}.tail95.{hop}_share"] = within.tail_share(service, 0.95)
        found[f"trainticket.{name}.tail99.{hop}_share"] = within.tail_share(service, 0.99)
    return found


def _alarms(normal: list[TraceTimes], seed: int) -> int:
    """Hops that stand out between halves of the normal window: by chance alone, one in twenty halvings has any."""
    draw = random.Random(f"hops:{seed}")
    loud = 0
    for number in range(QUIET_HALVES):
        rows = draw.sample(normal, len(normal))
        half = len(rows) // 2
        found = compare(rows[:half], rows[half:], seed=draw.randrange(1 << 30) + number)
        loud += any(change.stands for change in found.hops)
    return int(loud > QUIET_HALVES // 2)
