"""What ``make run`` shows: gateway and control on a scripted model at once, on the local real model as soon as it is there.

Everything is a child process: the scripted upstream, ``headway serve``, the model's server, its build. This one writes
``headway.toml``, sends a few calls, and switches the feature's target by a reload when the real model answers.
A ``headway.toml`` that was edited is used as it is and never written over.
"""

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from headway.config.addresses import port_problem, reach
from headway.config.init import Found, discover
from headway.config.load import FILE_NAME, Loaded, load
from headway.lab.demo_calls import first_calls, healthy, one_call, reload
from headway.lab.model_build import ModelFolder, Progress, model_folder, read_progress
from headway.lab.model_server import MODEL_NAME, ModelServer, free_port

FEATURE: Final = "chat"
SCRIPTED: Final = "scripted"
LOCAL: Final = "local"
_POLL_S: Final = 0.1
_BUILD_NEWS_S: Final = 30.0
_READY_S: Final = 30.0
_MARK: Final = "# Written by make run. Edit it and it is yours: make run then uses it as it is.\n"


def demo_text(target: str, *, gateway: str, control: str, scripted_port: int, local_port: int, found: dict[str, Found]) -> str:
    """The configuration of the demonstration."""
    parts = [
        _MARK,
        "open_access = true  # calls from this machine need no key\n",
        f'[gateway]\nlisten = "{gateway}"\n',
        f'[control]\nlisten = "{control}"\n',
        "# Answers at once and without a model; speaks all three dialects.\n"
        f'[providers.{SCRIPTED}]\npreset = "llama.cpp"\nbase_url = "http://127.0.0.1:{scripted_port}"\nmodels = ["{SCRIPTED}"]\n',
        f'[providers.{LOCAL}]\npreset = "llama.cpp"\nbase_url = "http://127.0.0.1:{local_port}"\nmodels = ["{MODEL_NAME}"]\n',
    ]
    for name, one in found.items():
        key = f'key = "{one.provider.key}"' if one.provider.key else f'base_url = "{one.provider.base_url}"'
        table = f'"{name}"' if "." in name else name
        parts.append(
            f'# {one.why}: call its models as {name}/MODEL.\n[providers.{table}]\npreset = "{one.provider.preset}"\n{key}\n'
        )
    parts.append(f'[features.{FEATURE}]  # clients name this as the model\ntargets = ["{target}"]\n')
    parts.append("[tenants.default]\nbudget_usd_per_day = 5\n")
    return "\n".join(parts)


