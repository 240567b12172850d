"""``headway probes``: small fixed calls of our own to each route, as a control group."""

import time

import click

from headway.cli.client import Control
from headway.cli.common import config_option, emit, json_option, loaded, table
from headway.cli.trouble import NOT_AS_WANTED
from headway.control.api.probes import RoundsStarted, RoundWanted
from headway.control.probes import ProbeResult, ProbesView, ProbeView
from headway.control.words import plural
from headway.kernel.instants import wall_ms
from headway.kernel.limits import PROBE_TIMEOUT_MS
from headway.kernel.money import usd_text

_POLL_S = 0.25
_ROUND_S_MAX = 5 * PROBE_TIMEOUT_MS / 1000


@click.group("probes")
def command() -> None:
    """See what probes find; send a round of them now."""


@command.command("list")
@config_option
@json_option
def show(config_path: str | None, as_json: bool) -> int:
    """Every route, when it is probed next, what a round can cost at most, and the last results."""
    view = Control(loaded(config_path)).get("/api/v1/probes", ProbesView)
    if as_json:
        emit(view)
        return 0
    click.echo(
        f"spent today {usd_text(view.spent_nano_usd)} of {usd_text(view.cap_nano_usd, 2)}, charged to tenant {view.tenant}"
        + (f"; {view.problem}" if view.problem else "")
    )
    rows = [(r.route, _next(r), _money(r.round_nano_usd_max), _last(r), r.refused) for r in view.routes]
    table(("route", "next", "a round at most", "last round", "why not"), rows, right=(2,))
    if not rows:
        click.echo("no route: name models under providers, or targets in features")
    if view.left_out:
        click.echo(f"{plural(view.left_out, 'route')} more than are probed at all are left out")
    return 0


@command.command("run-once")
@click.option("--route", default="", help="provider/model; default all that are on the schedule.")
@config_option
@json_option
def run_once(route: str, config_path: str | None, as_json: bool) -> int:
    """Send a round now: a short and a long prompt, each cold and then warm. It costs money, within the cap of the day.

    Exit 1 when a call of it failed. What each took stands in the facts: headway calls show CALL.
    """
    control = Control(loaded(config_path))
    began = wall_ms()
    started = control.post("/api/v1/probes/rounds", RoundWanted(route=route), RoundsStarted).routes
    found = _wait(control, started)
    rounds = {r.route: [x for x in reversed(r.results) if x.at_wall_ms >= began] for r in found if r.route in started}
    if as_json:
        emit({"rounds": rounds})
    else:
        rows = [(name, x.kind, _money(x.cost_nano_usd), x.call or "-", x.problem) for name, each in rounds.items() for x in each]
        table(("route", "kind", "cost", "call", "problem"), rows, right=(2,))
    return NOT_AS_WANTED if any(x.problem for each in rounds.values() for x in each) else 0


def _wait(control: Control, routes: tuple[str, ...]) -> tuple[ProbeView, ...]:
    until = time.monotonic() + _ROUND_S_MAX
    while True:
        view = control.get("/api/v1/probes", ProbesView)
        if not any(r.running for r in view.routes if r.route in routes) or time.monotonic() > until:
            return view.routes
        time.sleep(_POLL_S)


def _next(route: ProbeView) -> str:
    if route.running:
        return "now"
    if route.due_wall_ms is None:
        return "off"
    return f"in {max(0, route.due_wall_ms - wall_ms()) // 1000:,} s"


def _money(nano_usd: int | None) -> str:
    return "unknown" if nano_usd is None else usd_text(nano_usd)


def _last(route: ProbeView) -> str:
    if not route.results:
        return "-"
    newest: list[ProbeResult] = list(route.results[:4])
    failed = sum(bool(each.problem) for each in newest)
    return f"{failed} of {len(newest)} failed" if failed else plural(len(newest), "call") + ", all answered"
