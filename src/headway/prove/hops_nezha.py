"""Which process was slow? Against faults put in at known pods: ours beside what a board of span durations would name.

A fault's window is ``FAULT_US`` from its injection, normal is the experiment's own normal window, request types are told by what the root
called. A fault counts where a type with at least ``TYPE_TRACES_MIN`` traces in the window calls the faulty service; the same traces go to all
all methods. Labels are read only to score. Baselines see each service's span durations: the largest p99 in the window, the largest rise of p99;
because a root's spans hold all others, each is told with the root's service left out as well.
"""

from collections.abc import Mapping, Sequence

import msgspec

from headway.calls.hops.links import LinkTimes, link_times
from headway.calls.hops.model import HopTrace
from headway.calls.hops.suspects import suspects
from headway.kernel.figure import Figure
from headway.lab.traces.nezha import Fault, Place
from headway.stats.quantile import quantile

FAULT_US = 180 * 1_000_000
TYPE_TRACES_MIN = 50
NAMES = ("ours", "largest_p99_change", "largest_duration", "largest_p99_change_below_root", "largest_duration_below_root")


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """One fault: what each method named first, nothing where it cannot tell. ``counts``: it is among those that are scored."""

    fault: Fault
    traces: int
    counts: bool
    named: dict[str, str]


def tried(traces: Sequence[HopTrace], places: Mapping[str, Place], faults: Sequence[Fault]) -> list[Tried]:
    """Latency faults of one application whose window holds any trace."""
    links = {trace.trace: link_times(trace) for trace in traces}
    normal = [trace for trace in traces if places[trace.trace].normal]
    found = []
    for fault in faults:
        window = [
            trace
            for trace in traces
            if not places[trace.trace].normal and fault.at_us <= trace.spans[0].start_us < fault.at_us + FAULT_US
        ]
        if fault.slows and window:
            found.append(_tried(fault, normal, window, links))
    return found


def figures(all_tried: Sequence[Tried]) -> dict[str, Figure]:
    """``nezha.METHOD.top1`` of the faults that count, and of all of them."""
    found: dict[str, Figure] = {}
    counted = [each for each in all_tried if each.counts]
    right = {name: _right(counted, name) for name in NAMES}
    for name in NAMES:
        missed = [f"{each.fault.service} {each.fault.kind}" for each in counted if each.named.get(name) != each.fault.service]
        told = f"{right[name]} of {len(counted)} latency faults whose request type has >= {TYPE_TRACES_MIN} traces in the window"
        if name == "ours" and missed:
            told += f"; missed: {', '.join(missed)}"
        found[f"nezha.{name}.top1"] = Figure(value=right[name], unit="faults", n=len(counted), method=told)
    best = max(right[name] for name in NAMES[1:])
    found["nezha.ours_over_best_baseline"] = Figure(
        value=right["ours"] - best, unit="faults", n=len(counted), method="top1 of ours less that of the best baseline"
    )
    for name in NAMES:
        value = _right(all_tried, name)
        told = f"{value} of all {len(all_tried)} latency faults with any trace in their window, however few"
        found[f"nezha.{name}.top1_all"] = Figure(value=value, unit="faults", n=len(all_tried), method=told)
    return found


def _right(all_tried: Sequence[Tried], name: str) -> int:
    return sum(1 for each in all_tried if each.named.get(name) == each.fault.service)


def _tried(fault: Fault, normal: list[HopTrace], window: list[HopTrace], links: Mapping[str, LinkTimes]) -> Tried:
    later = [links[trace.trace] for trace in window]
    ranked = suspects([links[trace.trace] for trace in normal], later)
    before, after = _p99_ms(normal), _p99_ms(window)
    risen = {hop: after[hop] - before[hop] for hop in after if hop in before}
    root = window[0].spans[0].hop
    below = {"largest_p99_change_below_root": _without(risen, root), "largest_duration_below_root": _without(after, root)}
    measures = {"largest_p99_change": risen, "largest_duration": after, **below}
    named = {name: max(by_hop, key=lambda hop: (by_hop[hop], hop)) for name, by_hop in measures.items() if by_hop}
    if ranked and ranked[0].added_ms > 0:
        named["ours"] = ranked[0].hop
    return Tried(fault=fault, traces=len(window), counts=_counts(fault.service, later), named=named)


def _without(by_hop: dict[str, float], root: str) -> dict[str, float]:
    return {hop: value for hop, value in by_hop.items() if hop != root}


def _counts(service: str, window: Sequence[LinkTimes]) -> bool:
    sizes: dict[str, int] = {}
    calling: set[str] = set()
    for row in window:
        sizes[row.request_type] = sizes.get(row.request_type, 0) + 1
        if any(service in link for link in row.calls):
            calling.add(row.request_type)
    return any(sizes[kind] >= TYPE_TRACES_MIN for kind in calling)


def _p99_ms(traces: Sequence[HopTrace]) -> dict[str, float]:
    """Of the durations of each service's spans."""
    durations: dict[str, list[float]] = {}
    for trace in traces:
        for span in trace.spans:
            durations.setdefault(span.hop, []).append(span.duration_us / 1_000)
    return {hop: quantile(values, 0.99) for hop, values in durations.items()}
