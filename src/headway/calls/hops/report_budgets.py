"""Traces held against budgets: kept, broken beyond what chance does, or not to be told from so few traces.

A line is broken when the whole 95 % interval lies above its budget; over it in value alone is said, and does not break the build.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec

from headway.calls.hops.budgets import EVERY_OTHER, QUANTILE_KEYS, QUANTILES, Budgets, HopBudget, RequestBudget, least_traces
from headway.calls.hops.report import OTHER, RESAMPLES, Attribution, HopOwns, attribute
from headway.calls.hops.times import TraceTimes
from headway.config.problems import did_you_mean
from headway.kernel.figure import Figure

State = Literal["kept", "over, within noise", "broken", "cannot tell"]
TAIL = 0.99


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One budget. ``hop`` empty: the whole request. ``budget`` in the figure's unit. ``why`` only where it cannot be told."""

    request_type: str
    hop: str
    what: str
    """p50_ms, p95_ms, p99_ms or share."""
    budget: float
    figure: Figure
    state: State
    why: str = ""


class BudgetReport(msgspec.Struct, frozen=True, kw_only=True):
    """``state`` is the worst of the lines: broken, then cannot tell, then kept."""

    state: Literal["kept", "broken", "cannot tell"]
    traces: int
    lines: tuple[Line, ...]
    unbudgeted: tuple[str, ...] = ()
    """Request types in the traces for which no budget is given."""


def check(budgets: Budgets, rows: Sequence[TraceTimes], *, seed: int = 1, count: int = RESAMPLES) -> BudgetReport:
    """The same seed gives the same intervals."""
    groups: dict[str, list[TraceTimes]] = {}
    for row in rows:
        groups.setdefault(row.request_type, []).append(row)
    lines: list[Line] = []
    for kind, request in budgets.requests.items():
        if kind != EVERY_OTHER:
            lines += _lines(budgets, kind, request, groups.get(kind, []), list(groups), seed, count)
    others = [kind for kind in groups if kind not in budgets.requests]
    every_other = budgets.requests.get(EVERY_OTHER)
    if every_other is not None:
        for kind in others:
            lines += _lines(budgets, kind, every_other, groups[kind], list(groups), seed, count)
        others = []
    if every_other is not None and not groups:
        lines += _lines(budgets, EVERY_OTHER, every_other, [], [], seed, count)
    states = {line.state for line in lines}
    worst: Literal["kept", "broken", "cannot tell"] = (
        "broken" if "broken" in states else "cannot tell" if "cannot tell" in states else "kept"
    )
    return BudgetReport(state=worst, traces=len(rows), lines=tuple(lines), unbudgeted=tuple(others))


def _lines(
    budgets: Budgets, kind: str, request: RequestBudget, rows: list[TraceTimes], known: list[str], seed: int, count: int
) -> list[Line]:
    hops = {hop for row in rows for hop in row.by_hop}
    narrowed = [_only(row, request.hops) for row in rows]
    found = attribute(narrowed, by=(), quantiles=QUANTILES, seed=seed, count=count) if rows else ()
    at = {one.quantile: one for one in found}
    lines = []
    budgeted: list[tuple[str, RequestBudget | HopBudget]] = [("", request), *request.hops.items()]
    for hop, budget in budgeted:
        for what, quantile, value in _wanted(budget):
            figure = _figure(at.get(quantile), hop, what, len(rows))
            why = _cannot(kind, hop, hops, known, len(rows), least_traces(budgets, quantile), figure)
            state: State = "cannot tell" if why else _state(figure, value)
            lines.append(Line(request_type=kind, hop=hop, what=what, budget=value, figure=figure, state=state, why=why))
    return lines


def _wanted(budget: RequestBudget | HopBudget) -> list[tuple[str, float, float]]:
    """(key, quantile, value) of what is set."""
    pairs = zip(QUANTILE_KEYS, QUANTILES, strict=True)
    found = [(key, quantile, value) for key, quantile in pairs if (value := getattr(budget, key)) is not None]
    share = budget.share if isinstance(budget, HopBudget) else None
    return found if share is None else [*found, ("share", TAIL, share)]


def _only(row: TraceTimes, hops: dict[str, HopBudget]) -> TraceTimes:
    """The hops that have a budget, and all others as one: so that a report's bound on hops shown hides none of them."""
    kept = {hop: us for hop, us in row.by_hop.items() if hop in hops}
    rest = row.duration_us - sum(kept.values())
    return msgspec.structs.replace(row, by_hop={**kept, OTHER: rest} if rest else kept)


def _figure(found: Attribution | None, hop: str, what: str, n: int) -> Figure:
    unit = "" if what == "share" else "ms"
    if found is None:
        return Figure(value=None, unit=unit, n=n, method="no traces")
    if not hop:
        return found.total
    owns: HopOwns | None = next((each for each in found.hops if each.hop == hop), None)
    if owns is None:
        return Figure(value=None, unit=unit, n=n, method="no span of it lies on a critical path")
    return owns.share if what == "share" else owns.at


def _cannot(kind: str, hop: str, hops: set[str], known: list[str], n: int, least: int, figure: Figure) -> str:
    if not n:
        return f"no trace is of this type{did_you_mean(kind, known)}"
    if n < least:
        return f"{n:,} traces; it takes {least:,}"
    if hop and hop not in hops:
        return f"no hop of that name took any time{did_you_mean(hop, hops)}"
    return figure.method if figure.value is None else ""


def _state(figure: Figure, budget: float) -> State:
    assert figure.value is not None
    if figure.value <= budget:
        return "kept"
    low = figure.low if figure.low is not None else figure.value
    return "broken" if low > budget else "over, within noise"
