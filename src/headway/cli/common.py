"""What most commands share: the options ``--config`` and ``--json``, the loaded configuration, output as table or JSON."""

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import click
import msgspec

from headway.config.load import Loaded, find, whereabouts

F = TypeVar("F", bound=Callable[..., Any])
WIDTH: Final = 100

config_option = click.option(
    "--config", "config_path", metavar="FILE", help="The configuration; default $HEADWAY_CONFIG, else ./headway.toml."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


def loaded(config_path: str | None) -> Loaded:
    """Where control and gateway are, even when the file has mistakes: what runs can still be asked. ConfigError for a file that is absent."""
    return whereabouts(find(config_path))


def emit(value: object) -> None:
    """One JSON value on standard output."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def emit_line(value: object) -> None:
    """One JSON value on a line of its own, flushed, for programs that read along."""
    click.echo(msgspec.json.encode(value).decode())


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]], right: tuple[int, ...] = ()) -> None:
    """Print aligned columns within ``WIDTH`` characters; the widest columns are shortened first. ``right`` aligns numbers."""
    if not rows:
        return
    for line in layout(head, rows, right):
        click.echo(line)


def layout(head: tuple[str, ...], rows: Sequence[tuple[str, ...]], right: tuple[int, ...] = (), width: int = WIDTH) -> list[str]:
    """The lines of ``table``."""
    widths = [max(len(line[column]) for line in (head, *rows)) for column in range(len(head))]
    while sum(widths) + 2 * (len(widths) - 1) > width:
        widest = widths.index(max(widths))
        widths[widest] -= 1
    return ["  ".join(_cell(text, widths[c], c in right) for c, text in enumerate(line)).rstrip() for line in (head, *rows)]


def _cell(text: str, width: int, right: bool) -> str:
    text = text if len(text) <= width else text[: width - 1] + "…"
    return text.rjust(width) if right else text.ljust(width)


def ago(then_wall_ms: int, now_wall_ms: int) -> str:
    """``4 s``, ``12 min``, ``3 h``, ``5 d``: how long ago."""
    seconds = max(0, (now_wall_ms - then_wall_ms) // 1000)
    for limit, unit_s, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds // unit_s} {unit}"
    return f"{seconds // 86_400} d"
