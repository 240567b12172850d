"""``headway admission show``: who waits, who is late, who stalled whom. The same report as the board's and the API's."""

import click

from headway.calls.admission.objectives import Kept
from headway.calls.admission.report import AdmissionReport, Stratum
from headway.calls.admission.stalls import UNEXPLAINED
from headway.cli.client import Control
from headway.cli.common import config_option, emit, json_option, loaded, table
from headway.cli.trouble import NOT_AS_WANTED
from headway.control.admission_now import AdmissionNow
from headway.control.words import milliseconds, percent, plural
from headway.kernel.figure import Figure

_ROWS = 20
_STATES = {"kept": "kept", "over": "late", "masked": "late, hidden", "cannot tell": "too few"}


@click.group("admission")
def command() -> None:
    """See who waits, who is late and who stalled whom."""


@command.command("show")
@click.option(
    "--range", "length", default="1h", show_default=True, type=click.Choice(["15m", "1h", "24h", "7d"]), help="Up to now."
)
@click.option("--endpoint", default="", help="One endpoint; default all together.")
@click.option("--alarm", is_flag=True, help="Exit 1 when a class or tenant breaks an objective that the pooled figure hides.")
@config_option
@json_option
def show(length: str, endpoint: str, alarm: bool, config_path: str | None, as_json: bool) -> int:
    """Queues now; first token, queue wait, token gap and slowdown by class and tenant; stalls; objectives."""
    control = Control(loaded(config_path))
    now = control.get("/api/v1/admission/now", AdmissionNow)
    report = control.get("/api/v1/admission", AdmissionReport, range=length, endpoint=endpoint)
    if as_json:
        emit({"now": now.endpoints, "report": report})
    else:
        _queues(now)
        _fared(report)
        _stalls(report)
        _alarm(report)
    return NOT_AS_WANTED if alarm and report.masking.masked else 0


def _queues(now: AdmissionNow) -> None:
    rows = [
        (
            e.view.endpoint,
            e.view.policy,
            f"{e.view.queued:,}",
            f"{e.view.running:,}",
            f"{e.view.long_running}+{e.view.long_queued}",
            e.view.pacing,
            milliseconds(e.view.wait_forecast_ms),
            f"{milliseconds(e.view.wait_forecast_low_ms)} - {milliseconds(e.view.wait_forecast_high_ms)}",
            "silent" if e.silent else e.view.shared,
        )
        for e in now.endpoints
        if e.whole
    ]
    table(
        ("endpoint", "policy", "waiting", "running", "long", "pacing", "next waits", "80 %", "counters"), rows, right=(2, 3, 4, 6)
    )
    tenants = [
        (
            e.view.endpoint,
            t.now.tenant or "none",
            f"{t.now.queued:,}",
            milliseconds(t.now.oldest_wait_ms) if t.now.queued else "-",
            f"{t.now.running:,}",
            percent(t.entitled_share),
            percent(t.served_share),
            "demoted" if t.now.demoted else "",
        )
        for e in now.endpoints
        for t in e.tenants[:_ROWS]
    ]
    if tenants:
        click.echo()
    table(("endpoint", "tenant", "waiting", "longest", "running", "due", "served", ""), tenants, right=(2, 3, 4, 5, 6))
    if not rows and not tenants:
        click.echo("no endpoint is shared by a policy now")


def _fared(report: AdmissionReport) -> None:
    lines = [report.pooled, *report.classes, *report.tenants[:_ROWS]] if report.pooled.calls else []
    click.echo()
    if not lines:
        click.echo("no call in this range")
        return
    head = ("calls of", "calls", "objective", "late", "queue p99", "first p50", "p95", "p99", "gap p99", "slowdown p99")
    table(head, [_line(line) for line in lines], right=(1, 3, 4, 5, 6, 7, 8, 9))


def _line(line: Stratum) -> tuple[str, ...]:
    first = line.first_token
    return (
        f"{line.key.kind} {line.key.name}".strip(),
        f"{line.calls:,}",
        _STATES[line.kept.state],
        percent(line.kept.broken_share.value),
        _ms(line.queue.p99),
        _ms(first.p50),
        _ms(first.p95),
        _ms(first.p99),
        _ms(line.gap.p99),
        f"{line.slowdown.p99.value:.2f}" if line.slowdown.p99.value is not None else "-",
    )


def _ms(figure: Figure) -> str:
    return milliseconds(figure.value) if figure.value is not None else "-"


def _stalls(report: AdmissionReport) -> None:
    cells = [cell for cell in report.stalls.cells if cell.aggressor != UNEXPLAINED][:_ROWS]
    if cells:
        how = "" if report.stalls.exact else ", estimated"
        click.echo(f"\nwho stalled whom{how}, the newest {report.calls_read:,} of {plural(report.calls_in_range, 'call')}")
    rows = [
        (
            cell.victim or "none",
            cell.aggressor or "none",
            milliseconds(cell.stall_ms),
            milliseconds(cell.queue_ms),
            milliseconds(cell.first_token_ms),
            milliseconds(cell.gap_ms),
        )
        for cell in cells
    ]
    table(("lost by", "to", "in all", "in the queue", "first token", "between tokens"), rows, right=(2, 3, 4, 5))


def _alarm(report: AdmissionReport) -> None:
    parts: tuple[Kept, ...] = report.masking.over
    if not parts:
        return
    click.echo()
    for part in parts:
        hidden = "; all calls together keep theirs, which hides it" if part.state == "masked" else ""
        click.echo(
            f"{part.kind} {part.name}: {percent(part.broken_share.value)} of {plural(part.calls, 'call')} missed the objective, "
            f"{percent(part.allowed_share)} may{hidden}"
        )
