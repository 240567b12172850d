"""``headway lab replay``: real traffic through the simulated engine under several policies."""

from pathlib import Path

import click

from headway.cli.common import emit, json_option, layout
from headway.cli.trouble import MISSING, UNUSABLE, Trouble

TABLE_WIDTH = 130


@click.command("replay")
@click.argument("trace")
@click.option("--policy", "policies", default="fcfs,fair,lanes,paced", show_default=True, help="Some of those below, with commas.")
@click.option("--engine", "engine_name", default="pro6000_8b", show_default=True, help="pro6000_8b, 4090_8b or laptop_135m.")
@click.option("--scale", type=click.FloatRange(0.001, 1_000), default=1.0, show_default=True, help="2 doubles the rate.")
@click.option("--limit", type=click.IntRange(1), default=None, help="Only the first so many calls.")
@click.option("--tenants", type=click.IntRange(0, 100), default=8, show_default=True, help="The largest get rows of their own.")
@click.option("--seed", type=int, default=1, show_default=True, help="Draws what a trace holds as distributions.")
@click.option("--data", metavar="DIR", default=None, help="Holds traces/; default $HEADWAY_DATA, else ../shared/data.")
@click.option("--svg", "svg_file", metavar="FILE", type=click.Path(dir_okay=False), default=None, help="Write a chart.")
@json_option
def replay(
    trace: str,
    policies: str,
    engine_name: str,
    scale: float,
    limit: int | None,
    tenants: int,
    seed: int,
    data: str | None,
    svg_file: str | None,
    as_json: bool,
) -> None:
    """What TRACE would have been like under each policy.

    \b
    TRACE is azure_code, azure_conv, mooncake, servegen_r1, servegen_m_mid or arena, the file of one of them, or a CSV
    of your own with columns arrival_s, tenant, prompt_tokens, output_tokens.
    Policies: straight  no gateway in between        fair   weighted fair by tokens
              fcfs      first come, first served     lanes  fair, with a lane for long prompts
              shortest  shortest first               paced  lanes, and long prompts in pieces
    """
    from headway.config.problems import nearest
    from headway.lab.engine.settings import EngineRefusal
    from headway.lab.engine_http_profiles import PROFILES
    from headway.lab.replay import POLICIES
    from headway.lab.replay_report import HEAD, chart, rows, totals
    from headway.lab.replay_report import as_json as told_json
    from headway.lab.replay_run import Job, replay_all
    from headway.lab.replay_traffic import UnknownTrace
    from headway.lab.traces.reading import TraceError, TraceMissing, traces_folder
    from headway.prove.checked import Progress

    names = list(dict.fromkeys(name.strip() for name in policies.split(",") if name.strip()))
    for name in names or [""]:
        if name not in POLICIES:
            near = nearest(name, POLICIES) or "lanes"
            raise Trouble(f"there is no policy {name!r}", "policies are " + ", ".join(POLICIES), f"--policy {near}", UNUSABLE)
    if engine_name not in PROFILES:
        near = nearest(engine_name, PROFILES) or "pro6000_8b"
        raise Trouble(f"there is no engine {engine_name!r}", "engines are " + ", ".join(PROFILES), f"--engine {near}", UNUSABLE)
    job = Job(trace=trace, traces=traces_folder(data), engine=engine_name, scale=scale, limit=limit, seed=seed, tenants=tenants)
    progress = Progress(f"replay {trace}")
    try:
        told = replay_all(job, names, progress.say)
    except UnknownTrace as error:
        raise Trouble("there is nothing to replay", str(error), "headway lab replay --help", UNUSABLE) from None
    except TraceMissing as error:
        raise Trouble("the trace is not here", str(error), "--data DIR, the folder that holds traces/", MISSING) from None
    except TraceError as error:
        raise Trouble("the trace cannot be read", str(error), "correct that line", UNUSABLE) from None
    except EngineRefusal as error:
        raise Trouble("this engine cannot serve the trace", str(error), "another --engine, or --limit", UNUSABLE) from None
    finally:
        progress.done()
    if svg_file is not None:
        Path(svg_file).write_text(chart(told), encoding="utf-8")
    if as_json:
        emit(told_json(told))
        return
    click.echo(
        f"{told.calls:,} calls of {told.trace} at {scale:g} times their rate on {told.engine}; slowdown is time over time alone\n"
    )
    for line in layout(HEAD, rows(told), right=tuple(range(2, len(HEAD))), width=TABLE_WIDTH):
        click.echo(line)
    click.echo("")
    for line in totals(told):
        click.echo(line)
