"""``headway check``: every value with its origin, what is wrong, and whether this machine is ready to serve."""

import os
import textwrap
import time
from pathlib import Path
from typing import Final

import click
import msgspec

from headway.cli.common import WIDTH, config_option, emit, json_option, table
from headway.cli.state import answers
from headway.cli.trouble import DONE, NOT_AS_WANTED, UNUSABLE
from headway.config.addresses import port_problem, reach
from headway.config.checks import leaves
from headway.config.load import Loaded, find, load
from headway.config.problems import ConfigProblems, OriginKind, dotted
from headway.config.secrets import Secrets, is_reference
from headway.kernel.errors import ConfigError

EARLIEST_CLOCK_S: Final = 1_735_689_600
"""2025-01-01: a clock before it was never set, and would date keys, leases and facts wrongly."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing looked at on this machine."""

    subject: str
    ok: bool
    detail: str


@click.command("check")
@config_option
@click.option("--all", "show_all", is_flag=True, help="Also list the values that are defaults.")
@json_option
@click.pass_context
def command(ctx: click.Context, config_path: str | None, show_all: bool, as_json: bool) -> None:
    """Explain the configuration: values with origins, problems, what is ready.

    Exit code 0: all is well. 1: it can be loaded, and something on this machine is not ready. 2: it cannot be loaded.
    """
    path = find(config_path)
    try:
        loaded = load(path)
    except ConfigError as error:
        _problems(error, as_json)
        ctx.exit(UNUSABLE)
    findings = machine(loaded)
    if as_json:
        emit(
            {
                "path": str(path) if path else None,
                "values": _values(loaded),
                "warnings": loaded.warnings,
                "problems": [],
                "machine": findings,
            }
        )
    else:
        _print(loaded, findings, show_all)
    ctx.exit(DONE if all(finding.ok for finding in findings) else NOT_AS_WANTED)


def _problems(error: ConfigError, as_json: bool) -> None:
    problems = error.problems if isinstance(error, ConfigProblems) else (error,)
    if as_json:
        emit({"problems": [{"where": one.where, "problem": one.problem, "fix": one.fix} for one in problems]})
        return
    for one in problems:
        click.echo(str(one))
    click.echo(f"\n{len(problems)} problem{'s' if len(problems) > 1 else ''}; nothing of this file is in force")


def _values(loaded: Loaded) -> dict[str, dict[str, object]]:
    return {dotted(path): {"value": value, "origin": str(loaded.origins[dotted(path)])} for path, value in leaves(loaded.settings)}


def _print(loaded: Loaded, findings: list[Finding], show_all: bool) -> None:
    rows = []
    for path, value in leaves(loaded.settings):
        origin = loaded.origins[dotted(path)]
        if show_all or origin.kind is not OriginKind.DEFAULT:
            rows.append((dotted(path), _text(value), str(origin)))
    table(("value", "is", "from"), rows)
    hidden = 0 if show_all else sum(1 for origin in loaded.origins.values() if origin.kind is OriginKind.DEFAULT)
    if hidden:
        click.echo(f"and {hidden} defaults (--all lists them)")
    for warning in loaded.warnings:
        click.echo(f"warning: {warning}")
    click.echo("")
    width = max(len(one.subject) for one in findings)
    for one in findings:
        start = f"{'ok' if one.ok else 'NO'}  {one.subject:<{width}}  "
        click.echo(
            textwrap.fill(one.detail, WIDTH, initial_indent=start, subsequent_indent=" " * len(start), break_on_hyphens=False)
        )


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def machine(loaded: Loaded) -> list[Finding]:
    """Secrets readable, ports free or ours, state folder writable, clock set."""
    findings = [*_secrets(loaded), *_ports(loaded), _state(loaded.state_dir), _clock()]
    if not loaded.settings.providers:
        fix = "no provider is configured and none was found; headway init writes a first one"
        findings.insert(0, Finding(subject="providers", ok=False, detail=fix))
    return findings


def _secrets(loaded: Loaded) -> list[Finding]:
    secrets, findings = Secrets(), []
    for path, value in leaves(loaded.settings):
        if not isinstance(value, str) or not is_reference(value):
            continue
        try:
            secrets.resolve(value)
            findings.append(Finding(subject=dotted(path), ok=True, detail=f"{value} can be read"))
        except ConfigError as error:
            findings.append(Finding(subject=dotted(path), ok=False, detail=str(error)))
    return findings


def _ports(loaded: Loaded) -> list[Finding]:
    findings = []
    for name, listen in (("gateway.listen", loaded.settings.gateway.listen), ("control.listen", loaded.settings.control.listen)):
        problem = port_problem(listen)
        if problem and answers(reach(listen)):
            findings.append(Finding(subject=name, ok=True, detail=f"{listen} answers: it runs already"))
        else:
            findings.append(
                Finding(subject=name, ok=not problem, detail=f"{listen}: {problem}" if problem else f"{listen} is free")
            )
    return findings


def _state(state_dir: Path) -> Finding:
    folder = state_dir
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        return Finding(subject="state.dir", ok=False, detail=f"{folder} cannot be written to by this user")
    free_bytes = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    there = "" if folder == state_dir else " (will be made)"
    return Finding(subject="state.dir", ok=free_bytes > 0, detail=f"{state_dir}{there}, {free_bytes // 2**20:,} MiB free")


def _clock() -> Finding:
    now_s = time.time()
    text = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now_s))
    return Finding(
        subject="clock", ok=now_s > EARLIEST_CLOCK_S, detail=text if now_s > EARLIEST_CLOCK_S else f"{text}: it was never set"
    )
