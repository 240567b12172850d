"""``headway gateway``: the data plane alone."""

from pathlib import Path

import click

from headway.cli.common import config_option
from headway.cli.processes import supervised_option, watch_supervisor
from headway.config.load import find, load


@click.command("gateway")
@click.option("--listen", metavar="HOST:PORT", default=None, help="Overrides gateway.listen.")
@click.option("--state-dir", metavar="DIR", default=None, help="Overrides state.dir.")
@config_option
@supervised_option
@click.pass_context
def command(ctx: click.Context, listen: str | None, state_dir: str | None, config_path: str | None, supervised: bool) -> None:
    """Run the data plane alone.

    SIGTERM drains: new calls are refused, running streams finish within gateway.drain_s.
    """
    from headway.gateway.process import run

    path = find(config_path)
    folder = Path(state_dir).absolute() if state_dir else load(path, discover=None).state_dir
    if supervised:
        watch_supervisor()
    ctx.exit(run(path, folder, listen=listen))
