"""Traces in, what the page "Where the time goes" shows out. The figures are those of ``calls.hops.report_summary``, as the command line prints them."""

from collections.abc import Iterable, Sequence

import msgspec

from headway.calls.hops.clean import Cleaned
from headway.calls.hops.mix import Split, TypeShare
from headway.calls.hops.model import HopTrace, Repair
from headway.calls.hops.report import Attribution, rows_of
from headway.calls.hops.report_summary import HopsSummary, StratumSummary, summarise
from headway.calls.hops.report_whatif import Answer, Stage
from headway.calls.hops.times import TraceTimes
from headway.calls.hops.whatif import WhatIf
from headway.kernel.figure import Figure

TAIL = 0.99
TYPES_SHOWN, SLOWEST_SHOWN = 30, 5
RESAMPLES_LISTED = 60
"""For intervals in the list of types; the one that is shown has the full number."""
HIT, MISS, UNKNOWN = "hit", "miss", "unknown"
_US_PER_MS = 1_000


class Read(msgspec.Struct, frozen=True, kw_only=True):
    """Traces of a range as they were read at ``at_wall_ms``; ``left_out`` older ones were too many."""

    at_wall_ms: int
    cleaned: Cleaned
    left_out: int


class Labels(msgspec.Struct, frozen=True, kw_only=True):
    """What traces are narrowed to; empty is all."""

    tenant: str = ""
    cache: str = ""
    """hit, miss or unknown: whether a model's call read anything from a cache."""
    band: str = ""
    """Of the largest prompt in the trace."""

    def holds(self, trace: HopTrace) -> bool:
        return (
            self.tenant in ("", trace.tenant)
            and self.band in ("", trace.prompt_band)
            and self.cache in ("", cache_word(trace.cache_hit))
        )


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """One request type, and what of it. ``what`` is a question besides those that are always asked."""

    request_type: str = ""
    labels: Labels = Labels()
    what: WhatIf | None = None


class TypeRow(msgspec.Struct, frozen=True, kw_only=True):
    """One request type in the list. ``largest`` owns most of the p99."""

    request_type: str
    n: int
    p50: Figure
    p99: Figure
    without_model_p99: Figure
    largest: str
    largest_share: float | None


class Mix(msgspec.Struct, frozen=True, kw_only=True):
    """All types pooled, taken apart: what the tail has more than the middle because it is of other requests, and because the same ones take longer.
    ``mix_ms + within_ms = excess_ms``; types by how much more of the tail they are."""

    n: int
    p99: Figure
    excess_ms: float
    mix_ms: float
    within_ms: float
    hops: tuple[Split, ...]
    types: tuple[TypeShare, ...]


class TimeReport(msgspec.Struct, frozen=True, kw_only=True):
    """A range."""

    at_wall_ms: int
    traces: int
    spans: int
    left_out: int
    types: tuple[TypeRow, ...]
    types_left_out: int
    mix: Mix | None
    """None where there is one type only."""
    repairs: tuple[Repair, ...]
    refused: int
    tenants: tuple[str, ...]
    bands: tuple[str, ...]
    caches: tuple[str, ...]


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """One trace to look at, and why this one."""

    trace: str
    why: str
    start_wall_ms: int
    duration_ms: float
    spans: int
    tenant: str
    largest: str
    largest_ms: float


class TypeReport(msgspec.Struct, frozen=True, kw_only=True):
    """One request type in full. ``summary.model_gone`` is the answer to "model = 0 ms", None where no span is a call of a model."""

    request_type: str
    n: int
    model_hops: tuple[str, ...]
    summary: StratumSummary
    examples: tuple[Example, ...]
    asked: Answer | None = None
    """The answer to ``Wanted.what``."""

    @property
    def middle(self) -> Attribution:
        return self.summary.quantiles[0]

    @property
    def tail(self) -> Attribution:
        return self.summary.quantiles[-1]


def cache_word(hit: bool | None) -> str:
    return {True: HIT, False: MISS, None: UNKNOWN}[hit]