class Demo:
    """One demonstration. ``with_model`` False stays on the scripted model."""

    def __init__(self, folder: Path, *, with_model: bool, say: Callable[[str], None]) -> None:
        self._file, self._with_model, self._say = folder / FILE_NAME, with_model, say
        self._note = folder / ".headway" / "demo"
        self._children: list[subprocess.Popen[bytes]] = []
        self._serve: subprocess.Popen[bytes] | None = None
        self._builder: subprocess.Popen[bytes] | None = None
        self._model: ModelServer | None = None
        self._model_folder: ModelFolder = model_folder()
        self._stopping = False
        self._parent = os.getppid()
        self._news_at = 0.0
        self._switched = False
        self._fill: Callable[[str], str] | None = None

    def run(self) -> int:
        """Until Ctrl-C, SIGTERM, or the end of ``headway serve``. The exit code."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._told_to_stop)
        try:
            loaded = self._configure()
            self._start(loaded)
            gateway, control = reach(loaded.settings.gateway.listen), reach(loaded.settings.control.listen)
            if not self._stopping and self._wait_ready(gateway, control):
                first_calls(gateway, FEATURE, self._say)
            while not self._over():
                self._tend_model(loaded)
                time.sleep(_POLL_S)
            return 0 if self._stopping else self._serve_code()
        finally:
            self._end()

    def _told_to_stop(self, _number: int, _frame: object) -> None:
        self._stopping = True

    def _over(self) -> bool:
        if os.getppid() != self._parent:  # whoever started us is gone
            self._stopping = True
        return self._stopping or self._serve is None or self._serve.poll() is not None

    def _serve_code(self) -> int:
        return (self._serve.poll() if self._serve is not None else None) or 0

    # --- configuration

    def _configure(self) -> Loaded:
        if self._ours():
            ports = [free_port(), free_port()]
            gateway, control = _listen(8080), _listen(8090)
            found = {name: one for name, one in discover().items() if one.provider.base_url != reach(gateway)}

            def fill(target: str) -> str:
                return demo_text(target, gateway=gateway, control=control, scripted_port=ports[0], local_port=ports[1], found=found)

            self._fill = fill
            self._write(fill(f"{SCRIPTED}/{SCRIPTED}"))
        else:
            self._say(f"using {self._file} as it is")
        return load(self._file)

    def _ours(self) -> bool:
        """Whether the file is absent, or still what an earlier demonstration wrote."""
        if not self._file.exists():
            return True
        with contextlib.suppress(OSError):
            return self._note.read_text() == _digest(self._file.read_text())
        return False

    def _write(self, text: str) -> None:
        self._note.parent.mkdir(exist_ok=True, mode=0o700)
        beside = self._note.with_suffix(".toml")
        beside.write_text(text)
        beside.replace(self._file)
        self._note.write_text(_digest(text))

    # --- processes

    def _start(self, loaded: Loaded) -> None:
        logs = loaded.state_dir
        logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        scripted = loaded.settings.providers.get(SCRIPTED)
        if scripted is not None and (port := _port(scripted.base_url)):
            words = ["-m", "headway.lab.scripted", "--port", str(port), "--delay-ms", "15", "--no-records"]
            with (logs / "scripted.log").open("ab") as log:
                self._children.append(self._popen(words, log.fileno()))
        self._serve = self._popen(["-m", "headway", "serve", "--config", str(self._file)], None)
        self._children.append(self._serve)

    def _popen(self, words: list[str], output: int | None) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, *words], stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )

    def _wait_ready(self, gateway: str, control: str) -> bool:
        """Until a call is answered and the board is there, so that their addresses stand above the calls."""
        until = time.monotonic() + _READY_S
        while time.monotonic() < until and not self._over():
            if all(healthy(url, "/health/live") for url in (gateway, control)) and one_call(gateway, FEATURE).status == 200:
                time.sleep(2 * _POLL_S)
                return True
            time.sleep(_POLL_S)
        return False

    # --- the real model

    def _tend_model(self, loaded: Loaded) -> None:
        local = loaded.settings.providers.get(LOCAL)
        if not self._with_model or local is None or self._switched:
            return
        if self._model is not None:
            self._switch(loaded)
        elif self._model_folder.ready():
            if self._builder is not None:
                self._say("the real model is built")
            self._model = ModelServer(self._model_folder, _port(local.base_url), loaded.state_dir / "model.log")
        elif self._builder is None:
            self._build(loaded)
        elif self._builder.poll() is not None:
            self._say(
                f"the real model could not be built: {loaded.state_dir / 'model-build.log'} says why. The scripted one goes on."
            )
            self._switched = True
        else:
            self._tell_build(read_progress(self._model_folder))

    def _build(self, loaded: Loaded) -> None:
        self._say("building the real model in the background; the scripted one answers until it is ready (MODEL=none skips this)")
        with (loaded.state_dir / "model-build.log").open("ab") as log:
            words = ["nice", "-n", "19", sys.executable, "-m", "headway", "model", "build"]
            self._builder = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

    def _tell_build(self, progress: Progress | None) -> None:
        if progress is None or time.monotonic() < self._news_at:
            return
        self._news_at = time.monotonic() + _BUILD_NEWS_S
        left = f", about {max(1, round(progress.remaining_s / 60))} min left" if progress.remaining_s is not None else ""
        self._say(f"real model: {progress.step}, {progress.share:.0%}{left}")

    def _switch(self, loaded: Loaded) -> None:
        assert self._model is not None
        if not self._model.running():
            self._say(f"the real model ended; its log is {loaded.state_dir / 'model.log'}. The scripted one goes on.")
            self._switched = True
            return
        if not self._model.healthy():
            return
        self._switched = True
        if self._fill is None or not self._ours():
            self._say(f"the real model answers as {LOCAL}/{MODEL_NAME}")
            return
        self._write(self._fill(f"{LOCAL}/{MODEL_NAME}"))
        control, gateway = reach(loaded.settings.control.listen), reach(loaded.settings.gateway.listen)
        generation = reload(control, loaded.state_dir / "control.token")
        self._say(f"the real model took over as {FEATURE} (generation {generation})")
        until = time.monotonic() + _READY_S
        while time.monotonic() < until and not self._over():
            answer = one_call(gateway, FEATURE)
            if answer.answered.startswith(LOCAL):
                self._say(answer.line())
                return
            time.sleep(_POLL_S)

    # --- the end

    def _end(self) -> None:
        """Stop everything, traffic first; a build goes on from where it was next time."""
        for process in (self._builder, self._serve, *self._children):
            if process is not None and process.poll() is None:
                process.terminate()
                if process is self._serve:
                    process.wait()
        if self._model is not None:
            self._model.stop()
        for process in self._children:
            process.wait()


def _listen(port: int) -> str:
    """The usual port, or a free one where it is taken."""
    usual = f"127.0.0.1:{port}"
    return f"127.0.0.1:{free_port()}" if port_problem(usual) else usual


def _port(base_url: str) -> int:
    host, _, port = base_url.removeprefix("http://").rstrip("/").partition(":")
    return int(port) if host == "127.0.0.1" and port.isdigit() else 0


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
