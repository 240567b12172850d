"""``headway calls``: the live feed, the list, one call."""

import json
import time
from collections.abc import Iterator
from itertools import chain
from typing import Any, Final

import click
import msgspec

from headway.cli.client import Control
from headway.cli.common import config_option, emit, emit_line, json_option, loaded, table
from headway.cli.trouble import Trouble
from headway.facts.measured import gaps_of_attempt
from headway.facts.model import AttemptFact
from headway.kernel.money import usd_text

_HEAD: Final = ("at", "call", "tenant", "requested", "answered by", "state", "first", "total", "in", "out", "cost")
_WIDTHS: Final = (8, 10, 8, 10, 14, 10, 6, 6, 5, 5, 8)
_RECONNECT_S: Final = 1.0
Call = dict[str, Any]
"""A call as the API tells it: LiveCall, with the CallFact under ``fact`` once it ended."""


def _filters(function: Any) -> Any:
    for name, words in (
        ("--model", "Part of a model's name: requested, routed or answered."),
        ("--state", "in_flight, failed or an outcome."),
        ("--feature", "Calls of this feature."),
        ("--tenant", "Calls of this tenant."),
    ):
        function = click.option(name, default="", help=words)(function)
    return function


@click.group("calls")
def command() -> None:
    """Watch calls as they happen; look at one."""


@command.command("tail")
@_filters
@click.option("--origin", default="client", show_default=True, help="client, piece, hedge, …; any for all.")
@click.option("--last", type=click.IntRange(0, 500), default=10, show_default=True, help="First show so many that ended already.")
@config_option
@json_option
def tail(tenant: str, feature: str, state: str, model: str, origin: str, last: int, config_path: str | None, as_json: bool) -> None:
    """Follow calls as they end; with --json one JSON object a line. Ctrl-C ends it.

    Comes back by itself when control was away.
    """
    control = Control(loaded(config_path))
    query: dict[str, str | int | None] = {"tenant": tenant, "feature": feature, "state": state, "model": model, "origin": origin}
    if not as_json:
        click.echo(_row(_HEAD))
    try:
        recent = control.get("/api/v1/calls", dict[str, Any], limit=last, **query)["calls"] if last else []
        for call in chain(reversed(recent), _followed(control, query)):
            _show(call, as_json)
    except KeyboardInterrupt:
        return


def _followed(control: Control, query: dict[str, str | int | None]) -> Iterator[Call]:
    """Calls of the feed, without end. Only the first connection may fail."""
    reached = False
    while True:
        try:
            for name, data in control.events("/api/v1/calls/stream", **query):
                reached = True
                if name == "calls":
                    yield from json.loads(data)
                elif name == "refetch":
                    click.echo(f"({data} calls were left out: too many at once)", err=True)
        except Trouble:
            if not reached:
                raise
            click.echo("(control is away; waiting for it)", err=True)
        reached = True
        time.sleep(_RECONNECT_S)


def _show(call: Call, as_json: bool) -> None:
    if as_json:
        emit_line(call)
    elif call["state"] != "in_flight":
        click.echo(_row(cells(call)))


def _row(texts: tuple[str, ...]) -> str:
    cut = (text if len(text) <= width else text[: width - 1] + "…" for text, width in zip(texts, _WIDTHS, strict=True))
    return " ".join(
        text.rjust(w) if i >= 6 else text.ljust(w) for i, (text, w) in enumerate(zip(cut, _WIDTHS, strict=True))
    ).rstrip()


def cells(call: Call) -> tuple[str, ...]:
    """One call as the columns of the table."""
    fact = call.get("fact") or {}
    return (
        time.strftime("%H:%M:%S", time.localtime(call["started_wall_ms"] / 1000)),
        call["call"][-10:],
        call["tenant"],
        call["requested"],
        fact.get("answered") or fact.get("routed") or "-",
        fact.get("stream_fault") or fact.get("outcome") or call["state"],
        _ms(fact.get("first_token_ms")),
        _ms(fact.get("duration_ms")),
        _number(fact.get("input_tokens")),
        _number(fact.get("output_tokens")),
        _money(fact.get("cost_nano_usd")),
    )


def _ms(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}ms" if value < 10_000 else f"{value / 1000:.0f}s"


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)


def _money(nano_usd: int | None) -> str:
    return "unknown" if nano_usd is None else usd_text(nano_usd, 5)


