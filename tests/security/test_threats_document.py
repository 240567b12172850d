"""docs/threats.md names tests; each must exist, or the mitigation it stands for is hearsay."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_test_that_the_document_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "threats.md").read_text()))
    assert len(named) > 50
    defined: set[str] = set()
    for path in (found for found in (ROOT / "tests").rglob("test_*.py") if "node_modules" not in found.parts):
        text = path.read_text()
        defined |= set(re.findall(r"def (test_\w+)\(", text))
    assert sorted(named - defined) == []


def test_every_conformance_check_that_the_document_names_exists() -> None:
    text = (ROOT / "docs" / "threats.md").read_text()
    checks = (ROOT / "src" / "headway" / "gateway" / "upstream" / "conformance.py").read_text()
    for group in re.findall(r"`test_adapter_conforms` \(([^)]*)\)", text):
        for name in re.findall(r"`(\w+)`", group):
            assert f"async def {name}(" in checks, name
