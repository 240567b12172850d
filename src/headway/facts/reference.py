"""The reference of the fact tables, written from the structs: ``python -m headway.facts.reference > docs/reference/facts.md``."""

import ast
import inspect
import sys

from headway.facts import model
from headway.facts.columns import TABLES, Column, Kind, TableSchema
from headway.facts.segments import SCHEMA_VERSION

_KINDS = {
    Kind.TEXT: "text",
    Kind.INTEGER: "integer",
    Kind.REAL: "real",
    Kind.FLAG: "true or false",
    Kind.BYTES: "bytes",
    Kind.TEXTS: "list of text",
    Kind.INTEGERS: "list of integers",
}
_HEAD = """# Facts

What happened, as columns. The gateway writes rows to its spool, control stores them as Parquet under `facts/TABLE/` in the state folder;
any tool that reads Parquet can read them. Schema version {version}.

- Instants are whole milliseconds or microseconds since 1970-01-01 UTC (`_wall_ms`, `_wall_us`), durations are milliseconds (`_ms`) or microseconds (`_us`),
  money is whole nano-dollars (`_nano_usd`).
- "None" means not reported or unknown, never zero.
- Columns are added at the end with a default; older files are read with it. The version moves when a meaning changes.
- Prompts and answers stand in `recording` only, only where a feature asks for it, after redaction, and until `keep_until_wall_ms`.
- Files are merged now and then. While control runs, ask it rather than the files: during a merge a row may stand in an old and in a new file for a moment.
"""


def reference() -> str:
    """The page."""
    notes = _notes()
    return "\n".join([_HEAD.format(version=SCHEMA_VERSION), *(_table(table, notes) for table in TABLES.values())])


def _table(table: TableSchema, notes: dict[tuple[str, str], str]) -> str:
    about = inspect.getdoc(table.struct) or ""
    rows = [_row(column, notes.get((table.struct.__name__, column.name), "")) for column in table.columns]
    return "\n".join([f"## {table.name}", "", about, "", "| column | type | default | meaning |", "|---|---|---|---|", *rows, ""])


def _row(column: Column, note: str) -> str:
    kind = _KINDS[column.kind] + (" or None" if column.nullable else "")
    default = "required" if column.required else "" if column.default in ("", (), b"") else f"`{column.default}`"
    return f"| `{column.name}` | {kind} | {default} | {note} |"


def _notes() -> dict[tuple[str, str], str]:
    """The text below a field in ``model.py``, by struct and field."""
    found: dict[tuple[str, str], str] = {}
    for struct in ast.parse(inspect.getsource(model)).body:
        if not isinstance(struct, ast.ClassDef):
            continue
        for field, after in zip(struct.body, struct.body[1:], strict=False):
            is_note = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str)
            if is_note and isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                found[struct.name, field.target.id] = " ".join(str(after.value.value).replace("``", "`").split())  # type: ignore[attr-defined]
    return found


if __name__ == "__main__":
    sys.stdout.write(reference())
