"""``headway lab``: the simulated engine, how true it is, and what it says about traffic."""

import click

from headway.cli.common import emit, json_option
from headway.cli.lab_engine import engine
from headway.cli.lab_fair import fair
from headway.cli.lab_replay import replay
from headway.cli.trouble import MISSING, UNUSABLE, Trouble

data_option = click.option("--data", metavar="DIR", default=None, help="Holds traces/; default $HEADWAY_DATA, else ../shared/data.")


@click.group("lab")
def command() -> None:
    """A simulated engine: hold it against measured ones, replay traffic on it, run it on a socket."""


command.add_command(engine)
command.add_command(fair)
command.add_command(replay)


@command.command("accuracy")
@click.option("--seed", type=int, default=1, show_default=True, help="Draws the resamples behind the intervals.")
@data_option
@json_option
@click.pass_context
def accuracy(ctx: click.Context, seed: int, data: str | None, as_json: bool) -> None:
    """Replay three measured runs of vLLM and print how far the simulation is off, with the wanted bounds.

    Exit status 0 when all bounds hold, 1 when one does not, 3 when the measurements are not here.
    """
    from headway.lab.accuracy import bounds, prove
    from headway.lab.traces.reading import TraceError, TraceMissing, traces_folder
    from headway.prove.checked import Progress
    from headway.prove.report import Wanted, as_table, exit_code
    from headway.prove.report import as_json as told

    progress = Progress("lab accuracy")
    try:
        proof = prove(traces_folder(data), seed=seed, say=progress.say)
    except TraceMissing as error:
        raise Trouble(
            "accuracy cannot be measured here", str(error), "--data DIR, the folder that holds traces/", MISSING
        ) from None
    except TraceError as error:
        raise Trouble("a measurement cannot be read", str(error), "put back the file as it was published", UNUSABLE) from None
    finally:
        progress.done()
    wanted = {name: Wanted(at_most=most) for name, most in bounds().items()}
    if as_json:
        emit(told(proof))
    else:
        click.echo(as_table(proof, wanted))
    ctx.exit(exit_code(proof, wanted))
