"""``headway hops``: where the time goes, by hop: out of a file of traces or of what control stored; budgets as a gate of CI."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import click
import msgspec

from headway.calls.hops.budgets import Budgets, parse
from headway.calls.hops.clean import Cleaned, TypeOf
from headway.calls.hops.report_budgets import check
from headway.calls.hops.report_summary import STRATA_CLOSELY, summarise
from headway.calls.hops.report_whatif import nobody_said
from headway.calls.hops.times import all_times
from headway.calls.hops.types import type_by_calls, type_by_root
from headway.cli.client import Control
from headway.cli.common import config_option, emit, json_option, loaded
from headway.cli.hops_text import budget_lines, summary_lines
from headway.cli.trouble import DONE, MISSING, NOT_AS_WANTED, UNUSABLE, Trouble
from headway.control.traces import Taken
from headway.facts.hops import clean_traces
from headway.facts.trace_files.opening import FORMS, read_bytes, read_traces
from headway.facts.trace_files.parts import parts_of
from headway.facts.trace_files.reading import Reading, Unreadable
from headway.kernel.errors import ConfigError
from headway.prove.checked import Progress

_WORDS: Final = {
    "type": "request_type",
    "request_type": "request_type",
    "root": "request_type",
    "calls": "request_type",
    "tenant": "tenant",
    "cache": "cache_hit",
    "cache_hit": "cache_hit",
    "band": "prompt_band",
    "prompt_band": "prompt_band",
}
_NOTHING: Final = ("all", "none")
_STATES: Final = {"kept": DONE, "broken": NOT_AS_WANTED, "cannot tell": MISSING}
_TYPES: Final[dict[str, TypeOf]] = {"root": type_by_root, "calls": type_by_calls}
_RANGES: Final = click.Choice(["15m", "1h", "24h", "7d"])
_files = click.argument("files", nargs=-1, type=click.Path(path_type=Path))
_facts = click.option("--facts", is_flag=True, help="The traces that control stored, Headway's own calls among them.")
_range = click.option("--range", "length", default="1h", show_default=True, type=_RANGES, help="Of --facts, up to now.")


@click.group("hops")
def command() -> None:
    """See which hop owns the median and which the tail, and hold hops to budgets.

    Files are OTLP in protobuf or JSON, Jaeger's JSON, or Parquet with the columns trace, span, parent, service, operation, start_us and
    dur_us; gzip is unpacked.
    """


@command.command("attribute")
@_files
@_facts
@_range
@click.option(
    "--by", default="type", show_default=True, help="type, calls, tenant, cache, band, or several with commas; all pools them."
)
@click.option("--type", "only", default="", help="Only request types whose name holds this.")
@click.option("--top", type=click.IntRange(1, 100), default=STRATA_CLOSELY, show_default=True, help="Strata looked at closely.")
@click.option("--seed", type=int, default=1, show_default=True, help="Intervals are drawn from it.")
@click.option("--budget", type=click.Path(path_type=Path), help="A hops.toml: pairs under its [[safe]] are shown as confirmed.")
@config_option
@json_option
def attribute(
    files: tuple[Path, ...],
    facts: bool,
    length: str,
    by: str,
    only: str,
    top: int,
    seed: int,
    budget: Path | None,
    config_path: str | None,
    as_json: bool,
) -> int:
    """Per request type: what each hop owns of p50, p95 and p99, the model at 0 ms, the best three changes, pairs that could run together.

    `calls` tells requests apart by what their root calls, for roots that all look alike.
    """
    keys, type_of = _keys(by)
    safe = nobody_said if budget is None else _budgets(budget).confirms
    progress = Progress("hops")
    reading = _read(files, facts, length, config_path, progress)
    cleaned = clean_traces(reading.spans, type_of=type_of)
    traces = tuple(trace for trace in cleaned.traces if only in trace.request_type)
    if not traces:
        raise Trouble("there is nothing to tell", _why_empty(reading, cleaned, only), "headway hops attribute --help", MISSING)
    summary = summarise(traces, by=keys, closely=top, seed=seed, say=progress.say, safe=safe)
    progress.done()
    summary = msgspec.structs.replace(summary, repairs=_repairs(reading, cleaned), refused=dict(reading.refused))
    if as_json:
        emit(summary)
    else:
        _print(summary_lines(summary, top))
    return DONE


@command.command("check")
@_files
@_facts
@_range
@click.option("--budget", required=True, type=click.Path(path_type=Path), help="The budgets, e.g. hops.toml.")
@click.option("--seed", type=int, default=1, show_default=True, help="Intervals are drawn from it.")
@config_option
@json_option
def check_budgets(
    files: tuple[Path, ...], facts: bool, length: str, budget: Path, seed: int, config_path: str | None, as_json: bool
) -> int:
    """Hold traces to budgets.

    Exit status 0: all kept. 1: one is broken beyond what chance does. 2: the budgets or the traces cannot be used. 3: it cannot be told.
    """
    budgets = _budgets(budget)
    progress = Progress("hops")
    reading = _read(files, facts, length, config_path, progress)
    cleaned = clean_traces(reading.spans, type_of=_TYPES[budgets.by])
    progress.say(f"{len(cleaned.traces):,} traces", force=False)
    report = check(budgets, all_times(cleaned.traces), seed=seed)
    progress.done()
    if as_json:
        emit(report)
    else:
        _print(budget_lines(report))
    return _STATES[report.state]


@command.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@config_option
@json_option
def import_file(file: Path, config_path: str | None, as_json: bool) -> int:
    """Send a file of OTLP or of Jaeger's JSON to control, which stores its spans."""
    control = Control(loaded(config_path))
    total = Taken(spans=0)
    progress = Progress("import")
    try:
        for form, part in parts_of(file):
            taken = control.post(f"/api/v1/traces?form={form}", msgspec.Raw(part), Taken)
            total = _sum(total, taken)
            progress.say(f"{total.spans:,} spans stored")
    except Unreadable as error:
        raise Trouble(f"{file} cannot be imported", str(error), f"files may be {FORMS}", UNUSABLE) from None
    progress.done()
    if as_json:
        emit(total)
    else:
        click.echo(f"{total.spans:,} spans stored")
        for word, counts in (("refused", total.refused), ("changed", total.mended)):
            for reason, count in sorted(counts.items()):
                click.echo(f"{word}: {reason} {count:,}")
    return DONE


