"""Reads the evidence of admission: named queries in, ``calls.admission.report`` out. Runs in the facts' threads."""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from headway.calls.admission.alone import Alone
from headway.calls.admission.objectives import DEFAULTS, Objective, objective_of
from headway.calls.admission.report import (
    KINDS,
    MEASURES,
    AdmissionReport,
    Counts,
    Key,
    LongCall,
    Moment,
    Rows,
    report,
    time_alone,
)
from headway.calls.admission.spans import CallSpan
from headway.calls.admission.stalls import UNEXPLAINED, parts_beside, stalls_estimated
from headway.calls.model import Outcome
from headway.facts.admission_ranks import Columns
from headway.facts.answers import ANY, AdmissionQuery, Culprit, Stalled
from headway.facts.engine import Reader
from headway.facts.token_times import decode
from headway.kernel.instants import WallMs
from headway.kernel.limits import ADMISSION_CALLS_READ_MAX, ADMISSION_GIANTS_MARKED_MAX, ADMISSION_VALUES_MAX, NEIGHBOURS_SHOWN_MAX

_US_PER_MS = 1000
_NEVER_SENT = (Outcome.REFUSED, Outcome.EVICTED)
_COUNTED = ("calls", "answered", "refused", "evicted", "judged", "broken", "allowed")
STORY_MS = 30 * 60_000
"""How far back calls are read for the time alone of one call's endpoint."""