def overview_of(read: Read, labels: Labels) -> TimeReport:
    """Every type of the range."""
    everything = read.cleaned.traces
    traces = [trace for trace in everything if labels.holds(trace)]
    found = summarise(traces, closely=0, count=RESAMPLES_LISTED)
    return TimeReport(
        at_wall_ms=read.at_wall_ms,
        traces=found.traces,
        spans=found.spans,
        left_out=read.left_out,
        types=tuple(_row(each) for each in found.strata[:TYPES_SHOWN]),
        types_left_out=max(0, len(found.strata) - TYPES_SHOWN),
        mix=_mix(found) if len(found.strata) > 1 else None,
        repairs=read.cleaned.repairs,
        refused=read.cleaned.spans_refused,
        tenants=tuple(sorted({trace.tenant for trace in everything} - {""})),
        bands=tuple(sorted({trace.prompt_band for trace in everything} - {""})),
        caches=tuple(sorted({cache_word(trace.cache_hit) for trace in everything})),
    )


def type_report(read: Read, wanted: Wanted) -> TypeReport | None:
    """One type; None where no trace is of it."""
    traces = [t for t in read.cleaned.traces if t.request_type == wanted.request_type and wanted.labels.holds(t)]
    if not traces:
        return None
    return TypeReport(
        request_type=wanted.request_type,
        n=len(traces),
        model_hops=model_hops(traces),
        summary=summarise(traces, closely=1).strata[0],
        examples=_examples(rows_of(traces), traces),
        asked=Stage(traces).ask(wanted.what) if wanted.what is not None else None,
    )


def model_hops(traces: Iterable[HopTrace]) -> tuple[str, ...]:
    """Names of hops that are calls of a model."""
    return tuple(sorted({span.hop for trace in traces for span in trace.spans if span.is_model}))


def _row(found: StratumSummary) -> TypeRow:
    middle, tail = found.quantiles[0], found.quantiles[-1]
    first = tail.hops[0] if tail.hops else None
    return TypeRow(
        request_type=found.stratum["request_type"],
        n=found.n,
        p50=middle.total,
        p99=tail.total,
        without_model_p99=tail.without_model,
        largest=first.hop if first else "",
        largest_share=first.share.value if first else None,
    )


def _mix(found: HopsSummary) -> Mix | None:
    if not found.mix or not found.pooled[-1].hops:
        return None
    return Mix(
        n=found.traces,
        p99=found.pooled[-1].total,
        excess_ms=sum(each.excess_ms for each in found.mix),
        mix_ms=sum(each.mix_ms for each in found.mix),
        within_ms=sum(each.within_ms for each in found.mix),
        hops=found.mix,
        types=tuple(sorted(found.types, key=lambda each: (each.middle - each.tail, each.request_type))),
    )


def _examples(rows: Sequence[TraceTimes], traces: Sequence[HopTrace]) -> tuple[Example, ...]:
    """The slowest, and one each at the p99 and the median."""
    ordered = sorted(zip(rows, traces, strict=True), key=lambda pair: (-pair[0].duration_us, pair[0].trace))
    places = {int((1 - TAIL) * (len(ordered) - 1)): "at the p99", len(ordered) // 2: "at the median"}
    picked = [(place, "slowest" if place == 0 else "slow") for place in range(min(SLOWEST_SHOWN, len(ordered)))]
    picked += [(place, why) for place, why in places.items() if place >= SLOWEST_SHOWN]
    return tuple(_example(*ordered[place], why) for place, why in picked)


def _example(row: TraceTimes, trace: HopTrace, why: str) -> Example:
    largest = max(row.by_hop, key=lambda hop: row.by_hop[hop], default="")
    return Example(
        trace=row.trace,
        why=why,
        start_wall_ms=row.start_us // _US_PER_MS,
        duration_ms=row.duration_us / _US_PER_MS,
        spans=len(trace.spans),
        tenant=row.tenant,
        largest=largest,
        largest_ms=row.by_hop.get(largest, 0) / _US_PER_MS,
    )
