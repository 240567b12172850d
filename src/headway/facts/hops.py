"""From spans as they were read, or as they are stored, to clean traces with their labels."""

import asyncio
import importlib
import io
from collections.abc import Iterable
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from headway.calls.admission.bands import band_of
from headway.calls.hops.clean import Cleaned, TypeOf, clean
from headway.calls.hops.model import HopSpan, HopTrace
from headway.calls.hops.seen import SeenSpan, by_trace, hop_spans, labels
from headway.calls.hops.types import type_by_root
from headway.facts.engine import Engine, Reader
from headway.facts.hop_range import HopQuery
from headway.facts.span_rows import to_seen
from headway.facts.trace_files.columns import rows_of
from headway.kernel import limits


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

    async def traces(
        self, where: HopQuery, *, type_of: TypeOf = type_by_root, most: int = limits.HOP_SPANS_READ_MAX
    ) -> FoundTraces:
        """Those that began in the range, newest first up to ``most`` spans."""
        rows, left_out = await self._engine.run(lambda reader: _read(reader, where, most))
        cleaned = await asyncio.to_thread(lambda: clean_traces(map(to_seen, rows_of(rows)), type_of=type_of))
        return FoundTraces(cleaned=cleaned, left_out=left_out)

    async def parquet(self, where: HopQuery) -> bytes:
        """The spans of the same traces as a file of Parquet, for who wants to work on them elsewhere."""
        rows, _ = await self._engine.run(lambda reader: _read(reader, where, limits.HOP_SPANS_READ_MAX))
        return await asyncio.to_thread(_parquet, rows)


def _read(reader: Reader, where: HopQuery, most: int) -> tuple[pa.Table, int]:
    """Whole traces only: which are read is decided by their counts first."""
    queries = importlib.import_module("headway.facts.hop_queries")
    counts = reader.rows(queries.traces_between(where))
    since, spans = where.since_wall_us, 0
    for row in counts:
        spans += row["spans"]
        if spans > most:
            since = row["at"] + 1
            break
    rows = reader.arrow(queries.spans_of_traces(msgspec.structs.replace(where, since_wall_us=since)))
    return rows, sum(1 for row in counts if row["at"] < since)


def _parquet(rows: pa.Table) -> bytes:
    out = io.BytesIO()
    pq.write_table(rows, out, compression="zstd")
    return out.getvalue()
