"""The tree of commands, and what ``headway`` alone says."""

import importlib
from typing import Final, NamedTuple

import click
from click.exceptions import NoArgsIsHelpError

from headway import __version__
from headway.cli.trouble import STOPPED, UNUSABLE, Trouble, from_config
from headway.kernel.errors import ConfigError


class Place(NamedTuple):
    """Where a command is, and its line of help, so that listing commands loads none of them."""

    module: str
    help: str


COMMANDS: Final = {
    "init": Place("headway.cli.init", "Write a first headway.toml from what is found here."),
    "check": Place("headway.cli.check", "Explain the configuration: values with origins, problems, what is ready."),
    "serve": Place("headway.cli.serve", "Run gateway and control on this machine."),
    "gateway": Place("headway.cli.gateway", "Run the data plane alone."),
    "control": Place("headway.cli.control", "Run the control plane alone."),
    "login": Place("headway.cli.login", "Print a link that signs you in to the board, once."),
    "keys": Place("headway.cli.keys", "Create, list and revoke keys of callers."),
    "users": Place("headway.cli.users", "Add and list people who sign in to the board."),
    "calls": Place("headway.cli.calls", "Watch calls as they happen; look at one."),
    "admission": Place("headway.cli.admission", "See who waits, who is late and who stalled whom."),
    "probes": Place("headway.cli.probes", "See what probes find; send a round of them now."),
    "hops": Place("headway.cli.hops", "See which hop owns the median and the tail; hold hops to budgets."),
    "phases": Place("headway.cli.phases", "Say where a call's time went and why, and what changed since an instant."),
    "budgets": Place("headway.cli.budgets", "See what is spent, lent and left."),
    "config": Place("headway.cli.config", "Show the configuration in force; load the file again."),
    "feedback": Place("headway.cli.feedback", "Say what became of an answer."),
    "demo": Place("headway.cli.demo", "Try it on a scripted model, then on a small real one."),
    "lab": Place("headway.cli.lab", "Hold the simulated engine against measured ones; replay traffic; run it."),
    "prove": Place("headway.cli.prove", "Replay a pillar's story beside a quiet control, with the bounds it must keep."),
    "model": Place("headway.cli.model", "Build and start the local model of a checkout."),
}


class LazyGroup(click.Group):
    """Imports a command's module when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = COMMANDS.get(cmd_name)
        if place is None:
            return None
        command: click.Command = importlib.import_module(place.module).command
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS:
            from headway.config.problems import nearest

            near = nearest(args[0], COMMANDS)
            raise Trouble(
                f"there is no command {args[0]!r}",
                "commands are " + ", ".join(COMMANDS),
                f"headway {near}" if near else "headway --help",
                UNUSABLE,
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, place.help) for name, place in COMMANDS.items()])


@click.group(cls=LazyGroup, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="headway %(version)s")
@click.pass_context
def headway(ctx: click.Context) -> None:
    """A control plane for LLM calls: change one base URL, and see every call.

    Without a command: what runs here, and the next sensible step.
    """
    if ctx.invoked_subcommand is None:
        from headway.cli.state import tell

        tell()


def run(arguments: list[str]) -> int:
    """Run one command. Errors are told in three lines; the result is the exit code."""
    try:
        result = headway.main(args=arguments, prog_name="headway", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        _show(error)
        return error.exit_code
    except ConfigError as error:
        trouble = from_config(error)
        trouble.show()
        return trouble.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        return STOPPED
    except BrokenPipeError:
        return 0


def _show(error: click.ClickException) -> None:
    if isinstance(error, click.UsageError) and not isinstance(error, NoArgsIsHelpError):
        where = error.ctx.command_path if error.ctx is not None else "headway"
        Trouble(
            " ".join(error.format_message().split()),
            f"{where} was called with arguments it cannot use",
            f"{where} --help",
            UNUSABLE,
        ).show()
    else:
        error.show()
