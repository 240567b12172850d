"""``headway phases``: where one call's time went and why, and what changed since an instant. The same words as the board's and the API's."""

import time
from datetime import datetime, timedelta
from typing import Final

import click

from headway.calls.phases.cusum import Alarm
from headway.calls.phases.drift import Drift
from headway.calls.phases.model import Cause, Evidence, Verdict
from headway.calls.phases.prefix_change import Break
from headway.calls.phases.report import Confirmed, WindowReport
from headway.cli.client import Control
from headway.cli.common import config_option, emit, json_option, loaded, table
from headway.control.phases import Judged, Since
from headway.control.words import count, instant, milliseconds, percent, plural
from headway.kernel.figure import Figure

_BAR: Final = 40
_DRIFT_P: Final = 0.001
_UNITS: Final = {"h": 3_600_000, "min": 60_000, "m": 60_000, "s": 1_000, "d": 86_400_000}


class _ByCall(click.Group):
    """``headway phases CALL`` is ``headway phases call CALL``."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["call", *args]
        return super().resolve_command(ctx, args)


@click.group("phases", cls=_ByCall)
def command() -> None:
    """Say where a call's time went and why, or that nobody can tell: `headway phases CALL`, `headway phases since 14:00`."""


@command.command("call")
@click.argument("call")
@config_option
@json_option
def one(call: str, config_path: str | None, as_json: bool) -> None:
    """CALL split into phases, with the verdict, its evidence, and what is missing."""
    if not call.replace("_", "").isalnum():
        raise click.BadParameter(f"{call!r} is not the id of a call; x-headway-call in an answer is one")
    found = Control(loaded(config_path)).get(f"/api/v1/phases/calls/{call}", Judged)
    if as_json:
        emit(found)
        return
    click.echo(f"{found.call}  {found.target}  {milliseconds(found.split.duration_ms)}\n")
    _phases(found)
    click.echo("")
    _verdict(found.verdict)


@command.command("since")
@click.argument("when")
@config_option
@json_option
def since(when: str, config_path: str | None, as_json: bool) -> None:
    """What changed since WHEN (14:00, 2h, 2026-11-24T14:00): causes with their share of the added latency, the mix apart."""
    found = Control(loaded(config_path)).get("/api/v1/phases/since", Since, since=instant_ms(when, datetime.now().astimezone()))
    if as_json:
        emit(found)
        return
    _report(found.report)
    _prefixes(found.prefixes)
    if found.calls_left_out:
        click.echo(f"\n{plural(found.calls_left_out, 'call')} more in the range were not read")


def instant_ms(text: str, now: datetime) -> int:
    """Wall milliseconds. A time of day that is to come is yesterday's; ``2h`` is two hours ago; an ISO instant without a zone is local."""
    number = text.rstrip("hmindsec ")
    unit = text[len(number) :].strip()
    if number.isdigit() and unit in _UNITS:
        return int(now.timestamp() * 1000) - int(number) * _UNITS[unit]
    try:
        at = _instant(text, now)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no instant; 14:00, 2h or 2026-11-24T14:00 are") from None
    return int(at.timestamp() * 1000)


def _instant(text: str, now: datetime) -> datetime:
    if "T" in text or "-" in text:
        at = datetime.fromisoformat(text)
        return at if at.tzinfo is not None else at.replace(tzinfo=now.tzinfo)
    clock = datetime.strptime(text, "%H:%M" if text.count(":") == 1 else "%H:%M:%S")  # noqa: DTZ007 (a time of day; its day follows)
    at = now.replace(hour=clock.hour, minute=clock.minute, second=clock.second, microsecond=0)
    return at if at <= now else at - timedelta(days=1)


def _phases(found: Judged) -> None:
    whole = max(found.split.duration_ms, 1e-9)
    rows = [
        (name, milliseconds(ms), percent(ms / whole), "█" * max(round(_BAR * ms / whole), 1))
        for name, ms in found.split.parts_ms.items()
        if ms >= 0.05
    ]
    table(("phase", "took", "share", ""), rows, right=(1, 2))
    if found.gap_p50_ms is not None:
        click.echo(
            f"gaps between reads: median {milliseconds(found.gap_p50_ms)}, p99 {milliseconds(found.gap_p99_ms)}, "
            f"longest {milliseconds(found.gap_longest_ms)}; {plural(found.stalls, 'stall')}"
        )


