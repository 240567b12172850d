"""A DuckLake: attached to a DuckDB connection, its tables brought to the present columns, and the index by which no segment counts twice.

Extensions come as packages of the extra headway[ducklake] and are loaded by path, with DuckDB's check of their signature; nothing is fetched. Every commit
of ours names its segment in the catalog's record of changes, in the same Postgres transaction as the rows. A unique index over that name is the fence:
two processes that store one segment at the same moment cannot both commit, whatever either of them had seen before.
"""

import importlib.util
from pathlib import Path
from typing import Any, Final

import duckdb
import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from headway.facts.columns import TABLES, Column
from headway.facts.lake_place import LakePlace, S3Place
from headway.facts.store import RECORDING
from headway.facts.views import SQL_TYPES, quoted
from headway.kernel.limits import FACT_FILE_BYTES_MAX, FACT_ROW_GROUP_ROWS

LAKE: Final = "lake"
STORED: Final = "stored_segment"
"""Which segments are in the lake: a row each, written with their rows."""
AUTHOR: Final = "headway segment"
_EXTENSIONS: Final = ("ducklake", "postgres_scanner", "httpfs")
_STORED_COLUMNS: Final = "gateway VARCHAR, run VARCHAR, number BIGINT, wall_ms BIGINT"
_OPTIONS: Final = {
    "target_file_size": f"{FACT_FILE_BYTES_MAX // 1024**2}MiB",
    "parquet_compression": "zstd",
    "parquet_row_group_size": f"{FACT_ROW_GROUP_ROWS}",
    "data_inlining_row_limit": "0",
}
"""Rows always go to files: recorded text must not end up in the catalog, where backups of the ledger would keep it."""
RECORDED_TEXT: Final = ("prompt", "answer")
_NO_TEXT: Final = """
CREATE OR REPLACE FUNCTION {schema}.headway_no_text() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN NEW.min_value := NULL; NEW.max_value := NULL; RETURN NEW; END $$
"""


class ExtensionMissing(duckdb.Error):
    """A DuckDB extension is not installed, or for another version of DuckDB."""


def conninfo(address: str) -> str:
    """``address`` as libpq takes it: SQLAlchemy's name of a driver goes. ``psycopg.ProgrammingError`` when it is none."""
    scheme, colon, rest = address.partition("://")
    return make_conninfo("", **conninfo_to_dict(f"{scheme.partition('+')[0]}{colon}{rest}"))


def attach(database: duckdb.DuckDBPyConnection, place: LakePlace) -> None:
    """Load the extensions and attach the lake as LAKE. ``duckdb.Error`` when that fails; its text holds no secret."""
    for name in _EXTENSIONS:
        database.execute(f"LOAD {quoted(str(_extension(name)))}")
    if place.s3 is not None:
        database.execute(_s3_secret(place.s3, place.data))
    target = quoted(f"ducklake:postgres:{conninfo(place.catalog)}")
    options = f"DATA_PATH {quoted(place.data.rstrip('/') + '/')}, METADATA_SCHEMA {quoted(place.schema)}"
    try:
        database.execute(f"ATTACH IF NOT EXISTS {target} AS {LAKE} ({options})")
    except duckdb.Error as error:
        raise duckdb.IOException(_unsecret(str(error), place)) from None


def prepare(database: duckdb.DuckDBPyConnection, place: LakePlace) -> None:
    """Tables, columns, options and the fence, whatever is there already. Processes that start together wait for each other."""
    with psycopg.connect(conninfo(place.catalog), autocommit=True) as catalog:
        catalog.execute("SELECT pg_advisory_lock(hashtext(%s))", (f"{place.schema}.prepare",))
        attach(database, place)
        found = _columns(database)
        for name, table in TABLES.items():
            for statement in _statements(name, table.columns, found.get(name)):
                database.execute(statement)
        if STORED not in found:
            database.execute(f"CREATE TABLE {LAKE}.{STORED} ({_STORED_COLUMNS})")
        _set_options(database)
        _fence(catalog, place.schema)
        _keep_text_out(catalog, place.schema)


def _fence(catalog: "psycopg.Connection[Any]", schema: str) -> None:
    """No two commits of ours with one segment's name."""
    statement = "CREATE UNIQUE INDEX IF NOT EXISTS headway_segment_once ON {}.ducklake_snapshot_changes (commit_extra_info) WHERE author = {}"
    catalog.execute(sql.SQL(statement).format(sql.Identifier(schema), sql.Literal(AUTHOR)))