def admission_report(
    reader: Reader, where: AdmissionQuery, bucket_ms: int, objectives: Mapping[str, Objective], now: WallMs
) -> AdmissionReport:
    """The range in evidence. Intervals are of every origin, since pieces keep an engine as busy as calls do; all else is of ``where.origin``."""
    queries = _queries()
    newest = reader.rows(queries.newest())[0]["newest"]
    everything = msgspec.structs.replace(where, origin=ANY, tenant="")
    spans = tuple(span_of(row) for row in reader.rows(queries.spans(everything, ADMISSION_CALLS_READ_MAX)))
    alone = time_alone(spans)
    seen = {span.klass for span in spans} | set(objectives)
    klasses = sorted(seen | set(DEFAULTS))
    cells = reader.rows(queries.cells(where, objectives, klasses))
    one_in = max(1, -(-sum(row["calls"] for row in cells) // ADMISSION_VALUES_MAX))
    columns = Columns(reader.arrow(queries.values(where, one_in, bucket_ms)), alone)
    quantiles = columns.moments()
    rows = Rows(
        since_wall_ms=where.since_wall_ms,
        until_wall_ms=where.until_wall_ms,
        bucket_ms=bucket_ms,
        newest_wall_ms=newest,
        endpoint=where.endpoint,
        tenant=where.tenant,
        counts=_rolled_up(cells),
        measured={name: columns.ranked(name) for name in MEASURES},
        one_in=one_in,
        spans=spans,
        moments=tuple(_moment(row, quantiles) for row in reader.rows(queries.moments(where, bucket_ms))),
        giants=tuple(_giant(row) for row in reader.rows(queries.giants(where, ADMISSION_GIANTS_MARKED_MAX))),
    )
    return report(rows, alone, [objective_of(klass, objectives) for klass in sorted(seen)], now)


def stalled(reader: Reader, call: str, endpoint: str, since_wall_ms: int, until_wall_ms: int) -> Stalled:
    """What one call lost to each other at its endpoint, by the calls of the half hour before it and those beside it."""
    where = AdmissionQuery(since_wall_ms=since_wall_ms - STORY_MS, until_wall_ms=until_wall_ms + 1, endpoint=endpoint, origin=ANY)
    spans = [span_of(row) for row in reader.rows(_queries().spans(where, ADMISSION_CALLS_READ_MAX))]
    alone = time_alone(spans)
    lost = parts_beside(stalls_estimated(spans, alone), call)
    found = {span.call: span for span in spans}
    pieces: dict[str, int] = {}
    for span in spans:
        if span.parent_call:
            pieces[span.parent_call] = pieces.get(span.parent_call, 0) + 1
    culprits = [
        _culprit(name, ms, found.get(name), pieces.get(name, 0))
        for name, ms in lost.items()
        if name != UNEXPLAINED and sum(ms) >= 1
    ]
    own = found.get(call)
    return Stalled(
        culprits=tuple(sorted(culprits, key=lambda c: -c.stall_ms)[:NEIGHBOURS_SHOWN_MAX]),
        unexplained_ms=sum(lost.get(UNEXPLAINED, ())),
        alone=alone.get(own.place) if own is not None else None,
        expected_ms=_expected(own, alone),
    )


def _culprit(call: str, parts: Sequence[float], span: CallSpan | None, pieces: int) -> Culprit:
    return Culprit(
        call=call,
        tenant=span.tenant if span else "",
        klass=span.klass if span else "",
        uncached_tokens=span.whole_tokens if span else None,
        pieces=pieces,
        stall_ms=sum(parts),
        queue_ms=parts[0],
        first_token_ms=parts[1],
        gap_ms=parts[2],
    )


def _expected(span: CallSpan | None, alone: Mapping[tuple[str, str], Alone]) -> float | None:
    line = alone.get(span.place) if span is not None else None
    return line.expected_ms(span.uncached_tokens) if line is not None and span is not None else None


def span_of(row: Mapping[str, Any]) -> CallSpan:
    """A row of the query ``spans``. An attempt that was ended by us without a status never got to its endpoint."""
    start = float(row["tried_wall_ms"])
    first = row["tried_first_token_ms"]
    sent = first is not None or row["tried_status"] or row["outcome"] not in _NEVER_SENT
    return CallSpan(
        call=row["call"],
        endpoint=row["endpoint"],
        model=row["upstream_model"] or "",
        tenant=row["tenant"],
        klass=row["klass"],
        parent_call=row["parent_call"] if row["origin"] != "client" else "",
        arrived_ms=start,
        admitted_ms=start + row["tried_queue_ms"] if sent else None,
        first_token_ms=start + first if first is not None else None,
        ended_ms=start + row["tried_duration_ms"],
        uncached_tokens=row["uncached"],
        whole_tokens=row["whole"],
        output_tokens=row["output_tokens"],
        reads_ms=_reads(row["token_times"], start, first),
    )


def _reads(token_times: bytes | None, start: float, first_token_ms: float | None) -> tuple[float, ...]:
    if not token_times or first_token_ms is None:
        return ()
    try:
        instants = decode(token_times)
    except ValueError:
        return ()  # written by another version: this call has no gaps to show
    from_us = (first_token_ms - 0.1) * _US_PER_MS
    return tuple(start + at / _US_PER_MS for at in instants if at >= from_us)


def _rolled_up(rows: Sequence[Mapping[str, Any]]) -> tuple[Counts, ...]:
    """Cells summed to every kind of key."""
    sums: dict[Key, list[float]] = {}
    for row in rows:
        for kind, parts in KINDS.items():
            whole = sums.setdefault(Key(kind=kind, **{part: row[part] for part in parts}), [0.0] * len(_COUNTED))
            for i, name in enumerate(_COUNTED):
                whole[i] += row[name]
    return tuple(_counts(key, dict(zip(_COUNTED, whole, strict=True))) for key, whole in sums.items())


def _counts(key: Key, row: Mapping[str, float]) -> Counts:
    whole = {name: int(row[name]) for name in _COUNTED if name != "allowed"}
    return Counts(key=key, allowed_share=row["allowed"] / row["judged"] if row["judged"] else 0.0, **whole)


def _moment(row: Mapping[str, Any], quantiles: Mapping[tuple[str, int], tuple[float, float]]) -> Moment:
    p50, p99 = quantiles.get((row["klass"], row["bucket"]), (None, None))
    return Moment(start_wall_ms=row["bucket"], klass=row["klass"], calls=row["calls"], p50_ms=p50, p99_ms=p99, tokens=row["tokens"])


def _giant(row: Mapping[str, Any]) -> LongCall:
    start, first = row["tried_wall_ms"], row["tried_first_token_ms"]
    return LongCall(
        call=row["call"],
        tenant=row["tenant"],
        klass=row["klass"],
        admitted_wall_ms=int(start + row["tried_queue_ms"]),
        first_token_wall_ms=int(start + first) if first is not None else None,
        uncached_tokens=row["whole"],
    )


def _queries() -> Any:
    """Loaded when it is first needed, as ``engine.load_queries`` does."""
    return importlib.import_module("headway.facts.admission_queries")
