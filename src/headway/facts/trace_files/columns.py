"""Spans as columns of a Parquet file: trace, span, parent, service, operation, start_us, dur_us, as Nezha's traces are; or rows of Headway's own table.

A parent that is -1, null or empty is none. Columns of other names are not read.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.parquet as pq

from headway.facts.columns import TABLES
from headway.facts.model import SpanFact
from headway.facts.span_rows import to_seen
from headway.facts.trace_files.reading import SPAN_UNREADABLE, Reading, Unreadable

MAGIC: Final = b"PAR1"
_BATCH_ROWS = 65_536
_NEEDED: Final = ("trace", "span", "parent", "service", "start_us")
_NAMES: Final = ("operation", "name")
_DURATIONS: Final = ("dur_us", "duration_us")
_OWN: Final = "start_wall_us"
Say = Callable[[str], None]


def read_columns(source: Path | BinaryIO, into: Reading, say: Say) -> None:
    """``Unreadable`` for a file that is no Parquet or lacks a column."""
    try:
        with pq.ParquetFile(source) as file:
            names = set(file.schema_arrow.names)
            if _OWN in names:
                _own(file, into, say)
                return
            chosen = _chosen(names)
            total = file.metadata.num_rows
            for batch in file.iter_batches(_BATCH_ROWS, columns=list(chosen.values())):
                _take(batch, chosen, into)
                say(f"{into.spans_in:,} of {total:,} spans read")
    except (pa.ArrowException, OSError, RecursionError) as error:
        raise Unreadable(f"it cannot be read as Parquet: {error}") from error


def _chosen(names: set[str]) -> dict[str, str]:
    """What each column is called in this file."""
    found: dict[str, str] = {name: name for name in _NEEDED if name in names}
    for wanted, known in (("name", _NAMES), ("duration_us", _DURATIONS)):
        found.update((wanted, name) for name in known if name in names)
    missing = [name for name in (*_NEEDED, "name", "duration_us") if name not in found]
    if missing:
        raise Unreadable(f"the file has no column {', '.join(missing)}; it has {', '.join(sorted(names)[:20])}")
    return found


def _take(batch: pa.RecordBatch, chosen: Mapping[str, str], into: Reading) -> None:
    columns = {name: _plain(batch.column(batch.schema.get_field_index(column))) for name, column in chosen.items()}
    for trace, span, parent, service, start, name, duration in zip(
        *(columns[name] for name in (*_NEEDED, "name", "duration_us")), strict=True
    ):
        if not isinstance(start, int) or not isinstance(duration, int):
            into.refused[SPAN_UNREADABLE] += 1
            continue
        into.take(
            trace=_id(trace),
            span=_id(span),
            parent=_id(parent),
            service=str(service or ""),
            name=str(name or ""),
            kind="",
            start_us=start,
            duration_us=duration,
            attributes={},
        )


def _plain(column: pa.Array) -> Sequence[Any]:
    decoded = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
    values: list[Any] = decoded.to_pylist()
    return values


def _id(value: object) -> str:
    return "" if value is None or value == -1 else str(value)


def _own(file: pq.ParquetFile, into: Reading, say: Say) -> None:
    for batch in file.iter_batches(_BATCH_ROWS):
        into.spans += [to_seen(row) for row in rows_of(pa.Table.from_batches([batch]))]
        say(f"{into.spans_in:,} of {file.metadata.num_rows:,} spans read")


def rows_of(table: pa.Table) -> Iterator[SpanFact]:
    """Rows of the table ``span``, of whichever of its columns are there."""
    known = [column.name for column in TABLES["span"].columns if column.name in table.column_names]
    columns = [_tuples(table.column(name)) for name in known]
    for values in zip(*columns, strict=True):
        yield SpanFact(**dict(zip(known, values, strict=True)))


def _tuples(column: pa.ChunkedArray) -> Sequence[Any]:
    values: list[Any] = column.to_pylist()
    return [tuple(value or ()) for value in values] if pa.types.is_list(column.type) else values
