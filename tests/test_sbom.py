"""The bills of materials name all that is locked, with its hashes and licences, and are the same each time."""

import hashlib
import importlib.util
import json
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location("sbom", ROOT / "tools" / "sbom.py")
assert spec is not None
assert spec.loader is not None
sbom = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sbom)


def installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


@pytest.mark.parametrize("name", sbom.LOCKS)
def test_the_bill_names_all_that_is_locked(name: str) -> None:
    lock = (ROOT / "requirements" / f"{name}.txt").read_text()
    document = sbom.bom(name)
    libraries: list[dict[str, Any]] = [c for c in document["components"] if c["purl"].startswith("pkg:pypi/")]
    pinned = re.findall(r"^([A-Za-z0-9._-]+)(?:\[.*\])?==(\S+)", lock, re.MULTILINE)
    assert [(c["name"], c["version"]) for c in libraries] == pinned
    assert sum(len(c["hashes"]) for c in libraries) == lock.count("--hash=sha256:")
    assert [c["name"] for c in libraries if installed(c["name"]) and not c.get("licenses")] == []
    references = [c["bom-ref"] for c in document["components"]]
    assert len(references) == len(set(references))
    assert document["dependencies"] == [{"ref": "headway", "dependsOn": references}]
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")


def test_the_boards_scripts_are_in_it() -> None:
    scripts = {c["name"]: c for c in sbom.bom("serve")["components"] if c["purl"].startswith("pkg:npm/")}
    assert set(scripts) == {"htmx", "htmx-ext-sse", "uPlot"}
    for name, found in scripts.items():
        path = sbom.STATIC / f"{name}-{found['version']}.min.js"
        assert found["hashes"][0]["content"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_it_is_the_same_each_time_and_holds_no_address() -> None:
    one, two = (json.dumps(sbom.bom("serve")) for _ in range(2))
    assert one == two
    assert "://" not in one
    assert re.search(r'"serialNumber": "urn:uuid:[0-9a-f-]{36}"', one)


def test_a_package_that_is_not_installed_has_no_licence_told_of_it() -> None:
    assert sbom.licences("no-such-package-anywhere") == []
