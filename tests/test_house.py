"""What rots when it is only prose: no import cycle, docstrings, limits in use, nothing swallowed, a wheel that holds the tree and no more."""

import ast
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "headway"
MODULES = sorted(SOURCE.rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(path): path for path in MODULES}
TREES = {name: ast.parse(path.read_text()) for name, path in NAMES.items()}


def statements(tree: ast.AST) -> Iterator[ast.stmt]:
    """Statements that run when the module is imported, without those under TYPE_CHECKING."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.stmt) and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
            yield from statements(node)


def imports_of(name: str) -> set[str]:
    found: set[str] = set()
    for node in statements(TREES[name]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {full if (full := f"{node.module}.{alias.name}") in NAMES else node.module for alias in node.names}
    return {target for target in found if target in NAMES and target != name}


def test_there_is_no_import_cycle() -> None:
    graph = {name: imports_of(name) for name in NAMES}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail[trail.index(name) :], name))
        if name not in done:
            for target in sorted(graph[name]):
                visit(target, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_module_says_what_it_is(name: str) -> None:
    text = ast.get_docstring(TREES[name])
    assert text, f"{name} has no docstring"
    assert len(text) > 15, f"{name}: {text!r}"


def test_nothing_is_swallowed_and_nothing_is_global() -> None:
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            assert not isinstance(node, ast.Global), f"{name}:{node.lineno} declares a global"
            if isinstance(node, ast.ExceptHandler) and all(isinstance(statement, ast.Pass) for statement in node.body):
                caught = ast.unparse(node.type) if node.type else "everything"
                assert caught not in ("everything", "Exception", "BaseException"), f"{name}:{node.lineno} swallows {caught}"


def test_every_limit_is_used_and_told_once() -> None:
    names = [
        t.id for n in TREES["headway.kernel.limits"].body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)
    ]
    assert len(names) == len(set(names))
    text = "\n".join(path.read_text() for name, path in NAMES.items() if name != "headway.kernel.limits")
    assert [name for name in names if not re.search(rf"\b{name}\b", text)] == []


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_the_tree_and_no_start_up_file(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert not [name for name in names if name.endswith(".pth")]
    tree = {
        str(path.relative_to(SOURCE.parent))
        for path in SOURCE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    }
    assert names == tree


def test_the_local_model_is_in_no_extra_of_ours() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    assert not re.search(r"llama|smollm", text.partition("[tool.")[0], re.IGNORECASE)