def _keys(by: str) -> tuple[tuple[str, ...], TypeOf]:
    words = [word.strip().lower() for word in by.split(",") if word.strip()]
    if words and all(word in _NOTHING for word in words):
        return (), type_by_root
    unknown = [word for word in words if word not in _WORDS]
    if unknown or not words:
        raise click.BadParameter(f"{by!r} is not type, calls, tenant, cache, band or all", param_hint="--by")
    return tuple(dict.fromkeys(_WORDS[word] for word in words)), type_by_calls if "calls" in words else type_by_root


def _read(files: tuple[Path, ...], facts: bool, length: str, config_path: str | None, progress: Progress) -> Reading:
    if facts == bool(files):
        raise click.UsageError("name files of traces, or give --facts for those that control stored")
    try:
        if facts:
            reading = Reading()
            stored = Control(loaded(config_path)).fetch("/api/v1/traces", range=length)
            read_bytes(stored, reading, progress.say)
            return reading
        return _joined(read_traces(path, progress.say) for path in files)
    except Unreadable as error:
        raise Trouble("the traces cannot be read", str(error), f"files may be {FORMS}", UNUSABLE) from None


def _joined(readings: Iterable[Reading]) -> Reading:
    whole = Reading()
    for reading in readings:
        whole.spans += reading.spans
        whole.refused += reading.refused
        whole.mended += reading.mended
    return whole


def _budgets(path: Path) -> Budgets:
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Trouble(f"{path} cannot be read", str(error), "give --budget a file of budgets", UNUSABLE) from None
    try:
        return parse(text, path.name)
    except ConfigError as error:
        lines = str(error).splitlines()
        raise Trouble(f"{path} cannot be used", "\n     ".join(lines), "correct it; nothing was checked", UNUSABLE) from None


def _why_empty(reading: Reading, cleaned: Cleaned, only: str) -> str:
    if cleaned.traces:
        return (
            f"no request type holds {only!r}; there are {', '.join(sorted({trace.request_type for trace in cleaned.traces})[:10])}"
        )
    refused = {**reading.refused, **{repair.reason: repair.count for repair in cleaned.repairs}}
    counts = ", ".join(f"{reason} {count:,}" for reason, count in sorted(refused.items()))
    return f"no trace is left of {reading.spans_in:,} spans" + (f": {counts}" if counts else "")


def _repairs(reading: Reading, cleaned: Cleaned) -> dict[str, int]:
    return {**{repair.reason: repair.count for repair in cleaned.repairs}, **reading.mended}


def _sum(one: Taken, other: Taken) -> Taken:
    def both(first: dict[str, int], second: dict[str, int]) -> dict[str, int]:
        return {key: first.get(key, 0) + second.get(key, 0) for key in {**first, **second}}

    return Taken(spans=one.spans + other.spans, refused=both(one.refused, other.refused), mended=both(one.mended, other.mended))


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line)
