"""The reference page says what the structs say; and what the gateway imports of this room stays light."""

import subprocess
import sys
from pathlib import Path

from headway.facts.columns import TABLES
from headway.facts.reference import reference

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "facts.md"


def test_the_page_is_fresh() -> None:
    assert PAGE.read_text() == reference(), "run: python -m headway.facts.reference > docs/reference/facts.md"


def test_every_column_is_there() -> None:
    page = reference()
    for name, table in TABLES.items():
        section = page.split(f"## {name}\n")[1].split("\n## ")[0]
        assert section.count("\n| `") == len(table.columns)


def test_the_gateway_side_loads_nothing_heavy() -> None:
    code = (
        "import sys, headway.facts.spool, headway.facts.token_times, headway.facts.redaction, headway.gateway.families, headway.kernel.logs;"
        "bad = {'pyarrow', 'duckdb', 'ibis', 'numpy', 'pydantic', 'sqlalchemy', 'opentelemetry'} & set(sys.modules); sys.exit(str(bad) if bad else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
