"""From spans as they were read, or as they are stored, to clean traces with their labels. Own calls are spans too."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from headway.calls.admission.bands import band_of
from headway.calls.hops.clean import Cleaned, TypeOf, clean
from headway.calls.hops.model import HopSpan, HopTrace
from headway.calls.hops.seen import SeenSpan, by_trace, hop_spans, labels
from headway.calls.hops.types import type_by_root
from headway.facts.engine import Engine, Reader
from headway.facts.hop_queries import (
    HopQuery,
    attempts_of_calls,
    calls_between,
    spans_of_traces,
    traces_between,
)
from headway.facts.model import SpanFact
from headway.facts.own_spans import OwnAttempt, OwnCall, own_spans
from headway.facts.span_rows import to_seen
from headway.kernel import limits

Say = Callable[[str], None]
_COLUMNS = msgspec.structs.fields(SpanFact)


class FoundTraces(msgspec.Struct, frozen=True, kw_only=True):
    """``left_out``: older traces past ``HOP_SPANS_READ_MAX``."""

    cleaned: Cleaned
    left_out: int = 0


def clean_traces(seen: Iterable[SeenSpan], *, type_of: TypeOf = type_by_root) -> Cleaned:
    """Traces with tenant, cache hit and prompt band, where their spans tell them."""
    spans: list[HopSpan] = []
    known = {}
    for trace, members in by_trace(seen).items():
        spans += hop_spans(members)
        told = labels(members)
        if told.tenant or told.cache_hit is not None or told.input_tokens is not None:
            known[trace] = told
    cleaned = clean(spans, type_of=type_of)
    return msgspec.structs.replace(
        cleaned, traces=tuple(_labelled(trace, known[trace.trace]) if trace.trace in known else trace for trace in cleaned.traces)
    )


def _labelled(trace: HopTrace, told: Any) -> HopTrace:
    band = band_of(told.input_tokens) if told.input_tokens is not None else ""
    return msgspec.structs.replace(trace, tenant=told.tenant, cache_hit=told.cache_hit, prompt_band=band)


class HopTable:
    """Traces out of the fact tables. ``FactsAway`` from every method when they cannot be read now."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def traces(self, where: HopQuery, *, type_of: TypeOf = type_by_root) -> FoundTraces:
        """Those that began in the range, newest first up to ``HOP_SPANS_READ_MAX`` spans, own calls among them."""
        seen, left_out = await self._engine.run(lambda reader: _read(reader, where))
        return FoundTraces(cleaned=clean_traces(seen, type_of=type_of), left_out=left_out)


def _read(reader: Reader, where: HopQuery) -> tuple[list[SeenSpan], int]:
    own = _own(reader, where) if where.own else []
    ids = {(span.trace, span.span) for span in own}
    taken, left_out = _taken(reader, where, limits.HOP_SPANS_READ_MAX - len(own))
    return [*own, *(span for span in taken if (span.trace, span.span) not in ids)], left_out


def _taken(reader: Reader, where: HopQuery, most: int) -> tuple[list[SeenSpan], int]:
    """Whole traces only: which are read is decided by their counts first."""
    counts = reader.rows(traces_between(where))
    since, spans, kept = where.since_wall_us, 0, 0
    for row in counts:
        spans += row["spans"]
        if spans > most:
            since = row["at"] + 1
            break
        kept += 1
    if not kept:
        return [], len(counts)
    rows = reader.arrow(spans_of_traces(msgspec.structs.replace(where, since_wall_us=since)))
    columns = {name: rows.column(name).to_pylist() for name in rows.column_names}
    names = [field.name for field in _COLUMNS if field.name in columns]
    return [
        to_seen(SpanFact(**dict(zip(names, values, strict=True)))) for values in zip(*(columns[n] for n in names), strict=True)
    ], len(counts) - kept


def _own(reader: Reader, where: HopQuery) -> Sequence[SeenSpan]:
    calls = [msgspec.convert(row, OwnCall) for row in reader.rows(calls_between(where))]
    attempts: dict[str, list[OwnAttempt]] = {}
    for row in reader.rows(attempts_of_calls(where)) if calls else ():
        attempts.setdefault(row["call"], []).append(msgspec.convert(row, OwnAttempt))
    return own_spans(calls, attempts)
