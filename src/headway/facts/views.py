"""The fact tables as DuckDB shows them: every present column, with its default where older rows lack it."""

from collections.abc import Sequence
from pathlib import Path

from headway.facts.columns import TABLES, Column, Kind

SQL_TYPES = {
    Kind.TEXT: "VARCHAR",
    Kind.INTEGER: "BIGINT",
    Kind.REAL: "DOUBLE",
    Kind.FLAG: "BOOLEAN",
    Kind.BYTES: "BLOB",
    Kind.TEXTS: "VARCHAR[]",
    Kind.INTEGERS: "BIGINT[]",
}


def view(table: str, paths: tuple[Path, ...]) -> str:
    """SQL that shows ``paths`` as one table with all present columns and their defaults."""
    columns = TABLES[table].columns
    empty = ", ".join(f'NULL::{SQL_TYPES[column.kind]} AS "{column.name}"' for column in columns)
    source = f"(SELECT {empty} WHERE false)"
    if paths:
        listed = ", ".join(quoted(str(path)) for path in paths)
        source += f" UNION ALL BY NAME SELECT * FROM read_parquet([{listed}], union_by_name = true)"  # noqa: S608 (paths are ours and quoted)
    return shown_as(table, columns, f"({source})")


def shown_as(table: str, columns: Sequence[Column], source: str) -> str:
    """SQL of a temporary view of ``source``, which has all ``columns``, under the table's name."""
    shown = ", ".join(_shown(column) for column in columns)
    return f'CREATE OR REPLACE TEMP VIEW "{table}" AS SELECT {shown} FROM {source}'  # noqa: S608 (names are ours)


def literal(column: Column) -> str:
    """The column's default in SQL."""
    default = column.default
    if isinstance(default, bool | int | float):
        return f"{str(default).lower()}::{SQL_TYPES[column.kind]}"
    if isinstance(default, str):
        return quoted(default)
    assert default in ((), b""), column
    return f"{'[]' if default == () else quoted('')}::{SQL_TYPES[column.kind]}"


def quoted(text: str) -> str:
    """A text literal in SQL."""
    return "'" + text.replace("'", "''") + "'"


def _shown(column: Column) -> str:
    if column.required or column.nullable:
        return f'"{column.name}"'
    return f'coalesce("{column.name}", {literal(column)}) AS "{column.name}"'
