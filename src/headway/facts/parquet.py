"""Facts to Parquet and back. A file appears under its name whole and durable, or not at all."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from headway.facts.columns import TABLES, Kind, TableSchema
from headway.facts.model import Fact
from headway.facts.repair import storable
from headway.kernel.limits import FACT_ROW_GROUP_ROWS

TEMPORARY = ".tmp"
_TYPES: dict[Kind, pa.DataType] = {
    Kind.TEXT: pa.string(),
    Kind.INTEGER: pa.int64(),
    Kind.REAL: pa.float64(),
    Kind.FLAG: pa.bool_(),
    Kind.BYTES: pa.binary(),
    Kind.TEXTS: pa.list_(pa.string()),
    Kind.INTEGERS: pa.list_(pa.int64()),
}


def arrow_schema(table: TableSchema) -> pa.Schema:
    """The file schema of a fact table."""
    return pa.schema([pa.field(column.name, _TYPES[column.kind], nullable=True) for column in table.columns])


SCHEMAS: dict[str, pa.Schema] = {name: arrow_schema(table) for name, table in TABLES.items()}


def arrow_table(table: str, facts: Sequence[Fact]) -> pa.Table:
    """Rows of one table as columns. Numbers beyond 64 bits are clamped rather than refused."""
    try:
        return _arrow_table(table, facts)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError):
        return _arrow_table(table, [storable(fact) for fact in facts])


def _arrow_table(table: str, facts: Sequence[Fact]) -> pa.Table:
    schema = SCHEMAS[table]
    if not facts:
        return schema.empty_table()
    columns = zip(*map(msgspec.structs.astuple, facts), strict=True)
    return pa.Table.from_arrays(
        [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)], schema=schema
    )


def write_durably(path: Path, table: pa.Table) -> None:
    """Write, sync, rename, sync the folder: after this a power cut changes nothing. ``OSError`` leaves no file under ``path``'s name."""
    temporary = path.with_suffix(TEMPORARY)
    try:
        with temporary.open("wb") as file:
            pq.write_table(table, file, compression="zstd", row_group_size=FACT_ROW_GROUP_ROWS, write_statistics=True)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames and deletions in ``folder`` durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_aligned(table: str, paths: Iterable[Path]) -> pa.Table:
    """The rows of several files in the present schema: columns that an older file lacks have their default, columns that it has too many go."""
    return pa.concat_tables([_aligned(table, pq.read_table(path, partitioning=None)) for path in paths])


def read_whole(table: str, paths: Iterable[Path]) -> pa.Table:
    """As ``read_aligned``, and columns of a newer version are carried along behind the present ones, null where a file lacks them."""
    return pa.concat_tables(
        [_with_unknown(table, pq.read_table(path, partitioning=None)) for path in paths], promote_options="default"
    )


def _with_unknown(table: str, found: pa.Table) -> pa.Table:
    aligned = _aligned(table, found)
    for field in found.schema:
        if field.name not in SCHEMAS[table].names:
            aligned = aligned.append_column(field, found.column(field.name))
    return aligned


def _aligned(table: str, found: pa.Table) -> pa.Table:
    schema = SCHEMAS[table]
    have = set(found.column_names)
    arrays = []
    for column, field in zip(TABLES[table].columns, schema, strict=True):
        if column.name in have:
            arrays.append(found.column(column.name).cast(field.type))
        else:
            default = list(column.default) if isinstance(column.default, tuple) else column.default
            arrays.append(pa.array([default] * found.num_rows, field.type))
    return pa.Table.from_arrays(arrays, schema=schema)
