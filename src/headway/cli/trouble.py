"""Errors of the command line in three lines: what happened, why, what to do."""

from typing import IO, Any, Final

import click

from headway.kernel.errors import ConfigError

DONE: Final = 0
NOT_AS_WANTED: Final = 1
UNUSABLE: Final = 2
MISSING: Final = 3
STOPPED: Final = 130


class Trouble(click.ClickException):
    """Ends a command with ``exit_code``."""

    def __init__(self, what: str, why: str, fix: str, exit_code: int = NOT_AS_WANTED) -> None:
        super().__init__(what)
        self.what, self.why, self.fix = what, why, fix
        self.exit_code = exit_code  # type: ignore[misc]  # click reads it from the instance

    def show(self, file: IO[Any] | None = None) -> None:
        """Three lines to standard error."""
        for label, text in (("error", self.what), ("why", self.why), ("do", self.fix)):
            click.echo(f"{click.style(f'{label}:', fg='red' if label == 'error' else None, bold=True)} {text}", err=True)


def from_config(error: ConfigError) -> Trouble:
    """A configuration that cannot be used. All its problems are the why."""
    lines = str(error).splitlines()
    what = "the configuration cannot be used" if len(lines) == 1 else f"the configuration has {len(lines)} problems"
    return Trouble(what, "\n     ".join(lines), "correct it, then run headway check", UNUSABLE)
