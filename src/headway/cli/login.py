"""``headway login``: a one-time link to the board."""

import click
import msgspec

from headway.cli.client import Control
from headway.cli.common import config_option, emit, json_option, loaded


class Link(msgspec.Struct, frozen=True):
    path: str
    ttl_s: int


@click.command("login")
@config_option
@json_option
def command(config_path: str | None, as_json: bool) -> None:
    """Print a link that signs you in to the board, once."""
    control = Control(loaded(config_path))
    link = control.post("/api/v1/login-links", {}, Link)
    if as_json:
        emit({"url": control.url + link.path, "ttl_s": link.ttl_s})
    else:
        click.echo(f"{control.url}{link.path}\nworks once, within {link.ttl_s // 60} minutes")
