"""``headway serve`` and ``headway demo`` with real processes: started again when killed, drained when told, nothing left behind."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headway.app_child import Child, LogFile
from headway.config.load import parse
from headway.kernel import limits
from headway.lab.demo import Demo, demo_text
from headway.lab.demo_calls import _text, healthy
from headway.lab.model_server import free_port

PATIENCE_S = 30.0


def eventually(true: Callable[[], object], what: str) -> None:
    until = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < until, f"never: {what}"
        time.sleep(0.05)


async def test_a_child_that_dies_is_started_again_and_its_lines_are_kept(tmp_path: Path) -> None:
    shown: list[str] = []
    line = json.dumps({"level": "error", "message": "something is wrong"})
    child = Child("x", ["sh", "-c", f"echo '{line}'; echo plain; exit 1"], tmp_path / "x.log", lambda _, text: shown.append(text))
    stop = asyncio.Event()
    running = asyncio.create_task(child.keep_running(stop))
    while child.starts < 3:
        await asyncio.sleep(0.01)
    stop.set()
    assert await running == 0
    assert (tmp_path / "x.log").read_text().startswith(line + "\nplain\n" + line)
    assert (tmp_path / "x.log").stat().st_mode & 0o077 == 0
    assert shown[0] == "something is wrong"
    assert shown[1].startswith("ended (exit 1); starting it again in 100 ms")
    assert any("in 200 ms" in text for text in shown)


async def test_a_child_that_cannot_start_is_given_up_with_its_last_words(tmp_path: Path) -> None:
    shown: list[str] = []
    child = Child("x", ["sh", "-c", "echo why; exit 2"], tmp_path / "x.log", lambda _, text: shown.append(text))
    assert await child.keep_running(asyncio.Event()) == 2
    assert (child.starts, shown) == (1, ["why"])


async def test_a_child_that_does_not_end_is_killed(tmp_path: Path) -> None:
    shown: list[str] = []
    child = Child(
        "x",
        ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done"],
        tmp_path / "x.log",
        lambda _, text: shown.append(text),
    )
    stop = asyncio.Event()
    running = asyncio.create_task(child.keep_running(stop))
    while not (tmp_path / "x.log").exists() or "up" not in (tmp_path / "x.log").read_text():
        await asyncio.sleep(0.01)
    stop.set()
    await child.end(0.2)
    assert await running == 0
    assert shown == ["did not end within 0 s and was killed"]


def test_a_log_is_turned_when_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headway.app_child.LOG_FILE_BYTES_MAX", 10)
    log = LogFile(tmp_path / "x.log")
    for number in range(limits.LOG_FILES_KEPT + 3):
        log.write(b"line %d..\n" % number)
    log.close()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["x.log", *(f"x.log.{n}" for n in range(1, limits.LOG_FILES_KEPT + 1))]
    assert (tmp_path / "x.log").read_bytes() == b"line %d..\n" % (limits.LOG_FILES_KEPT + 2)
    assert (tmp_path / "x.log.1").read_bytes() == b"line %d..\n" % (limits.LOG_FILES_KEPT + 1)


def text_of(target: str) -> str:
    return demo_text(target, gateway="127.0.0.1:1", control="127.0.0.1:2", scripted_port=3, local_port=4, found={})


def test_the_demonstration_s_file_loads_without_a_warning() -> None:
    loaded = parse(text_of("scripted/scripted"))
    assert loaded.warnings == ()
    assert loaded.settings.open_access
    assert parse(text_of("local/smollm2")).settings.features["chat"].targets == ("local/smollm2",)


def test_an_edited_file_is_left_alone(tmp_path: Path) -> None:
    demo = Demo(tmp_path, with_model=False, say=print)
    assert demo._ours()
    demo._write(text_of("scripted/scripted"))
    assert demo._ours()
    (tmp_path / "headway.toml").write_text("# mine\n")
    assert not demo._ours()


@pytest.mark.parametrize(
    "data",
    [
        b'{"choices": [{"message": {"content": "hello"}}]}',
        b'{"content": [{"type": "text", "text": "hello"}]}',
        b'{"output": [{"type": "reasoning"}, {"content": [{"text": "hello"}]}]}',
        b'data: {"choices": [{"delta": {"content": "hel"}}]}\n\ndata: {"choices": [{"delta": {"content": "lo"}}]}\n\ndata: {"choices": []}\n\ndata: [DONE]\n\n',
        b'{"error": {"message": "hello"}}',
    ],
)
def test_the_text_of_any_dialect_is_found(data: bytes) -> None:
    assert _text(data) == "hello"


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    gateway, control = free_port(), free_port()
    (tmp_path / ".headway").mkdir()
    text = demo_text(
        "scripted/scripted",
        gateway=f"127.0.0.1:{gateway}",
        control=f"127.0.0.1:{control}",
        scripted_port=free_port(),
        local_port=free_port(),
        found={},
    )
    (tmp_path / "headway.toml").write_text(text)
    process = subprocess.Popen(
        [sys.executable, "-m", "headway", "demo", "--model", "none"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    yield process
    if process.poll() is None:
        process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def children_of(pid: int) -> dict[str, int]:
    """Name to pid of the processes below ``pid``: scripted, serve, gateway, control."""
    found: dict[str, int] = {}
    for entry in Path("/proc").iterdir():
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            words = (entry / "cmdline").read_bytes().decode().split("\0")
        except (OSError, ValueError, IndexError):
            continue
        if parent == pid:
            name = next((word for word in words if word in ("serve", "gateway", "control", "headway.lab.scripted")), "")
            found[name] = int(entry.name)
            found |= children_of(int(entry.name))
    return found


def test_the_whole_product_survives_kills_and_leaves_nothing(demo: subprocess.Popen[str], tmp_path: Path) -> None:
    assert demo.stdout is not None
    lines: list[str] = []
    while not lines or "/v1/messages" not in lines[-1]:
        lines.append(line := demo.stdout.readline())
        assert line, "".join(lines)
    said = "".join(lines)
    assert "board    http://127.0.0.1:" in said
    assert "/login?token=" in said
    assert said.count("scripted/scripted") == 3, said
    listen = parse((tmp_path / "headway.toml").read_text()).settings.gateway.listen
    before = children_of(demo.pid)
    assert set(before) == {"serve", "gateway", "control", "headway.lab.scripted"}
    for name in ("gateway", "control"):
        os.kill(before[name], signal.SIGKILL)
        eventually(lambda name=name: children_of(demo.pid).get(name, before[name]) != before[name], f"{name} is started again")
    eventually(lambda: healthy(f"http://{listen}", "/health/live"), "the gateway answers again")
    after = children_of(demo.pid)
    demo.send_signal(signal.SIGINT)
    assert demo.wait(PATIENCE_S) == 0
    for pid in after.values():
        assert not Path(f"/proc/{pid}").exists()


def test_children_end_when_their_supervisor_is_killed(demo: subprocess.Popen[str]) -> None:
    eventually(lambda: {"gateway", "control"} <= set(children_of(demo.pid)), "both run")
    running = children_of(demo.pid)
    eventually(lambda: (Path(f"/proc/{running['gateway']}")).exists(), "it runs")
    time.sleep(1.5)  # past their imports: until then there is nobody to notice
    os.kill(running["serve"], signal.SIGKILL)
    for name in ("gateway", "control"):
        eventually(lambda name=name: not Path(f"/proc/{running[name]}").exists(), f"{name} ends")
