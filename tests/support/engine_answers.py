"""``python engine_answers.py chdb|spark FOLDER OUT``: every case on that engine, as JSON: {case: {"columns", "rows"}}. Runs in .venv-engines."""

import json
import os
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import ibis
from engine_cases import CASES

TABLES = ("call", "attempt", "span", "recording")
SETTINGS = {"join_use_nulls": 1, "schema_inference_make_columns_nullable": 1}
"""ClickHouse fills the unmatched side of a join with zeros unless told; Parquet's columns may hold nulls."""
Answer = dict[str, Any]


def chdb_answers(folder: Path) -> Callable[[Any], Answer]:
    from chdb.session import Session

    session = Session(tempfile.mkdtemp(prefix="headway-chdb-"))
    for name, value in SETTINGS.items():
        session.query(f"SET {name} = {value}")
    session.query("CREATE DATABASE IF NOT EXISTS facts ENGINE = Atomic")
    session.query("USE facts")
    for table in TABLES:
        session.query(f"CREATE VIEW {table} AS SELECT * FROM file('{folder / table}/*.parquet', Parquet)")

    def ask(expression: Any) -> Answer:
        told = str(session.query(str(ibis.to_sql(expression, dialect="clickhouse")), "JSONCompact"))
        found = json.loads(told)
        columns, kinds = [each["name"] for each in found["meta"]], [each["type"] for each in found["meta"]]
        return {
            "columns": columns,
            "rows": [[_clickhouse(v, kind) for v, kind in zip(row, kinds, strict=True)] for row in found["data"]],
        }

    return ask


def _clickhouse(value: Any, kind: str) -> Any:
    """JSON holds 64-bit numbers of ClickHouse as text."""
    if value is None:
        return None
    if kind.startswith("Nullable("):
        return _clickhouse(value, kind[len("Nullable(") : -1])
    if kind.startswith("Array("):
        return [_clickhouse(each, kind[len("Array(") : -1]) for each in value]
    return int(value) if kind.startswith(("Int", "UInt")) else value


def spark_answers(folder: Path) -> Callable[[Any], Answer]:
    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    import pyspark
    from pyspark.sql import SparkSession

    os.environ.setdefault("SPARK_HOME", str(Path(pyspark.__file__).parent))
    session = (
        SparkSession.builder.master(os.environ.get("HEADWAY_SPARK_MASTER", "local-cluster[2,1,1024]"))
        .appName("headway facts")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.shuffle.partitions", "4")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")
    backend = ibis.pyspark.connect(session)
    for table in TABLES:
        session.read.parquet(str(folder / table)).createOrReplaceTempView(table)

    def ask(expression: Any) -> Answer:
        frame = session.sql(str(backend.compile(expression)))
        return {"columns": list(frame.columns), "rows": [[_spark(value) for value in row] for row in frame.collect()]}

    return ask


def _spark(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, bytes | bytearray):
        return bytes(value).decode("latin-1")
    return list(value) if isinstance(value, list | tuple) else value


def main() -> None:
    engine, folder, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    ask = {"chdb": chdb_answers, "spark": spark_answers}[engine](folder)
    answers: dict[str, Answer] = {}
    for name, make in CASES.items():
        try:
            answers[name] = ask(make())
        except Exception as error:  # noqa: BLE001 (an engine that cannot run one question still answers the others)
            answers[name] = {"error": f"{type(error).__name__}: {str(error)[:2000]}"}
    told = {"engine": engine, "versions": _versions(), "at": datetime.now(UTC).date().isoformat(), "answers": answers}
    out.write_text(json.dumps(told))


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("ibis-framework", "chdb", "chdb-core", "pyspark")}


if __name__ == "__main__":
    main()