def _keep_text_out(catalog: "psycopg.Connection[Any]", schema: str) -> None:
    """DuckLake notes the smallest and the largest value of each column, for good. Of recorded text it notes nothing: it would outlive its day."""
    names = {"schema": sql.Identifier(schema)}
    found = catalog.execute(
        sql.SQL(
            "SELECT c.table_id, c.column_id FROM {schema}.ducklake_column c JOIN {schema}.ducklake_table t USING (table_id) "
            "WHERE t.table_name = %s AND c.column_name = ANY(%s)"
        ).format(**names),
        (RECORDING, list(RECORDED_TEXT)),
    ).fetchall()
    catalog.execute(sql.SQL(_NO_TEXT).format(**names))
    for table in ("ducklake_file_column_stats", "ducklake_table_column_stats"):
        which = sql.SQL(" OR ").join(
            sql.SQL("(NEW.table_id = {} AND NEW.column_id = {})").format(sql.Literal(each), sql.Literal(column))
            for each, column in found
        )
        statement = "CREATE OR REPLACE TRIGGER headway_no_text BEFORE INSERT OR UPDATE ON {schema}.{table} FOR EACH ROW WHEN ({which}) EXECUTE FUNCTION {schema}.headway_no_text()"
        catalog.execute(sql.SQL(statement).format(**names, table=sql.Identifier(table), which=which))


def _statements(name: str, columns: tuple[Column, ...], have: set[str] | None) -> list[str]:
    """What makes a table of the lake have ``columns``. A table of a newer version keeps what it has more."""
    if have is None:
        return [f"CREATE TABLE {LAKE}.{name} ({', '.join(_column(column) for column in columns)})"]
    return [f"ALTER TABLE {LAKE}.{name} ADD COLUMN {_column(column)}" for column in columns if column.name not in have]


def _column(column: Column) -> str:
    default = "" if column.required or column.nullable or column.default in ((), b"") else f" DEFAULT {_plain(column.default)}"
    return f'"{column.name}" {SQL_TYPES[column.kind]}{default}'


def _plain(default: object) -> str:
    return quoted(default) if isinstance(default, str) else str(default).lower()


def _columns(database: duckdb.DuckDBPyConnection) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    rows = database.execute("SELECT table_name, column_name FROM duckdb_columns() WHERE database_name = ?", [LAKE]).fetchall()
    for table, column in rows:
        found.setdefault(table, set()).add(column)
    return found


def _set_options(database: duckdb.DuckDBPyConnection) -> None:
    rows: list[tuple[Any, ...]] = database.execute(f"SELECT option_name, value FROM ducklake_options('{LAKE}')").fetchall()
    have = dict(rows)
    for name, value in _OPTIONS.items():
        if name not in have:
            database.execute(f"CALL {LAKE}.set_option(?, ?)", [name, value])


def _extension(name: str) -> Path:
    package = f"duckdb_extension_{name}"
    spec = importlib.util.find_spec(package)
    folder = Path(spec.origin).parent if spec is not None and spec.origin else None
    path = folder / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension" if folder else None
    if path is None or not path.exists():
        wanted = f"duckdb-extension-{name.replace('_', '-')}=={duckdb.__version__}"
        raise ExtensionMissing(
            f"DuckDB's extension {name} is not here for {duckdb.__version__}: pip install 'headway[ducklake]' brings {wanted}"
        )
    return path


def _s3_secret(place: S3Place, scope: str) -> str:
    scheme, _, host = place.endpoint.rpartition("://")
    parts = [f"TYPE s3, REGION {quoted(place.region)}, SCOPE {quoted(scope)}"]
    if place.key:
        parts.append(f"KEY_ID {quoted(place.key)}, SECRET {quoted(place.secret)}")
    if host:
        parts.append(f"ENDPOINT {quoted(host.rstrip('/'))}, URL_STYLE 'path', USE_SSL {'false' if scheme == 'http' else 'true'}")
    return f"CREATE OR REPLACE SECRET facts_s3 ({', '.join(parts)})"


def _unsecret(text: str, place: LakePlace) -> str:
    password = conninfo_to_dict(conninfo(place.catalog)).get("password")
    for secret in (str(password or ""), place.s3.secret if place.s3 else ""):
        text = text.replace(secret, "***") if secret else text
    return text
