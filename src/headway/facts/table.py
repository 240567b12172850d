"""What control asks of the facts: the named questions, answered as plain values. Every method may raise ``FactsAway``."""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from headway.calls.admission.objectives import Objective
from headway.calls.admission.report import AdmissionReport
from headway.facts import answers as a
from headway.facts.admission import admission_report, stalled
from headway.facts.engine import Engine, Reader, load_queries
from headway.facts.model import AttemptFact, CallFact, FeedbackFact, RecordingFact, SegmentFact, SpanFact
from headway.facts.probes import ProbeSpent, ProbeTime, probe_spent, probe_times
from headway.kernel.figure import Figure
from headway.kernel.instants import WallMs
from headway.kernel.limits import FACT_GROUPS_MAX, NEIGHBOURS_SHOWN_MAX, PAGE_ROWS_MAX

Row = TypeVar("Row", bound=msgspec.Struct)
_LEASES_AT_ONCE = 50
_METHOD = "exact quantile by rank; 95 % interval by order statistics"
_MS_PER_S = 1000
P99_CALLS_MIN = 20
"""Of fewer calls a 99th percentile would be the largest of them and no more: it is not shown."""


class FactTable:
    """The fact tables as control sees them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def calls(self, where: a.CallQuery, limit: int = 50) -> a.CallPage:
        """The newest ``limit`` calls that match: at most a page, and the one more by which a reader knows that another page follows."""
        limit = max(1, min(limit, PAGE_ROWS_MAX + 1))
        found = await self._engine.run(lambda reader: _calls(reader, load_queries().call_ids(where, limit + 1)))
        return a.CallPage(calls=found[:limit], next=found[limit - 1].call if len(found) > limit else "")

    async def story(self, call: str) -> a.CallStory | None:
        """One call with its rows; None when it is not in the facts (yet)."""
        return await self._engine.run(lambda reader: _story(reader, call))

    async def beside(self, since_wall_ms: int, until_wall_ms: int, limit: int = NEIGHBOURS_SHOWN_MAX) -> tuple[CallFact, ...]:
        """Calls of any origin that ran at some moment of the stretch, newest first; the nearest starts where there are more than ``limit``."""
        return await self._engine.run(lambda reader: _calls(reader, load_queries().beside(since_wall_ms, until_wall_ms, limit)))

    async def neighbours(self, call: str, limit: int = NEIGHBOURS_SHOWN_MAX) -> tuple[a.Neighbour, ...]:
        """Calls that ran while ``call`` ran, longest overlap first; empty when the call is not known."""
        return await self._engine.run(lambda reader: _neighbours(reader, call, limit))

    async def overview(self, since_wall_ms: int, until_wall_ms: int, bucket_ms: int, now: WallMs, tenant: str = "") -> a.Overview:
        """The range in total, by feature and by tenant, each with a series of ``bucket_ms`` steps; calls of origin client."""
        where = a.CallQuery(since_wall_ms=since_wall_ms, until_wall_ms=until_wall_ms, tenant=tenant)
        return await self._engine.run(lambda reader: _overview(reader, where, bucket_ms, now))

    async def admission(
        self, where: a.AdmissionQuery, bucket_ms: int, objectives: Mapping[str, Objective], now: WallMs
    ) -> AdmissionReport:
        """The range in evidence: who waited how long, whom it stalled, which class keeps its objective."""
        return await self._engine.run(lambda reader: admission_report(reader, where, bucket_ms, objectives, now))

    async def stalled(self, call: str, endpoint: str, since_wall_ms: int, until_wall_ms: int) -> a.Stalled:
        """What one call lost to each other that ran at its endpoint."""
        return await self._engine.run(lambda reader: stalled(reader, call, endpoint, since_wall_ms, until_wall_ms))

    async def cost_by_tenant_day(self, since_wall_ms: int, until_wall_ms: int, tenant: str = "") -> tuple[a.DayCost, ...]:
        """Cost of all origins by tenant and UTC day, oldest first."""
        return await self._engine.run(
            lambda reader: _structs(reader, load_queries().cost_by_tenant_day(since_wall_ms, until_wall_ms, tenant), a.DayCost)
        )

    async def latency(
        self, where: a.CallQuery, keys: Sequence[str], bucket_ms: int, measure: str = "first_token_ms"
    ) -> tuple[a.LatencyRow, ...]:
        """p50 and p99 of a measure by ``keys`` (of ``answers.LATENCY_KEYS``) in steps of ``bucket_ms``, oldest first. ``ValueError`` for an unknown key."""
        return await self._engine.run(lambda reader: _latencies(reader, where, keys, bucket_ms, measure))

    async def probe_times(self, route: str, since_wall_ms: int, until_wall_ms: int) -> tuple[ProbeTime, ...]:
        """What probes of ``route`` (provider/model; empty is all) took, newest first: the control group of verdicts."""
        return await self._engine.run(lambda reader: probe_times(reader, route, since_wall_ms, until_wall_ms))

    async def probe_spent(self, since_wall_ms: int, until_wall_ms: int) -> tuple[ProbeSpent, ...]:
        """What probes have cost, by route."""
        return await self._engine.run(lambda reader: probe_spent(reader, since_wall_ms, until_wall_ms))

    async def count(self, table: str) -> int:
        """How many rows a fact table has."""
        return await self._engine.run(lambda reader: int(reader.rows(load_queries().count(table))[0]["rows"]))

    async def lease_sums(self, leases: Sequence[str]) -> dict[str, a.LeaseSum]:
        """What was drawn from each of ``leases``; one that no call drew on is there with zeros."""
        return await self._engine.run(lambda reader: _lease_sums(reader, list(dict.fromkeys(leases))))


def _structs(reader: Reader, expression: Any, struct: type[Row]) -> tuple[Row, ...]:
    return tuple(msgspec.convert(row, struct, strict=False) for row in reader.rows(expression))


def _calls(reader: Reader, ids: Any) -> tuple[CallFact, ...]:
    """Whole calls for the ids that an expression finds, newest first: finding reads few columns, fetching few rows."""
    wanted = [row["call"] for row in reader.rows(ids)]
    return _structs(reader, load_queries().calls(wanted), CallFact) if wanted else ()


def _one(reader: Reader, table: str, call: str, struct: type[Row]) -> tuple[Row, ...]:
    return _structs(reader, load_queries().rows_of_call(table, call), struct)


def _story(reader: Reader, call: str) -> a.CallStory | None:
    facts = _one(reader, "call", call, CallFact)
    if not facts:
        return None
    recordings = _one(reader, "recording", call, RecordingFact)
    # Anybody with a key can send feedback of a call id: only what the call's own tenant said of it is a part of the call.
    feedback = [row for row in _one(reader, "feedback", call, FeedbackFact) if row.tenant == facts[0].tenant]
    return a.CallStory(
        fact=facts[0],
        attempts=tuple(sorted(_one(reader, "attempt", call, AttemptFact), key=lambda row: row.attempt)),
        segments=tuple(sorted(_one(reader, "segment", call, SegmentFact), key=lambda row: row.at_wall_ms)),
        feedback=tuple(sorted(feedback, key=lambda row: row.at_wall_ms)),
        spans=tuple(sorted(_one(reader, "span", call, SpanFact), key=lambda row: row.start_wall_us)),
        recording=recordings[0] if recordings else None,
    )


def _neighbours(reader: Reader, call: str, limit: int) -> tuple[a.Neighbour, ...]:
    facts = _one(reader, "call", call, CallFact)
    if not facts:
        return ()
    begin, end = facts[0].started_wall_ms, facts[0].started_wall_ms + facts[0].duration_ms
    found = _calls(reader, load_queries().beside(begin, int(end), NEIGHBOURS_SHOWN_MAX + 1))
    near = [
        a.Neighbour(fact=fact, overlap_ms=min(end, fact.started_wall_ms + fact.duration_ms) - max(begin, fact.started_wall_ms))
        for fact in found
        if fact.call != call
    ]
    return tuple(sorted(near, key=lambda each: -each.overlap_ms)[:limit])


def _overview(reader: Reader, where: a.CallQuery, bucket_ms: int, now: WallMs) -> a.Overview:
    queries = load_queries()
    newest = reader.rows(queries.newest())[0]["newest"]
    age_s = max(0.0, (now - newest) / _MS_PER_S) if newest is not None else 0.0

    series: dict[tuple[str, str], list[a.Bucket]] = {}
    for row in reader.rows(queries.groups(where, bucket_ms)):
        series.setdefault((row["by"], row["name"]), []).append(_bucket(row))
    groups: dict[str, list[a.Group]] = {"": [], "feature": [], "tenant": []}
    for row in reader.rows(queries.groups(where, None)):
        groups[row["by"]].append(_group(row, tuple(series.get((row["by"], row["name"]), ())), age_s))
    return a.Overview(
        since_wall_ms=where.since_wall_ms or 0,
        until_wall_ms=where.until_wall_ms or 0,
        bucket_ms=bucket_ms,
        newest_wall_ms=newest,
        total=groups[""][0] if groups[""] else _nothing(age_s),
        features=tuple(groups["feature"]),
        tenants=tuple(groups["tenant"]),
    )


def _latencies(reader: Reader, where: a.CallQuery, keys: Sequence[str], bucket_ms: int, measure: str) -> tuple[a.LatencyRow, ...]:
    queries = importlib.import_module("headway.facts.latency_queries")
    rows = reader.rows(queries.latency(where, keys, measure, bucket_ms, FACT_GROUPS_MAX + 1))
    if len(rows) > FACT_GROUPS_MAX:
        raise a.FactsAway(f"the question has more than {FACT_GROUPS_MAX} groups; ask for a shorter range or longer steps")
    return tuple(_latency(row, keys) for row in rows)


def _latency(row: dict[str, Any], keys: Sequence[str]) -> a.LatencyRow:
    shown = ("p50", "p99") if row["n"] >= P99_CALLS_MIN else ("p50",)
    return a.LatencyRow(
        by={key: row[key] for key in keys},
        bucket_wall_ms=row["bucket"],
        calls=row["calls"],
        n=row["n"],
        **{f"{label}{end}_ms": row[label + end] for label in shown for end in ("", "_low", "_high")},
    )


def _bucket(row: dict[str, Any]) -> a.Bucket:
    return a.Bucket(
        start_wall_ms=row["bucket"],
        calls=row["calls"],
        failed=row["failed"],
        first_token_p50_ms=row["p50"],
        first_token_p99_ms=row["p99"] if row["n"] >= P99_CALLS_MIN else None,
        cost_nano_usd=row["cost_nano_usd"],
    )


def _group(row: dict[str, Any], series: tuple[a.Bucket, ...], age_s: float) -> a.Group:
    return a.Group(
        name=row["name"],
        calls=row["calls"],
        failed=row["failed"],
        first_token_p50=_quantile(row, "p50", age_s),
        first_token_p99=_quantile(row, "p99", age_s),
        cost_nano_usd=row["cost_nano_usd"],
        cost_unknown=row["cost_unknown"],
        input_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"],
        series=series,
    )


def _quantile(row: dict[str, Any], label: str, age_s: float) -> Figure:
    if not row["n"]:
        return Figure(value=None, unit="ms", n=0, method="no call had a first token", age_s=age_s, stratum=row["name"])
    if label == "p99" and row["n"] < P99_CALLS_MIN:
        method = f"n too small: {row['n']}, from {P99_CALLS_MIN} on"
        return Figure(value=None, unit="ms", n=row["n"], method=method, age_s=age_s, stratum=row["name"])
    return Figure(
        value=row[label],
        unit="ms",
        n=row["n"],
        method=_METHOD,
        low=row[f"{label}_low"],
        high=row[f"{label}_high"],
        age_s=age_s,
        stratum=row["name"],
    )


def _nothing(age_s: float) -> a.Group:
    empty = Figure(value=None, unit="ms", n=0, method="no calls in the range", age_s=age_s)
    return a.Group(
        name="",
        calls=0,
        failed=0,
        first_token_p50=empty,
        first_token_p99=empty,
        cost_nano_usd=0,
        cost_unknown=0,
        input_tokens=0,
        output_tokens=0,
    )


def _lease_sums(reader: Reader, leases: list[str]) -> dict[str, a.LeaseSum]:
    sums = {lease: a.LeaseSum(lease=lease, calls=0) for lease in leases}
    seen: set[str] = set()
    for start in range(0, len(leases), _LEASES_AT_ONCE):
        for row in reader.rows(load_queries().charged_to(leases[start : start + _LEASES_AT_ONCE])):
            if row["call"] in seen:
                continue
            seen.add(row["call"])
            split = row["lease_charges"] if len(row["lease_charges"]) == len(row["leases"]) else [None] * len(row["leases"])
            for lease, charge in zip(row["leases"], split, strict=True):
                if lease in sums:
                    sums[lease] = _drawn(sums[lease], charge, row["charged_nano_usd"], row["charged_tokens"])
    return sums


def _drawn(so_far: a.LeaseSum, charge: int | None, nano_usd: int, tokens: int) -> a.LeaseSum:
    if charge is not None:
        return msgspec.structs.replace(so_far, calls=so_far.calls + 1, charged=so_far.charged + charge)
    return msgspec.structs.replace(
        so_far,
        calls=so_far.calls + 1,
        unsplit_calls=so_far.unsplit_calls + 1,
        unsplit_nano_usd=so_far.unsplit_nano_usd + nano_usd,
        unsplit_tokens=so_far.unsplit_tokens + tokens,
    )
