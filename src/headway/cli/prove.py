"""``headway prove``: a pillar's story replayed beside a quiet control, as figures with the bounds they must keep."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from headway.cli.common import emit, json_option
from headway.cli.trouble import MISSING, Trouble
from headway.kernel.figure import Proof
from headway.prove.report import NotMeasurable, Wanted, as_table, exit_code
from headway.prove.report import as_json as told

if TYPE_CHECKING:
    from headway.prove.phases_proved import Proved

Shown = TypeVar("Shown")


@click.group("prove")
def command() -> None:
    """Replay a pillar's story beside a quiet control, and print its figures with the bounds they must keep.

    Exit status 0 when all bounds hold, 1 when one does not, 3 when it cannot be measured here.
    """


@command.command("admission")
@click.option(
    "--engine", type=click.Choice(["lab", "llama"]), default="lab", show_default=True, help="Simulated, or the local model."
)
@click.option("--seed", type=int, default=1, show_default=True, help="Worlds, arrivals and texts are drawn from it.")
@click.option("--data", metavar="DIR", default=None, help="Holds traces/; default $HEADWAY_DATA, else ../shared/data.")
@click.option("--svg", "svg_file", metavar="FILE", type=click.Path(dir_okay=False), default=None, help="Write the chart (lab).")
@json_option
@click.pass_context
def admission(ctx: click.Context, engine: str, seed: int, data: str | None, svg_file: str | None, as_json: bool) -> None:
    """One giant prompt no longer stalls everybody small.

    In the lab: worlds no_giant, one_giant, five_giants, flood, hosted_cap and the fair six, twenty seeds each, a few minutes.
    On the local model: a giant of 3,100 tokens among small requests, about twelve minutes.
    """
    if svg_file is not None and engine != "lab":
        raise click.UsageError("--svg draws the lab's worlds; leave out --engine llama")
    try:
        proof, wanted = _lab(seed, data, svg_file) if engine == "lab" else _llama(seed)
    except NotMeasurable as error:
        raise Trouble("admission cannot be proved here", error.missing, error.fix, MISSING) from None
    if as_json:
        emit(told(proof))
    else:
        click.echo(as_table(proof, wanted))
    ctx.exit(exit_code(proof, wanted))


@command.command("hops")
@click.option("--seed", type=int, default=1, show_default=True, help="Draws the halves of the quiet control.")
@click.option("--data", metavar="DIR", default=None, help="Holds ops/traces/; default $HEADWAY_DATA, else ../shared/data.")
@json_option
@click.pass_context
def hops(ctx: click.Context, seed: int, data: str | None, as_json: bool) -> None:
    """Which hop owns the median and the tail, and which process was slow.

    On 789,336 spans of two applications with faults at known places, and on small traces with awkward overlaps. Then Headway's own hop beside what
    a caller measures from outside, on the running product. A minute.
    """
    from headway.prove.hops import WANTED, prove

    try:
        proof = _watched("prove hops", lambda say: prove(seed, data=data, say=say))
    except NotMeasurable as error:
        raise Trouble("hops cannot be proved here", error.missing, error.fix, MISSING) from None
    if as_json:
        emit(told(proof))
    else:
        click.echo(as_table(proof, WANTED))
    ctx.exit(exit_code(proof, WANTED))


@command.command("phases")
@click.option(
    "--engine", type=click.Choice(["lab", "llama"]), default="lab", show_default=True, help="Simulated, or the local model."
)
@click.option("--seed", type=int, default=1, show_default=True, help="Traffic, noise and what is done to whom are drawn from it.")
@click.option("--svg", "svg_file", metavar="FILE", type=click.Path(dir_okay=False), default=None, help="Write the chart.")
@json_option
@click.pass_context
def phases(ctx: click.Context, engine: str, seed: int, svg_file: str | None, as_json: bool) -> None:
    """Calls made slow for a known cause, and what the verdicts say of them: a confusion matrix with "cannot tell" as a column.

    In the lab: eleven causes at five strengths and three loads, on a simulated engine and at a hosted provider, some minutes.
    On the local model: long prompt, cold cache, neighbour, route change, longer output and slow reader through a running Headway; a
    quarter of an hour.
    """
    from headway.prove.phases_matrix import as_text

    proved, wanted = _phases(engine, seed)
    if svg_file is not None:
        from headway.prove.phases_chart import chart

        Path(svg_file).write_text(chart(proved.matrix, proved.proof), encoding="utf-8")
    if as_json:
        emit(told(proved.proof) | {"matrix": proved.matrix})
    else:
        click.echo(as_text(proved.matrix) + "\n")
        click.echo(as_table(proved.proof, wanted))
    ctx.exit(exit_code(proved.proof, wanted))


def _phases(engine: str, seed: int) -> "tuple[Proved, Mapping[str, Wanted]]":
    """The proof on one engine; Trouble where it cannot be measured here."""
    if engine == "lab":
        from headway.prove.phases import WANTED, prove

        return _watched("prove phases", lambda say: prove(seed, say)), WANTED
    from headway.lab.model_build import ModelError
    from headway.prove.phases_llama import WANTED as WANTED_LLAMA
    from headway.prove.phases_llama import prove as prove_llama

    try:
        return _watched("prove phases --engine llama", lambda say: prove_llama(seed, say)), WANTED_LLAMA
    except ModelError as error:
        raise Trouble("phases cannot be proved here", str(error), "make model", MISSING) from None


def _lab(seed: int, data: str | None, svg_file: str | None) -> tuple[Proof, Mapping[str, Wanted]]:
    from headway.prove.admission import WANTED, prove

    proof = _watched("prove admission", lambda say: prove(seed, data=data, say=say))
    if svg_file is not None:
        from headway.lab.traces.reading import traces_folder
        from headway.prove.admission_chart import chart

        Path(svg_file).write_text(chart(seed, traces_folder(data)), encoding="utf-8")
    return proof, WANTED


def _llama(seed: int) -> tuple[Proof, Mapping[str, Wanted]]:
    from headway.lab.model_build import ModelError
    from headway.prove.admission import WANTED_LLAMA
    from headway.prove.admission_llama import prove

    try:
        return _watched("prove admission --engine llama", lambda say: prove(seed, say)), WANTED_LLAMA
    except ModelError as error:
        raise NotMeasurable(str(error), "make model") from None


def _watched(what: str, work: Callable[[Callable[[str], None]], Shown]) -> Shown:
    from headway.prove.checked import Progress

    progress = Progress(what)
    try:
        return work(progress.say)
    finally:
        progress.done()
