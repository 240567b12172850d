"""``headway demo``: what ``make run`` shows."""

from pathlib import Path

import click


@click.command("demo")
@click.option(
    "--model", type=click.Choice(["local", "none"]), default="local", show_default=True, help="none stays on the scripted model."
)
@click.pass_context
def command(ctx: click.Context, model: str) -> None:
    """Try it here: gateway and control on a scripted model, then on the local real one when it is built.

    Writes headway.toml if there is none. Ctrl-C stops everything.
    """
    from headway.lab.demo import Demo

    ctx.exit(Demo(Path.cwd(), with_model=model == "local", say=_say).run())


def _say(text: str) -> None:
    click.echo(text)
