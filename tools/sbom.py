"""``make sbom``: what an installation consists of, as CycloneDX 1.6 JSON, one file for each runtime lock. Reads only what is here.

Names, versions and hashes come from the lock (one SHA-256 for each file that a registry may hand out), licences from the metadata of what is
installed, the board's scripts from its static folder. The same lock gives the same file: no time, no random number, no address.
"""

import argparse
import hashlib
import json
import re
import sys
import uuid
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ("gateway", "serve")
"""What runs: ``pip install headway`` and ``headway[serve]``."""
STATIC = ROOT / "src" / "headway" / "control" / "static"
PINNED = re.compile(
    r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==(\S+)(?: ; (.*?))? \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE
)
VENDORED = re.compile(r"(.+)-(\d+(?:\.\d+)+)\.min\.js")
VENDORED_LICENCES = {"htmx": "0BSD", "htmx-ext-sse": "0BSD", "uPlot": "MIT"}
CLASSIFIERS = {
    "MIT License": "MIT",
    "Apache Software License": "Apache-2.0",
    "ISC License (ISCL)": "ISC",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
NAME_CHARS_MAX = 100


def licences(name: str) -> list[dict[str, Any]]:
    """As the package states them: an SPDX expression, else classifiers, else a short text; empty when it is not installed here."""
    try:
        told = metadata(name)
    except PackageNotFoundError:
        return []
    if "License-Expression" in told:
        return [{"expression": told["License-Expression"]}]
    stated = [each.rpartition(" :: ")[2] for each in told.get_all("Classifier") or () if each.startswith("License :: ")]
    found = [CLASSIFIERS.get(each, each) for each in stated if each != "OSI Approved"]
    if not found and "License" in told:
        found = [line[:NAME_CHARS_MAX] for line in told["License"].strip().splitlines()[:1]]
    spdx = set(CLASSIFIERS.values())
    return [{"license": {"id" if each in spdx else "name": each}} for each in found]


def packages(lock: str) -> list[dict[str, Any]]:
    """One component for each pin; where a pin is for some machines only, its marker says which."""
    found = []
    for name, version, marker, hashes in PINNED.findall(lock):
        component: dict[str, Any] = {
            "type": "library",
            "bom-ref": f"pkg:pypi/{name}@{version}",
            "name": name,
            "version": version,
            "purl": f"pkg:pypi/{name}@{version}",
            "hashes": [{"alg": "SHA-256", "content": each} for each in re.findall(r"sha256:([0-9a-f]{64})", hashes)],
        }
        if stated := licences(name):
            component["licenses"] = stated
        if marker:
            component["properties"] = [{"name": "headway:marker", "value": marker}]
        found.append(component)
    return found


def scripts() -> list[dict[str, Any]]:
    """The board's vendored scripts."""
    found = []
    for path in sorted(STATIC.iterdir()):
        if match := VENDORED.fullmatch(path.name):
            name, version = match.groups()
            found.append(
                {
                    "type": "library",
                    "bom-ref": f"pkg:npm/{name}@{version}",
                    "name": name,
                    "version": version,
                    "purl": f"pkg:npm/{name}@{version}",
                    "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(path.read_bytes()).hexdigest()}],
                    "licenses": [{"license": {"id": VENDORED_LICENCES[name]}}],
                }
            )
    return found


def bom(name: str) -> dict[str, Any]:
    """The document of ``requirements/NAME.txt``."""
    lock = (ROOT / "requirements" / f"{name}.txt").read_text()
    components = packages(lock) + (scripts() if name == "serve" else [])
    version = re.search(r'^__version__ = "(.+)"', (ROOT / "src/headway/__init__.py").read_text(), re.MULTILINE)
    assert version is not None
    own = {"type": "application", "bom-ref": "headway", "name": "headway", "version": version[1]}
    document: dict[str, Any] = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {**own, "licenses": [{"license": {"id": "Apache-2.0"}}]}},
        "components": components,
        "dependencies": [{"ref": "headway", "dependsOn": [component["bom-ref"] for component in components]}],
    }
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
    return document | {"serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, digest)}"}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python tools/sbom.py", description="Bills of materials of the runtime locks.")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "sbom", help="folder to write to")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for name in LOCKS:
        document = bom(name)
        path = out / f"headway-{name}.cdx.json"
        path.write_text(json.dumps(document, indent=1) + "\n")
        unlicensed = [each["name"] for each in document["components"] if "licenses" not in each]
        left = f"; without a licence, since they are not installed here: {', '.join(unlicensed)}" if unlicensed else ""
        print(f"written: {path}: {len(document['components'])} components{left}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
