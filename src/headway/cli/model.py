"""``headway model``: the local real model of a checkout."""

import os
import signal
import sys

import click

from headway.cli.common import emit, json_option
from headway.cli.trouble import MISSING, Trouble
from headway.lab.model_build import ModelError, Progress, build, model_folder
from headway.lab.model_server import MODEL_NAME, free_port
from headway.lab.model_server import command as server_words


@click.group("model")
def command() -> None:
    """Build and start the local model of a checkout.

    A small real model for trying things: SmolLM2-135M on llama.cpp, a process of its own. Its engine's packaging is AGPL-3.0, the
    engine MIT, the weights Apache-2.0; nothing of Headway contains or imports them.
    """


@command.command("build")
def build_model() -> None:
    """Download and compile what is missing; minutes the first time, nothing afterwards. Goes on where it was stopped."""
    folder = model_folder()
    if folder.ready():
        click.echo(f"the local model is in {folder.root}; nothing to do")
        return
    shown = _Shown()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that what it started ends with it
    try:
        build(folder, shown.say)
    except ModelError as error:
        raise Trouble("the local model was not built", str(error), "make model goes on from where it was", MISSING) from None
    except KeyboardInterrupt:
        click.echo("\nstopped; make model goes on from here", err=True)
        raise
    click.echo(f"\nthe local model is ready in {folder.root}")


class _Shown:
    """Progress: one line rewritten on a terminal, a line for each step and tenth elsewhere."""

    def __init__(self) -> None:
        self._last = ("", -1)

    def say(self, progress: Progress) -> None:
        left = f", {_minutes(progress.remaining_s)} left" if progress.remaining_s is not None else ""
        text = f"{progress.step}: {progress.share:4.0%}{left}"
        if sys.stderr.isatty():
            click.echo(f"\r{text:<70}", err=True, nl=False)
            return
        mark = (progress.step, int(progress.share * 10))
        if mark != self._last:
            self._last = mark
            click.echo(text, err=True)


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


@command.command("start")
@click.option("--port", type=int, default=9300, show_default=True, help="0 takes a free one.")
def start(port: int) -> None:
    """Run the model in the foreground until Ctrl-C."""
    port = port or free_port()
    try:
        words = server_words(model_folder(), port)
    except ModelError as error:
        raise Trouble("the local model cannot be started", str(error), "make model", MISSING) from None
    click.echo(f"model {MODEL_NAME} on http://127.0.0.1:{port}", err=True)
    os.execv(words[0], words)  # noqa: S606 - the pinned engine replaces this process, so that Ctrl-C is its own


@command.command("path")
@json_option
def path(as_json: bool) -> None:
    """Where it lies and whether it is ready."""
    folder = model_folder()
    if as_json:
        emit({"path": str(folder.root), "ready": folder.ready(), "weights": str(folder.weights)})
    else:
        click.echo(f"{folder.root} {'(ready)' if folder.ready() else '(not built; make model)'}")
