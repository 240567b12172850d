"""Columns of a Parquet file as plain lists."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from headway.lab.traces.reading import DATA_VARIABLE, TraceError, TraceMissing


def columns(path: Path, names: tuple[str, ...]) -> dict[str, Sequence[Any]]:
    """By name. TraceMissing, TraceError."""
    try:
        read = pq.read_table(path, columns=list(names))
    except FileNotFoundError:
        raise TraceMissing(path, 0, f"is not in {path.parent}; set {DATA_VARIABLE} or give --data") from None
    except (pa.ArrowException, OSError) as error:
        raise TraceError(path, 0, f"cannot be read: {error}") from None
    missing = [name for name in names if name not in read.column_names]
    if missing:
        raise TraceError(path, 0, f"has no column {', '.join(missing)}")
    return {name: list(_values(read.column(name))) for name in names}


def _values(column: Any) -> Iterator[Any]:
    for chunk in column.chunks:
        plain = chunk.dictionary_decode() if pa.types.is_dictionary(chunk.type) else chunk
        yield from plain.to_pylist()
