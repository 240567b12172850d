"""The named queries with concrete questions, and the expressions of the portable subset that they may use: one list for every engine.

Needs ibis and msgspec only: it is imported in the environment of the other engines too.
"""

from collections.abc import Callable

import ibis
import ibis.expr.types as ir

from headway.calls.admission.objectives import Objective
from headway.facts import admission_queries, hop_queries, latency_queries, phase_queries, probe_queries, queries
from headway.facts.answers import ANY, FAILED, AdmissionQuery, CallQuery
from headway.facts.hop_range import HopQuery
from headway.facts.phases import PhaseQuery

T0_WALL_MS = 1_764_028_800_000
HOUR_MS = 3_600_000
UNTIL_WALL_MS = T0_WALL_MS + 6 * HOUR_MS
EVERYTHING = AdmissionQuery(since_wall_ms=T0_WALL_MS, until_wall_ms=UNTIL_WALL_MS, origin=ANY)
CLIENTS = AdmissionQuery(since_wall_ms=T0_WALL_MS + HOUR_MS, until_wall_ms=UNTIL_WALL_MS, endpoint="gpu-1", tenant="tenant-1")
GOALS = {
    "interactive": Objective(klass="interactive", first_token_ms=400.0, share=0.95),
    "batch": Objective(klass="batch", first_token_ms=2_000.0, share=0.9),
}
PHASES = PhaseQuery(since_wall_ms=T0_WALL_MS, until_wall_ms=UNTIL_WALL_MS)
TRACES = HopQuery(since_wall_us=T0_WALL_MS * 1000, until_wall_us=UNTIL_WALL_MS * 1000, tenant="tenant-1")
SOME = ("call_000017", "call_000400", "call_001999")

CASES: dict[str, Callable[[], ir.Table]] = {
    "queries.call_ids": lambda: queries.call_ids(CallQuery(), 50),
    "queries.call_ids.filtered": lambda: queries.call_ids(
        CallQuery(
            outcome=FAILED, model="MODEL-1", origin=ANY, since_wall_ms=T0_WALL_MS, until_wall_ms=UNTIL_WALL_MS, before="call_001500"
        ),
        200,
    ),
    "queries.calls": lambda: queries.calls(SOME),
    "queries.rows_of_call": lambda: queries.rows_of_call("attempt", SOME[0]),
    "queries.beside": lambda: queries.beside(T0_WALL_MS + HOUR_MS, T0_WALL_MS + HOUR_MS + 20_000, 100),
    "queries.newest": queries.newest,
    "queries.count": lambda: queries.count("attempt"),
    "queries.groups": lambda: queries.groups(CallQuery(since_wall_ms=T0_WALL_MS), None),
    "queries.groups.hourly": lambda: queries.groups(CallQuery(since_wall_ms=T0_WALL_MS), HOUR_MS),
    "queries.cost_by_tenant_day": lambda: queries.cost_by_tenant_day(T0_WALL_MS, UNTIL_WALL_MS, ""),
    "queries.charged_to": lambda: queries.charged_to(["lease-1", "lease-7"]).order_by("call"),
    "latency_queries.latency": lambda: latency_queries.latency(CallQuery(), ("tenant", "model"), "first_token_ms", HOUR_MS, 10_000),
    "latency_queries.latency.queue": lambda: latency_queries.latency(
        CallQuery(origin=ANY), ("klass",), "queue_ms", 24 * HOUR_MS, 10_000
    ),
    "admission_queries.shared_calls": lambda: admission_queries.shared_calls(EVERYTHING).order_by("call", "attempt"),
    "admission_queries.cells": lambda: admission_queries.cells(EVERYTHING, GOALS, sorted(GOALS)),
    "admission_queries.cells.one_tenant": lambda: admission_queries.cells(CLIENTS, GOALS, sorted(GOALS)),
    "admission_queries.values": lambda: _in_order(admission_queries.values(EVERYTHING, 3, HOUR_MS)),
    "admission_queries.moments": lambda: admission_queries.moments(EVERYTHING, HOUR_MS),
    "admission_queries.giants": lambda: admission_queries.giants(EVERYTHING, 20),
    "admission_queries.spans": lambda: admission_queries.spans(EVERYTHING, 500),
    "phase_queries.phase_calls": lambda: phase_queries.phase_calls(PHASES, 500),
    "phase_queries.phase_count": lambda: phase_queries.phase_count(PHASES),
    "phase_queries.phase_attempts": lambda: phase_queries.phase_attempts(PHASES, 500),
    "phase_queries.cache_routes": lambda: _in_order(phase_queries.cache_routes()),
    "phase_queries.engines_telling": lambda: _in_order(phase_queries.engines_telling()),
    "phase_queries.heads": lambda: phase_queries.heads(PHASES, 50, 12),
    "hop_queries.traces_between": lambda: hop_queries.traces_between(TRACES),
    "hop_queries.spans_of_traces": lambda: hop_queries.spans_of_traces(TRACES).order_by("trace", "span"),
    "probe_queries.times": lambda: probe_queries.times("", T0_WALL_MS, UNTIL_WALL_MS, 200),
    "probe_queries.spent": lambda: probe_queries.spent(T0_WALL_MS, UNTIL_WALL_MS),
    "subset.unnest": lambda: _leases().group_by("lease").aggregate(calls=ibis._.count()).order_by("lease"),
    "subset.array_length": lambda: (
        queries.table("call")
        .group_by(blocks=queries.table("call").prefix_hashes.length())
        .aggregate(n=ibis._.count())
        .order_by("blocks")
    ),
    "subset.arg_max": lambda: (
        queries.table("call").group_by("tenant").aggregate(slowest=lambda t: t.call.argmax(t.duration_ms)).order_by("tenant")
    ),
    "subset.as_of": lambda: _as_of(),
    "subset.log_histogram": lambda: _log_histogram(),
    "subset.paired": lambda: _paired(),
    "subset.top_by_rank": lambda: _top_by_rank(),
}


