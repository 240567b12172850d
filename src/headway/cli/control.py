"""``headway control``: the control plane alone."""

from pathlib import Path

import click

from headway.cli.common import config_option
from headway.cli.processes import supervised_option, watch_supervisor
from headway.cli.trouble import MISSING, Trouble
from headway.config.load import find, load


@click.command("control")
@click.option("--listen", metavar="HOST:PORT", default=None, help="Overrides control.listen.")
@click.option("--state-dir", metavar="DIR", default=None, help="Overrides state.dir.")
@config_option
@supervised_option
@click.pass_context
def command(ctx: click.Context, listen: str | None, state_dir: str | None, config_path: str | None, supervised: bool) -> None:
    """Run the control plane alone: API, board, ledger, facts."""
    try:
        from headway.control.process import run
    except ModuleNotFoundError as error:
        why = f"the package {error.name} is not installed; only the gateway's are"
        raise Trouble("control cannot run here", why, "pip install 'headway[serve]'", MISSING) from None
    path = find(config_path)
    folder = Path(state_dir).absolute() if state_dir else load(path, discover=None).state_dir
    if supervised:
        watch_supervisor()
    ctx.exit(run(path, folder, listen=listen))
