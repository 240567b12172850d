"""The contract of the portable subset: the named queries mean the same on DuckDB, on ClickHouse's engine (chdb) and on Spark.

`make engines` builds .venv-engines (about 1.5 GB); Spark needs Java 17 or newer. Values are compared column by column: integers, text and lists equal,
reals within 1e-9 of each other, relative.
"""

import importlib
import inspect
import json
import math
import os
import pkgutil
import shutil
import subprocess
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import engine_data
import ibis.expr.types as ir
import pytest
from engine_cases import CASES

from headway import facts
from headway.facts.views import view

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-engines" / "bin" / "python"
SEED = 11
ENGINES = ("chdb", "spark")
NO_QUERY = {"queries.table", "queries.matching"}
"""Parts of queries."""
LIMIT_S = 500
KNOWN = {
    (
        "chdb",
        "phase_queries.heads",
    ): "ClickHouse's substring counts bytes where the others count characters: a head is shorter there"
}
"""Differences that stand, by engine and case, each with its reason; one that goes away fails."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("facts")
    engine_data.write(made, SEED)
    return made


@pytest.fixture(scope="module")
def here(folder: Path) -> dict[str, Any]:
    """DuckDB's answers, through the views of the product."""
    with duckdb.connect(":memory:") as database:
        for table in engine_data.TABLES:
            database.execute(view(table, tuple(sorted((folder / table).glob("*.parquet")))))
        return {name: _here(database, make()) for name, make in CASES.items()}


@pytest.fixture(scope="module", params=ENGINES)
def there(request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Another engine's answers. Skips with what is missing."""
    engine = str(request.param)
    if not PYTHON.exists():
        pytest.skip("no .venv-engines; make engines builds it")
    if engine == "spark" and shutil.which("java") is None:
        pytest.skip("Spark needs Java 17 or newer, and there is no java; apt install openjdk-17-jre-headless")
    out = tmp_path_factory.mktemp(engine) / "answers.json"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT / "tests" / "support")))}
    script = ROOT / "tests" / "support" / "engine_answers.py"
    done = subprocess.run(
        [PYTHON, script, engine, folder, out], cwd=out.parent, env=env, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    told: dict[str, Any] = json.loads(out.read_text())
    return told


@pytest.mark.parametrize("case", CASES)
def test_equal_to_duckdb(case: str, here: dict[str, Any], there: dict[str, Any]) -> None:
    mine, theirs = here[case], there["answers"][case]
    known = KNOWN.get((there["engine"], case))
    if known:
        assert theirs["rows"] != mine["rows"], f"no longer so: {known}"
        pytest.xfail(known)
    assert "error" not in theirs, theirs["error"]
    assert theirs["columns"] == mine["columns"]
    assert len(theirs["rows"]) == len(mine["rows"])
    assert mine["rows"], "the question finds nothing, so it proves nothing"
    for column, name in enumerate(mine["columns"]):
        for row, (one, other) in enumerate(zip(mine["rows"], theirs["rows"], strict=True)):
            assert same(one[column], other[column]), (name, row, one[column], other[column])


def test_every_named_query_has_a_case() -> None:
    covered = {".".join(name.split(".")[:2]) for name in CASES}
    found = set()
    modules = [each.name for each in pkgutil.iter_modules(facts.__path__) if each.name.endswith("queries")]
    for module in modules:
        loaded = importlib.import_module(f"headway.facts.{module}")
        for name, function in inspect.getmembers(loaded, inspect.isfunction):
            own = function.__module__ == loaded.__name__
            if own and not name.startswith("_") and inspect.signature(function).return_annotation is ir.Table:
                found.add(f"{module}.{name}")
    assert found - covered - NO_QUERY == set()


def same(one: Any, other: Any) -> bool:
    if isinstance(one, float) or isinstance(other, float):
        if one is None or other is None:
            return one is other
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    return bool(one == other)


def _here(database: duckdb.DuckDBPyConnection, expression: ir.Table) -> dict[str, Any]:
    queries = importlib.import_module("headway.facts.queries")
    found = database.execute(queries.sql(expression)).to_arrow_table()
    return {
        "columns": found.column_names,
        "rows": [[_plain(row[name]) for name in found.column_names] for row in found.to_pylist()],
    }


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value
