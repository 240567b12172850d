"""``headway config``: what is in force, and reading the file again."""

import time

import click
import msgspec

from headway.cli.client import Control
from headway.cli.common import ago, config_option, emit, json_option, loaded, table
from headway.cli.trouble import UNUSABLE, Trouble


class Line(msgspec.Struct, frozen=True):
    key: str
    before: str | None
    after: str | None


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    number: int
    loaded_wall_ms: int
    path: str
    diff: tuple[Line, ...] = ()
    problem: str = ""


@click.group("config")
def command() -> None:
    """Show the configuration in force; load the file again."""


@command.command("show")
@config_option
@json_option
def show(config_path: str | None, as_json: bool) -> None:
    """The generation in force, and what its load changed. headway check explains the file itself."""
    _tell(Control(loaded(config_path)).get("/api/v1/generation", Generation), as_json)


@command.command("reload")
@config_option
@json_option
def reload(config_path: str | None, as_json: bool) -> None:
    """Read the file now. A bad file changes nothing."""
    found = Control(loaded(config_path)).post("/api/v1/generation/reload", {}, Generation)
    _tell(found, as_json)
    if found.problem:
        why = found.problem.replace("\n", "\n     ")
        raise Trouble(f"generation {found.number} stays in force", why, "correct the file; headway check says more", UNUSABLE)


def _tell(found: Generation, as_json: bool) -> None:
    if as_json:
        emit(found)
        return
    click.echo(
        f"generation {found.number} of {found.path or 'defaults'}, loaded {ago(found.loaded_wall_ms, time.time_ns() // 1_000_000)} ago"
    )
    if found.diff and all(line.before is None for line in found.diff):
        click.echo(f"the first generation: {len(found.diff)} values; headway check --all lists them")
        return
    table(("changed", "before", "after"), [(line.key, line.before or "-", line.after or "-") for line in found.diff])
    if found.problem:
        click.echo(f"the file on disk is not in force: {found.problem}")
