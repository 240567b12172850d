"""What the two long-running commands share: they end when the supervisor that started them is gone."""

import os
import signal
import threading

import click

supervised_option = click.option("--supervised", is_flag=True, hidden=True)


def watch_supervisor() -> None:
    """Standard input is a pipe whose other end the supervisor holds: its end means that nobody would stop us, so we drain."""

    def wait() -> None:
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="supervisor", daemon=True).start()
