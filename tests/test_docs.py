"""The documents keep up with the code: generated pages are fresh, links lead somewhere, commands and settings that they name exist."""

import importlib.util
import re
import tomllib
from pathlib import Path

import click
import pytest

from headway.cli.root import headway
from headway.config.load import parse

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
HAND_WRITTEN = [page for page in PAGES if "docs/reference" not in str(page)]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"\bheadway ((?:[a-z]+(?:-[a-z]+)* ?){1,2})")

spec = importlib.util.spec_from_file_location("reference", ROOT / "tools" / "reference.py")
assert spec is not None
assert spec.loader is not None
reference = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reference)


@pytest.mark.parametrize("name", sorted(reference.PAGES))
def test_generated_pages_are_fresh(name: str) -> None:
    assert (ROOT / "docs/reference" / name).read_text() == reference.PAGES[name](), "run make docs"


def test_every_error_code_says_what_to_do() -> None:
    codes = {cls.code for cls in reference.walk(reference.errors.CallError)}
    assert set(reference.FIXES) == codes


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" not in target:
            path, _, anchor = target.partition("#")
            found = (page.parent / path).resolve()
            assert found.exists(), target
            if anchor:
                heads = re.findall(r"^#+ (.*)$", found.read_text(), re.MULTILINE)
                assert anchor in {re.sub(r"[^a-z0-9 -]", "", head.lower()).replace(" ", "-") for head in heads}, target


def exists(words: list[str]) -> bool:
    command: click.Command = headway
    for word in words:
        if not isinstance(command, click.Group):
            return True  # an argument
        found = command.get_command(click.Context(command), word)
        if found is None:
            return False
        command = found
    return True


@pytest.mark.parametrize("page", HAND_WRITTEN, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_that_are_named_exist(page: Path) -> None:
    text = page.read_text()
    code = [line for _, block in BLOCK.findall(text) for line in block.splitlines() if line.startswith(("$ headway", "# headway"))]
    code += re.findall(r"`(headway [^`]*)`", text)
    for line in code:
        for words in COMMAND.findall(line):
            assert exists(words.split()), line


@pytest.mark.parametrize("page", HAND_WRITTEN, ids=lambda page: str(page.relative_to(ROOT)))
def test_configuration_that_is_shown_loads(page: Path) -> None:
    for kind, block in BLOCK.findall(page.read_text()):
        if kind == "toml":
            raw = tomllib.loads(block)
            if not set(raw) <= {"deadline_ms"}:  # a line to put under a table that is there
                names = re.findall(r'^features = \["(.*?)"\]', block, re.MULTILINE)
                rest = "".join(
                    f'\n[features.{n}]\ntargets = ["p/m"]\n[providers.p]\npreset = "vllm"\n'
                    for n in names
                    if n not in raw.get("features", {})
                )
                parse(block + rest)


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 150


def test_the_changelog_knows_this_version() -> None:
    from headway import __version__

    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()
