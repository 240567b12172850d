"""Copies what the board serves from ``node_modules`` into the package as NAME-VERSION.min.EXT, and writes the list of hashes.

cd assets && npm ci && python vendor.py          copies
python assets/vendor.py --check                  compares what is in the package with the list, without npm
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
STATIC = HERE.parent / "src" / "headway" / "control" / "static"
HASHES = HERE / "vendored.sha256"
WANTED = {
    # package: (file in the package, name that it gets, extension)
    "htmx.org": (("dist/htmx.min.js", "htmx", "min.js"),),
    "htmx-ext-sse": (("dist/sse.min.js", "htmx-ext-sse", "min.js"),),
    "uplot": (("dist/uPlot.iife.min.js", "uPlot", "min.js"), ("dist/uPlot.min.css", "uPlot", "min.css")),
}


def wanted_files() -> dict[str, tuple[str, str]]:
    """Name in the package -> (npm package, file in it), with the versions that package.json pins."""
    pins = json.loads((HERE / "package.json").read_text())["dependencies"]
    return {f"{name}-{pins[package]}.{end}": (package, path) for package, files in WANTED.items() for path, name, end in files}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def copy() -> None:
    """Copy every wanted file, remove other versions of it, write the hashes."""
    wanted = wanted_files()
    stems = tuple(f"{name}-" for files in WANTED.values() for _, name, _ in files)
    for old in STATIC.iterdir():
        if old.name not in wanted and ".min." in old.name and old.name.startswith(stems):
            old.unlink()
    for name, (package, path) in wanted.items():
        (STATIC / name).write_bytes((HERE / "node_modules" / package / path).read_bytes())
    HASHES.write_text("".join(f"{digest(STATIC / name)}  {name}\n" for name in sorted(wanted)))


def check() -> list[str]:
    """What differs from the list; empty when all is as it was vendored."""
    listed = dict(reversed(line.split("  ", 1)) for line in HASHES.read_text().splitlines())
    found = [f"{name} is pinned in package.json but not vendored" for name in sorted(wanted_files().keys() - listed.keys())]
    for name, want in listed.items():
        path = STATIC / name
        if not path.is_file():
            found.append(f"{name} is missing from control/static")
        elif digest(path) != want:
            found.append(f"{name} is not the file that was vendored")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare only")
    if not parser.parse_args().check:
        copy()
    problems = check()
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
