"""The columns of each fact table, derived once from the structs of ``model.py``: the one place that knows which types a column may have."""

from enum import StrEnum
from types import NoneType, UnionType
from typing import get_args, get_origin, get_type_hints

import msgspec

from headway.facts.model import Fact


class Kind(StrEnum):
    """Column types, in the subset that DuckDB, ClickHouse and Spark share."""

    TEXT = "text"
    INTEGER = "integer"
    REAL = "real"
    FLAG = "flag"
    BYTES = "bytes"
    TEXTS = "texts"
    INTEGERS = "integers"


_KINDS: dict[object, Kind] = {
    str: Kind.TEXT,
    int: Kind.INTEGER,
    float: Kind.REAL,
    bool: Kind.FLAG,
    bytes: Kind.BYTES,
    tuple[str, ...]: Kind.TEXTS,
    tuple[int, ...]: Kind.INTEGERS,
}


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """One column. ``required`` columns have stood since the first version; others are filled with ``default`` where a file lacks them."""

    name: str
    kind: Kind
    nullable: bool
    required: bool
    default: object = None


class TableSchema(msgspec.Struct, frozen=True, kw_only=True):
    """One fact table."""

    name: str
    struct: type
    columns: tuple[Column, ...]


def _columns(struct: type[msgspec.Struct]) -> tuple[Column, ...]:
    hints = get_type_hints(struct)
    return tuple(_column(field, hints[field.name]) for field in msgspec.structs.fields(struct))


def _column(field: msgspec.structs.FieldInfo, hint: object) -> Column:
    options = [each for each in get_args(hint) if each is not NoneType] if get_origin(hint) is UnionType else [hint]
    if len(options) != 1 or options[0] not in _KINDS:
        raise TypeError(f"column {field.name} has the type {hint}, for which there is no column kind")
    return Column(
        name=field.name,
        kind=_KINDS[options[0]],
        nullable=options[0] is not hint,
        required=field.required,
        default=None if field.required else field.default,
    )


TABLES: dict[str, TableSchema] = {
    str(struct.__struct_config__.tag): TableSchema(name=str(struct.__struct_config__.tag), struct=struct, columns=_columns(struct))
    for struct in get_args(Fact)
}
"""By name: call, attempt, segment, span, feedback, recording."""
