"""``headway serve``: gateway and control on this machine."""

import click

from headway.cli.common import config_option
from headway.config.load import find, load


@click.command("serve")
@config_option
@click.option("--quiet", is_flag=True, help="Print nothing but problems.")
@click.pass_context
def command(ctx: click.Context, config_path: str | None, quiet: bool) -> None:
    """Run gateway and control on this machine, each a process of its own that is started again when it dies.

    Their logs go to gateway.log and control.log in the state folder; warnings are shown here too. SIGTERM or Ctrl-C drains the
    gateway first. SIGHUP loads the configuration again.
    """
    from headway.app import serve

    path = find(config_path)
    ctx.exit(serve(path, load(path), quiet=quiet))
