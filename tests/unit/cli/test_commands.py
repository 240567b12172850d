"""The command line as people meet it: quick help, three-line errors, exit codes, tables that fit."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.cli import main
from headway.cli.common import WIDTH, ago, layout
from headway.cli.keys import span_s
from headway.cli.root import COMMANDS
from headway.cli.trouble import MISSING, NOT_AS_WANTED, UNUSABLE


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("headway.config.init.discover", lambda *_: {})
    return tmp_path


def three_lines(text: str) -> tuple[str, str, str]:
    lines = text.strip().splitlines()
    assert [line.partition(":")[0] for line in lines] == ["error", "why", "do"]
    what, why, fix = (line.partition(": ")[2] for line in lines)
    return what, why, fix


def test_help_loads_no_command_and_nothing_heavy() -> None:
    code = (
        "import sys; from headway.cli import main; main(['--help'])\n"
        "print('LOADED', sorted(m for m in sys.modules if m.startswith('headway.cli.') or m in ('fastapi', 'aiohttp', 'sqlalchemy')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "LOADED ['headway.cli.root', 'headway.cli.trouble']" in done.stdout
    assert all(name in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_the_help_that_is_listed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"Usage: headway {name}")


def test_alone_it_says_what_to_do_next(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "next: headway init" in capsys.readouterr().out
    (folder / "headway.toml").write_text("lisen = 1\n")
    assert main([]) == 0
    assert "next: headway check" in capsys.readouterr().out
    (folder / "headway.toml").write_text("[gateway]\nlisten = '127.0.0.1:1'\n[control]\nlisten = '127.0.0.1:2'\n")
    assert main([]) == 0
    assert "next: headway serve" in capsys.readouterr().out


def test_an_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["kys"]) == UNUSABLE
    what, _, fix = three_lines(capsys.readouterr().err)
    assert (what, fix) == ("there is no command 'kys'", "headway keys")


def test_wrong_options_are_three_lines_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calls", "tail", "--lst", "3"]) == UNUSABLE
    assert three_lines(capsys.readouterr().err)[2] == "headway calls tail --help"
    assert main(["keys", "create", "--expires", "soon"]) in (UNUSABLE, MISSING)


def test_init_writes_once_and_check_explains(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headway.cli.init.discover", dict)
    assert main(["init"]) == 0
    assert len((folder / "headway.toml").read_text().splitlines()) == 8
    capsys.readouterr()
    assert main(["init"]) == NOT_AS_WANTED
    assert "is there already" in three_lines(capsys.readouterr().err)[0]
    assert main(["check"]) == NOT_AS_WANTED
    out = capsys.readouterr().out
    assert "NO  providers.openai.key  env:OPENAI_API_KEY is not set" in out
    assert max(map(len, out.splitlines())) <= WIDTH
    monkeypatch.setenv("OPENAI_API_KEY", "canary-value")
    (folder / "headway.toml").write_text(
        (folder / "headway.toml").read_text() + "[gateway]\nlisten = '127.0.0.1:0'\n[control]\nlisten = '127.0.0.1:0'\n"
    )
    assert main(["check", "--json"]) == 0
    text = capsys.readouterr().out
    told = json.loads(text)
    assert told["values"]["providers.openai.key"] == {"value": "env:OPENAI_API_KEY", "origin": "headway.toml:5"}
    assert told["values"]["gateway.drain_s"] == {"value": 30, "origin": "default"}
    assert "canary-value" not in text


def test_check_tells_every_problem(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "headway.toml").write_text("[gateway]\nlisen = 'x'\n[control]\nlistn = 'y'\n")
    assert main(["check"]) == UNUSABLE
    out = capsys.readouterr().out
    assert "headway.toml:2:" in out
    assert "headway.toml:4:" in out
    assert "2 problems" in out
    assert main(["check", "--json"]) == UNUSABLE
    assert [p["where"] for p in json.loads(capsys.readouterr().out)["problems"]] == ["headway.toml:2", "headway.toml:4"]


def test_check_finds_a_port_that_is_taken_and_a_folder_that_cannot_be_written(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import socket

    (folder / "file").write_text("")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (folder / "headway.toml").write_text(
            f"[gateway]\nlisten = '127.0.0.1:{port}'\n[control]\nlisten = '127.0.0.1:0'\n[state]\ndir = 'file/state'\n"
            "[providers.a]\npreset = 'vllm'\n"
        )
        assert main(["check", "--json"]) == NOT_AS_WANTED
    found = {one["subject"]: one for one in json.loads(capsys.readouterr().out)["machine"]}
    assert found["gateway.listen"] == {
        "subject": "gateway.listen",
        "ok": False,
        "detail": f"127.0.0.1:{port}: Address already in use",
    }
    assert not found["state.dir"]["ok"]
    assert found["control.listen"]["ok"]


def test_serve_refuses_a_taken_port_precisely(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (folder / "headway.toml").write_text(f"[gateway]\nlisten = '127.0.0.1:{port}'\n[providers.a]\npreset = 'vllm'\n")
        assert main(["serve"]) == UNUSABLE
    _, why, _ = three_lines(capsys.readouterr().err)
    assert why.startswith(
        f"gateway.listen: 127.0.0.1:{port} cannot be listened on: Address already in use (stop what listens there"
    )


def test_without_control_the_error_says_how_to_start_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "list"]) == MISSING
    assert "headway serve" in three_lines(capsys.readouterr().err)[2]
    (folder / ".headway").mkdir()
    (folder / ".headway/control.token").write_text("t\n")
    (folder / "headway.toml").write_text("[control]\nlisten = '127.0.0.1:1'\n")
    assert main(["keys", "list"]) == MISSING
    assert three_lines(capsys.readouterr().err)[0] == "control does not answer at http://127.0.0.1:1"


cells = st.text("abc é", max_size=150)


@given(st.lists(st.tuples(cells, cells, cells, cells), min_size=1, max_size=5))
def test_tables_fit_and_keep_their_columns(rows: list[tuple[str, ...]]) -> None:
    lines = layout(("one", "two", "three", "four"), rows, right=(1,))
    assert len(lines) == len(rows) + 1
    assert max(map(len, lines)) <= WIDTH


def test_times_for_people() -> None:
    assert [ago(0, ms) for ms in (4_000, 180_000, 10_800_000, 200_000_000)] == ["4 s", "3 min", "3 h", "2 d"]
    assert (span_s("30d"), span_s("90s")) == (2_592_000, 90)
