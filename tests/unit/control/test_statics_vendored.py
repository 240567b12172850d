"""What the board serves of others is what was vendored: no edit, no second version, no address of a content network."""

import importlib.util
from pathlib import Path

ASSETS = Path(__file__).parents[3] / "assets"
STATIC = Path(__file__).parents[3] / "src" / "headway" / "control" / "static"


def vendor():
    spec = importlib.util.spec_from_file_location("vendor", ASSETS / "vendor.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_vendored_files_are_as_listed_and_as_pinned():
    assert vendor().check() == []


def test_no_other_version_lies_about_and_pages_name_the_pinned_one():
    wanted = set(vendor().wanted_files())
    assert {path.name for path in STATIC.iterdir() if ".min." in path.name} == wanted
    templates = "".join(path.read_text() for path in (STATIC.parent / "templates").glob("*.html"))
    for name in wanted:
        assert f"asset('{name}')" in templates


def test_no_own_file_names_another_origin():
    for path in (*STATIC.glob("*.css"), *STATIC.glob("*.js"), *(STATIC.parent / "templates").glob("*.html")):
        if ".min." not in path.name:
            assert "//" not in path.read_text().replace("// ", "").replace("http://www.w3.org", ""), path.name


def test_lock_file_holds_no_download_addresses():
    text = (ASSETS / "package-lock.json").read_text()
    assert '"resolved"' not in text
    assert "integrity" in text