def _verdict(verdict: Verdict) -> None:
    click.echo(verdict_words(verdict))
    for each in verdict.evidence:
        click.echo(f"  - {evidence_words(each)}")
    if verdict.second is not None:
        click.echo(f"  {'likeliest' if verdict.cause is Cause.CANNOT_TELL else 'second'}: {cause_words(verdict.second)}")
    for missing in verdict.missing:
        click.echo(f"  missing: {missing}")


def verdict_words(verdict: Verdict) -> str:
    """One line."""
    known = f"{plural(verdict.n_baseline, 'call')} like it"
    if not verdict.slow and verdict.cause is None:
        return f"not slow: expected {milliseconds(verdict.expected_ms)} by {known}"
    if verdict.cause in (None, Cause.CANNOT_TELL):
        why = f" of {milliseconds(verdict.excess_ms)} more than expected" if verdict.slow else ""
        return f"cannot tell{why}: {known}"
    share = percent(min(verdict.explained_ms / verdict.excess_ms, 1.0)) if verdict.excess_ms > 0 else "-"
    return (
        f"{cause_words(verdict.cause)}: explains {share} of {milliseconds(verdict.excess_ms)} over the "
        f"{milliseconds(verdict.expected_ms)} expected by {known}"
    )


def cause_words(cause: Cause | None) -> str:
    return "none" if cause is None else cause.value.replace("_", " ")


def evidence_words(each: Evidence) -> str:
    """``uncached prompt tokens: 6,000 (usually 400)``."""
    if each.value is None:
        return each.what
    usual = f" (usually {_amount(each.usual, each.unit)})" if each.usual is not None else ""
    return f"{each.what}: {_amount(each.value, each.unit)}{usual}"


def _amount(value: float, unit: str) -> str:
    if unit == "ms":
        return milliseconds(value)
    return f"{count(value)} {unit}".strip()


def _report(report: WindowReport) -> None:
    click.echo(f"since {instant(report.since_ms)}: {plural(report.n_after, 'call')} against {report.n_before:,} before")
    if report.problem:
        click.echo(f"cannot tell: {report.problem}")
        return
    click.echo(
        f"the mean call took {milliseconds(report.before.value)} and takes {milliseconds(report.after.value)}: {_added(report.added)}; "
        f"of it the mix of callers and sizes {_added(report.mix)}\n"
    )
    rows = [
        (
            cause_words(part.cause),
            _signed(part.added.value),
            _signed(part.added.low),
            _signed(part.added.high),
            percent(part.share) if part.share is not None else "-",
            f"{part.calls:,}",
        )
        for part in report.parts
    ]
    table(("cause", "added a call", "from", "to", "share", "slow calls"), rows, right=(1, 2, 3, 4, 5))
    _dates(report.alarms, report.confirmed)
    _drifts(report.drifts)
    if report.left_out:
        click.echo(f"{plural(report.left_out, 'call')} of targets that too few called before are left out")


def _dates(alarms: tuple[tuple[str, Alarm], ...], tests: tuple[Confirmed, ...]) -> None:
    for target, alarm in alarms:
        click.echo(f"{target}: first tokens {'rose' if alarm.rose else 'fell'} at {instant(alarm.stamp_ms)}")
    for test in tests:
        if test.sure and test.stamp_ms is not None:
            click.echo(f"{test.target}: a change at {instant(test.stamp_ms)} is no chance (p = {test.p:.2g}, {test.n:,} calls)")


def _drifts(drifts: tuple[Drift, ...]) -> None:
    for drift in drifts:
        if drift.p is not None and drift.p < _DRIFT_P:
            moved = ", ".join(f"{value or 'none'} {percent(a)} -> {percent(b)}" for value, a, b in drift.values[:3])
            click.echo(f"other {drift.dimension}s answer: {moved} (p = {drift.p:.2g})")


def _prefixes(broken: tuple[Break, ...]) -> None:
    rows = [
        (
            each.prompt or "none",
            each.tenant,
            each.kind.value.replace("_", " "),
            time.strftime("%H:%M:%S", time.localtime(each.since_ms / 1000)),
            f"{each.calls:,}",
            count(each.lost_tokens),
            milliseconds(each.cost_ms),
            each.what,
        )
        for each in broken
    ]
    if rows:
        click.echo("\nprefixes that broke")
    table(("prompt", "tenant", "by", "since", "calls", "tokens lost", "cost", "what"), rows, right=(4, 5, 6))


def _added(figure: Figure) -> str:
    return "unknown" if figure.value is None else f"{_signed(figure.value)} ({_signed(figure.low)} to {_signed(figure.high)})"


def _signed(ms: float | None) -> str:
    return "-" if ms is None else ("-" if ms < 0 else "+") + milliseconds(abs(ms))