def _in_order(rows: ir.Table) -> ir.Table:
    """A query without an order of its own, by all of its columns."""
    return rows.order_by(*rows.columns)


def _leases() -> ir.Table:
    calls = queries.table("call")
    return calls.select("call", lease=calls.leases.unnest())


def _as_of() -> ir.Table:
    """The configuration in force at each attempt: a range join over ``lead()``."""
    calls, tries = queries.table("call"), queries.table("attempt")
    marks = calls.filter(calls.call.endswith("00")).select("config_generation", since="started_wall_ms")
    spans = marks.mutate(until=ibis.coalesce(marks.since.lead().over(order_by=marks.since), UNTIL_WALL_MS * 2))
    found = tries.join(spans, [tries.started_wall_ms >= spans.since, tries.started_wall_ms < spans.until])
    return found.group_by("config_generation").aggregate(n=found.count()).order_by("config_generation")


def _log_histogram() -> ir.Table:
    calls = queries.table("call")
    kept = calls.filter(calls.first_token_ms > 0)
    step = (kept.first_token_ms.log2() * 2).floor().cast("int64")
    return kept.select(step=step).group_by("step").aggregate(n=ibis._.count()).order_by("step")


def _paired() -> ir.Table:
    calls = queries.table("call")
    both = calls.filter(calls.first_token_ms.notnull()).select("tenant", gap=calls.duration_ms - calls.first_token_ms)
    return (
        both.group_by("tenant")
        .aggregate(n=both.count(), mean=both.gap.mean(), sd=both.gap.std(how="sample"), above=(both.gap > 500).cast("int64").sum())
        .order_by("tenant")
    )


def _top_by_rank() -> ir.Table:
    calls = queries.table("call")
    ranked = calls.select(
        "tenant", "call", place=ibis.row_number().over(group_by="tenant", order_by=[calls.duration_ms.desc(), calls.call])
    )
    return ranked.filter(ranked.place < 3).order_by("tenant", "place")
