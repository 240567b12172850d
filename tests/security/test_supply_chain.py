"""What is installed is what is in the tree: the wheel byte for byte, what starts by itself, what the locks name."""

import base64
import hashlib
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def tracked() -> set[str]:
    """Files under src/headway that are in the repository, as the wheel names them."""
    done = subprocess.run(["git", "ls-files", "-z", "src/headway"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode or not done.stdout:
        pytest.skip("this is no checkout of the repository")
    return {name.removeprefix("src/") for name in done.stdout.split("\0") if name}


def test_the_wheel_is_the_repository_byte_for_byte(wheel: zipfile.ZipFile) -> None:
    inside = {name for name in wheel.namelist() if ".dist-info/" not in name}
    here = tracked()
    untracked = {name for name in inside - here if (SOURCE / name).exists()}
    assert inside - untracked == {name for name in here if (SOURCE / name).exists()}  # work in progress is no release
    assert all(wheel.read(name) == (SOURCE / name).read_bytes() for name in inside)


def test_nothing_starts_by_itself(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    assert not [name for name in names if name.endswith((".pth", ".so", ".dll", ".exe", ".pyc")) or ".data/" in name]
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"headway"}
    meta = {name.partition(".dist-info/")[2] for name in names if ".dist-info/" in name}
    assert meta == {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
    points = wheel.read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
    assert re.findall(r"(?m)^\[.*\]$", points) == ["[console_scripts]"]
    assert re.findall(r"(?m)^(\S+) =", points) == ["headway"]


def test_the_record_of_the_wheel_is_true(wheel: zipfile.ZipFile) -> None:
    record = next(name for name in wheel.namelist() if name.endswith("/RECORD"))
    lines = [line.rsplit(",", 2) for line in wheel.read(record).decode().splitlines()]
    assert {name for name, _, _ in lines} == set(wheel.namelist())
    for name, told, size in lines:
        if name != record:
            data = wheel.read(name)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            assert (told, size) == (f"sha256={digest}", str(len(data))), name


def test_no_file_of_the_tree_holds_what_looks_like_a_key(wheel: zipfile.ZipFile) -> None:
    form = re.compile(
        rb"\b(AKIA[0-9A-Z]{16}|AIza[0-9A-Za-z_-]{35}|gh[pousr]_[0-9A-Za-z]{36}|sk-(ant-|proj-)[0-9A-Za-z_-]{40,})|-----BEGIN [A-Z ]*PRIVATE KEY-----\n"
    )
    assert [name for name in wheel.namelist() if form.search(wheel.read(name))] == []


@pytest.mark.parametrize("path", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda path: path.name)
def test_each_requirement_is_pinned_and_hashed(path: Path) -> None:
    """One line a package, ``==``, and hashes below it: no address, no option, no path, no version control."""
    text = re.sub(r"(?m)^\s*#.*\n", "", path.read_text())
    blocks = [block for block in re.split(r"\n(?! )", text) if block.strip()]
    assert blocks
    for block in blocks:
        head, *rest = [
            line.strip().rstrip("\\").strip() for line in block.splitlines() if line.strip() and not line.strip().startswith("#")
        ]
        assert re.fullmatch(r"[A-Za-z0-9._-]+(\[[a-z, ]+\])?==[^\s;]+( ; .+)?", head), head
        assert rest, head
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", line) for line in rest), head
