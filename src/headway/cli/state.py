"""What ``headway`` alone says: what is configured, what runs, and the next sensible command."""

import http.client
from urllib.parse import urlsplit

import click

from headway import __version__
from headway.config.addresses import reach
from headway.config.load import find, load
from headway.kernel.errors import ConfigError

_PROBE_TIMEOUT_S = 1.0


def answers(url: str) -> bool:
    """Whether something of ours is alive there."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_PROBE_TIMEOUT_S)
    try:
        connection.request("GET", "/health/live")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def tell() -> None:
    """Four lines and the next command."""
    click.echo(f"headway {__version__}")
    path = find()
    if path is None:
        click.echo("configuration  none here")
        click.echo("\nnext: headway init    (writes headway.toml from what is found on this machine)")
        return
    try:
        loaded = load(path, discover=None)
    except ConfigError as error:
        count = len(str(error).splitlines())
        click.echo(f"configuration  {path} has {count} problem{'s' if count > 1 else ''}")
        click.echo("\nnext: headway check   (says what and where)")
        return
    settings = loaded.settings
    click.echo(
        f"configuration  {path}: {len(settings.providers)} providers, {len(settings.features)} features, {len(settings.tenants)} tenants"
    )
    gateway, control = reach(settings.gateway.listen), reach(settings.control.listen)
    gateway_up, control_up = answers(gateway), answers(control)
    click.echo(f"gateway        {gateway} {'answers' if gateway_up else 'does not answer'}")
    click.echo(f"control        {control} {'answers' if control_up else 'does not answer'}")
    if gateway_up and control_up:
        click.echo("\nnext: headway calls tail   (or headway login for the board)")
    elif control_up:
        click.echo("\nnext: headway gateway")
    else:
        click.echo("\nnext: headway serve")
