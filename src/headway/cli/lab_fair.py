"""``headway lab fair``: VTC's measured workloads on the simulated engine, under our policies."""

import time

import click

from headway.cli.common import emit, json_option, layout
from headway.cli.trouble import MISSING, UNUSABLE, Trouble

WIDTH = 120


@click.command("fair")
@click.option("--seed", type=int, default=1, show_default=True, help="Draws the small disturbances behind the intervals.")
@click.option("--data", metavar="DIR", default=None, help="Holds traces/; default $HEADWAY_DATA, else ../shared/data.")
@json_option
def fair(seed: int, data: str | None, as_json: bool) -> None:
    """Replay workloads of light and heavy tenants whose waits were measured, first come first served and under VTC.

    Prints what was simulated, with what was measured in brackets. Takes about half a minute.
    """
    from headway.kernel.figure import Proof
    from headway.lab.fair.compare import compare
    from headway.lab.fair.figures import told
    from headway.lab.fair.table import HEAD, RATIO_HEAD, notes, ratio_rows, rows
    from headway.lab.traces.reading import TraceError, TraceMissing, traces_folder
    from headway.prove.checked import Progress
    from headway.prove.report import as_json as built

    began = time.monotonic()
    progress = Progress("lab fair")
    try:
        comparison = compare(traces_folder(data), seed, say=progress.say)
    except TraceMissing as error:
        raise Trouble("the measured runs are not here", str(error), "--data DIR, the folder that holds traces/", MISSING) from None
    except TraceError as error:
        raise Trouble("a measurement cannot be read", str(error), "put back the file as it was published", UNUSABLE) from None
    finally:
        progress.done()
    if as_json:
        took_s = round(time.monotonic() - began, 1)
        emit(built(Proof(pillar="admission", engine="lab", seed=seed, figures=told(comparison), took_s=took_s)))
        return
    for line in layout(HEAD, rows(comparison), (2, 3, 4, 5), WIDTH):
        click.echo(line)
    click.echo()
    for line in layout(RATIO_HEAD, ratio_rows(comparison), (1, 2, 3, 5, 6), WIDTH):
        click.echo(line)
    click.echo()
    for line in notes(comparison):
        click.echo(line)