@command.command("list")
@_filters
@click.option("--limit", type=click.IntRange(1, 500), default=20, show_default=True)
@config_option
@json_option
def list_calls(tenant: str, feature: str, state: str, model: str, limit: int, config_path: str | None, as_json: bool) -> None:
    """The newest calls that ended, newest first."""
    query: dict[str, str | int | None] = {"tenant": tenant, "feature": feature, "state": state, "model": model, "limit": limit}
    found = Control(loaded(config_path)).get("/api/v1/calls", dict[str, Any], **query)
    if as_json:
        emit(found)
        return
    click.echo(_row(_HEAD))
    for call in found["calls"]:
        click.echo(_row(cells(call)))
    if found.get("problem"):
        click.echo(f"(older calls are missing: {found['problem']})", err=True)


@command.command("show")
@click.argument("call")
@config_option
@json_option
def show(call: str, config_path: str | None, as_json: bool) -> None:
    """Everything known of CALL: who asked, who answered, attempts, tokens, cost, how it ended."""
    found = _of_call(call, config_path)
    if as_json:
        emit(found)
        return
    fact = (found.get("stored") or {}).get("fact") or (found.get("live") or {}).get("fact") or {}
    click.echo(f"{found['call']}  {fact.get('outcome') or found['state']}")
    table(("what", "value"), [(name, _value(name, value)) for name, value in fact.items() if value not in ("", None, [], ())])
    attempts = (found.get("stored") or {}).get("attempts") or []
    if attempts:
        click.echo("")
        rows = [_attempt(attempt) for attempt in attempts]
        table(("attempt", "provider", "answered", "status", "outcome", "first", "total", "error"), rows, right=(5, 6))


def _of_call(call: str, config_path: str | None) -> dict[str, Any]:
    if not call.replace("_", "").isalnum():
        raise click.BadParameter(f"{call!r} is not the id of a call; x-headway-call in an answer is one")
    return Control(loaded(config_path)).get(f"/api/v1/calls/{call}", dict[str, Any])


def _attempt(row: dict[str, Any]) -> tuple[str, ...]:
    times = (_ms(row.get("first_token_ms")), _ms(row.get("duration_ms")))
    answered = row.get("answered") or row.get("upstream_model", "")
    number, status = str(row.get("attempt", "")), str(row.get("status", ""))
    return (number, row.get("provider", ""), answered, status, row.get("outcome", ""), *times, row.get("error_code", ""))


def _value(name: str, value: object) -> str:
    if name.endswith("_nano_usd") and isinstance(value, int):
        return usd_text(value, 9)
    return msgspec.json.encode(value).decode() if isinstance(value, list | dict) else str(value)


@command.command("gaps")
@click.argument("call")
@click.option(
    "--over", type=click.FloatRange(min=1.0), default=5.0, show_default=True, help="Count gaps longer than so many medians."
)
@config_option
@json_option
def gaps(call: str, over: float, config_path: str | None, as_json: bool) -> None:
    """How long CALL's answer paused between reads: median, p99, longest, stalls, of each attempt that streamed.

    Pauses in which the caller did not read are not counted as gaps.
    """
    found = _of_call(call, config_path)
    stored = [msgspec.convert(row, AttemptFact) for row in (found.get("stored") or {}).get("attempts") or []]
    rows = [_gaps_row(attempt, over) for attempt in stored if attempt.token_times]
    if as_json:
        emit({"call": found["call"], "over_medians": over, "attempts": rows})
    elif not rows:
        click.echo(
            f"{found['call']}: no times of reads are stored: it was not streamed, has not ended yet, or gateway.phases is off"
        )
    else:
        heads = ("attempt", "gaps", "median", "p99", "longest", f"over {over:g} medians", "stalls", "stalled", "blocked")
        table(heads, [_gaps_text(row) for row in rows], right=tuple(range(9)))


def _gaps_row(attempt: AttemptFact, over: float) -> dict[str, Any]:
    found = gaps_of_attempt(attempt)
    return {
        "attempt": attempt.attempt,
        "gaps": found.n,
        "median_ms": _rounded(found.quantile_ms(0.5)),
        "p99_ms": _rounded(found.quantile_ms(0.99)),
        "longest_ms": _rounded(found.longest_ms),
        "over": found.over_medians(over),
        "stalls": [{"at_ms": _rounded(stall.at_ms), "gap_ms": _rounded(stall.gap_ms)} for stall in found.stalls],
        "stalled_ms": _rounded(found.stalled_ms),
        "blocked": found.blocked,
    }


def _gaps_text(row: dict[str, Any]) -> tuple[str, ...]:
    times = (f"{row[name]:.1f}ms" if row[name] is not None else "-" for name in ("median_ms", "p99_ms", "longest_ms"))
    counts = (str(row["over"]), str(len(row["stalls"])), f"{row['stalled_ms']:.1f}ms", str(row["blocked"]))
    return (str(row["attempt"]), str(row["gaps"]), *times, *counts)


def _rounded(ms: float | None) -> float | None:
    """To a microsecond: times of reads are kept in tenths of a millisecond."""
    return None if ms is None else round(ms, 3)
