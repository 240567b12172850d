"""Calls and spans for ``make bench-facts``, the same for the same seed: written as the store would hold them after compaction.

python benchmarks/facts/data.py FOLDER CALLS SEED
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from headway.facts.columns import TABLES, Column, Kind
from headway.facts.files import with_segments
from headway.facts.model import SpanFact
from headway.facts.parquet import SCHEMAS, write_durably

T0_WALL_MS = 1_764_028_800_000
HOUR_MS = 3_600_000
CALLS_A_DAY = 1_000_000
CALLS_A_FILE = 250_000
TENANTS, MODELS = 10, 5
_NOTHING = {Kind.TEXT: "", Kind.INTEGER: 0, Kind.REAL: 0.0, Kind.FLAG: True, Kind.BYTES: b"", Kind.TEXTS: [], Kind.INTEGERS: []}
_HEX = 16


def calls(rows: int, first: int, rng: np.random.Generator) -> pa.Table:
    """``rows`` calls from the ``first`` on: a million a day, first tokens log-normal around half a second, one call in fifty without one."""
    at = (np.arange(first, first + rows) * (24 * HOUR_MS / CALLS_A_DAY)).astype(np.int64)
    tenant = np.minimum(rng.geometric(0.3, rows) - 1, TENANTS - 1)
    model = rng.integers(0, MODELS, rows)
    first_token = np.round(rng.lognormal(6.0 + 0.1 * model, 0.8), 3)
    answered = rng.random(rows) >= 0.02
    told = {
        "call": pa.array([f"call_{number:026d}" for number in range(first, first + rows)]),
        "started_wall_ms": pa.array(T0_WALL_MS + at),
        "duration_ms": pa.array(first_token * 4),
        "gateway": _names("gateway", np.zeros(rows, np.int64)),
        "origin": pa.repeat("client", rows),
        "tenant": _names("tenant", tenant),
        "feature": _names("feature", model % 3),
        "requested": _names("feature", model % 3),
        "routed": _names("provider/model", model),
        "answered": _names("model", model),
        "outcome": pa.array(np.where(answered, "done", "upstream_error")),
        "first_token_ms": pa.array(first_token, mask=~answered),
        "input_tokens": pa.array(rng.integers(20, 8_000, rows)),
        "output_tokens": pa.array(rng.integers(1, 800, rows)),
        "cost_nano_usd": pa.array(rng.integers(1_000, 10_000_000, rows)),
        "prefix_hashes": pa.array(rng.integers(0, 2**40, (rows, 2)).tolist(), pa.list_(pa.int64())),
    }
    schema = SCHEMAS["call"]
    columns = [
        told.get(field.name, _constant(column, rows, field)) for column, field in zip(TABLES["call"].columns, schema, strict=True)
    ]
    return pa.Table.from_arrays([column.cast(field.type) for column, field in zip(columns, schema, strict=True)], schema=schema)


def spans(count: int, seed: int) -> Iterator[SpanFact]:
    """``count`` spans in traces of twenty."""
    rng = np.random.default_rng(seed)
    starts, durations = rng.integers(0, 3_600_000_000, count), rng.integers(50, 900_000, count)
    for number in range(count):
        trace, place = divmod(number, 20)
        yield SpanFact(
            trace=f"{trace:032x}",
            span=f"{number + 1:016x}",
            parent=f"{number:016x}" if place else "",
            name=("auth", "retrieve", "rank", "model", "render")[place % 5],
            kind="server" if place == 0 else "client",
            start_wall_us=T0_WALL_MS * 1000 + int(starts[number]),
            duration_us=int(durations[number]),
            gateway="bench",
        )


def write_calls(folder: Path, count: int, seed: int) -> None:
    """``count`` calls as merged files of a facts folder."""
    rng = np.random.default_rng(seed)
    (folder / "call").mkdir(parents=True, exist_ok=True)
    for number, first in enumerate(range(0, count, CALLS_A_FILE)):
        rows = calls(min(CALLS_A_FILE, count - first), first, rng)
        from_ms, until_ms = (rows.column("started_wall_ms")[at].as_py() for at in (0, -1))
        held = with_segments(rows, {f"bench{number:011d}": ((0, 0),)})
        write_durably(folder / "call" / f"m2-{from_ms:013d}-{until_ms:013d}-{number:012d}.parquet", held)


def _names(word: str, numbers: np.ndarray) -> pa.Array:
    words = pa.array([f"{word}-{number}" for number in range(int(numbers.max()) + 1)])
    return pa.DictionaryArray.from_arrays(pa.array(numbers.astype(np.int32)), words)


def _constant(column: Column, rows: int, field: pa.Field) -> pa.Array:
    value = None if column.nullable else _NOTHING[column.kind] if column.required else column.default
    value = list(value) if isinstance(value, tuple) else value
    return pa.nulls(rows, field.type) if value is None else pa.repeat(pa.scalar(value, field.type), rows)


if __name__ == "__main__":
    write_calls(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
