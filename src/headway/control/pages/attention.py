"""What is wrong, worst first, and the one sentence on top of Home: pure, from plain values."""

from collections.abc import Iterable, Sequence
from math import sqrt

import msgspec

from headway.calls.admission.objectives import Kept
from headway.control.ports import GatewayView, Generation, Group, Overview
from headway.control.words import ago, count, milliseconds, percent, plural, usd
from headway.ledger.model import BudgetState, BudgetUnit

BUDGET_NEAR_SHARE = 0.8
FAILED_CALLS_MIN = 3
FAILED_SHARE_WARN, FAILED_SHARE_BAD = 0.05, 0.25
_RANK = {"bad": 0, "warn": 1, "info": 2}
_Z95 = 1.96


class Attention(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to look at. ``tone`` is bad, warn or info; ``link`` leads to the rows behind it."""

    tone: str
    what: str
    do: str = ""
    link: str = ""


def failed_interval(failed: int, calls: int) -> tuple[float, float]:
    """Wilson's 95 % interval of the failed share; (0, 1) without calls."""
    if calls == 0:
        return 0.0, 1.0
    share, z2 = failed / calls, _Z95 * _Z95
    middle = (share + z2 / (2 * calls)) / (1 + z2 / calls)
    half = _Z95 / (1 + z2 / calls) * sqrt(share * (1 - share) / calls + z2 / (4 * calls * calls))
    return max(0.0, middle - half), min(1.0, middle + half)


def of_gateways(gateways: Sequence[GatewayView], generation: int, now: int) -> Iterable[Attention]:
    """Gateways that are away, behind or degraded; none at all."""
    if not gateways:
        yield Attention(
            tone="bad", what="No gateway is connected: no call can come in.", do="Start one: headway serve, or headway gateway."
        )
    for gateway in gateways:
        if not gateway.connected:
            since = ago(gateway.heartbeat_wall_ms, now)
            yield Attention(
                tone="bad",
                what=f"Gateway {gateway.name} is not connected (last heard {since}).",
                do="It goes on with its last snapshot. See gateway.log on its machine.",
                link="/settings#gateways",
            )
        elif gateway.generation < generation:
            yield Attention(
                tone="warn",
                what=f"Gateway {gateway.name} is at generation {gateway.generation}, control at {generation}.",
                do="It should follow within seconds.",
                link="/settings#gateways",
            )
        for what in gateway.degraded:
            yield Attention(tone="warn", what=f"Gateway {gateway.name}: {what}", link="/settings#gateways")


def of_generation(found: Generation) -> Iterable[Attention]:
    """A file on disk that is not in force."""
    if found.problem:
        yield Attention(
            tone="bad",
            what=f"headway.toml has a problem; generation {found.number} stays in force.",
            do=found.problem.splitlines()[0],
            link="/settings#generation",
        )


def of_budgets(budgets: Sequence[BudgetState], now: int) -> Iterable[Attention]:
    """Budgets that are used up, or near their cap."""
    for budget in budgets:
        name, used = budget.scope.partition(":")[2], budget.spent
        share = used / budget.cap if budget.cap else 1.0
        amount = f"{amount_text(used, budget.unit)} of {amount_text(budget.cap, budget.unit)} a {budget.period}"
        resets = f", until it resets {ago(budget.period_end_wall_ms, now)}" if budget.period_end_wall_ms else ""
        if share >= 1:
            yield Attention(
                tone="bad",
                what=f"{name} has used up its budget ({amount}): its calls are refused{resets}.",
                do="Raise the cap in headway.toml, or wait.",
                link="/settings#budgets",
            )
        elif share >= BUDGET_NEAR_SHARE:
            yield Attention(
                tone="warn", what=f"{name} has spent {percent(share)} of its budget ({amount}){resets}.", link="/settings#budgets"
            )


def of_failures(recent: Overview, minutes: int) -> Iterable[Attention]:
    """Features that fail more than chance explains: the lower end of the interval decides, and a few calls alarm nobody."""
    for group in recent.features:
        low, _ = failed_interval(group.failed, group.calls)
        if low < FAILED_SHARE_WARN or group.failed < FAILED_CALLS_MIN:
            continue
        yield Attention(
            tone="bad" if low >= FAILED_SHARE_BAD else "warn",
            what=f"{group.name or 'calls without a feature'}: {plural(group.failed, 'call')} of {count(group.calls)} failed in {minutes} min "
            f"({percent(group.failed / group.calls)}, at least {percent(low)}).",
            do="See the failed calls and who answered.",
            link=f"/calls?feature={group.name}&state=failed",
        )


def of_costs(today: Group) -> Iterable[Attention]:
    """Calls whose cost nobody knows."""
    n = today.cost_unknown
    if n:
        words = (
            "1 call of today has an unknown cost and is" if n == 1 else f"{count(n)} calls of today have an unknown cost and are"
        )
        yield Attention(
            tone="info", what=f"{words} not in the sum.", do="Set price_as of its provider in headway.toml.", link="/calls"
        )


def of_objectives(alarms: Sequence[Kept], minutes: int) -> Iterable[Attention]:
    """Parts that break their first-token objective; those that the pooled figure hides say so."""
    for part in alarms:
        hidden = " All calls together keep theirs, which hides it." if part.state == "masked" else ""
        yield Attention(
            tone="bad" if part.state == "masked" else "warn",
            what=f"{part.kind.capitalize()} {part.name}: {percent(part.broken_share.value)} of {plural(part.calls, 'call')} in {minutes} min "
            f"came later than their first-token objective allows ({percent(part.allowed_share)}).{hidden}",
            do="See who waits for whom.",
            link="/admission?range=15m",
        )


def worst_first(found: Iterable[Attention]) -> tuple[Attention, ...]:
    """Bad, warn, info; otherwise in the order in which they were found."""
    return tuple(sorted(found, key=lambda a: _RANK[a.tone]))


def amount_text(amount: int, unit: BudgetUnit) -> str:
    """An amount of a budget with its unit."""
    return usd(amount) if unit is BudgetUnit.NANO_USD else f"{count(amount)} tokens"


def sentence(attention: Sequence[Attention], recent: Overview | None, minutes: int, ever_called: bool) -> tuple[str, str]:
    """Tone and the one sentence on top."""
    bad = [a for a in attention if a.tone == "bad"]
    warn = [a for a in attention if a.tone == "warn"]
    if bad:
        more = len(bad) + len(warn) - 1
        return "bad", bad[0].what + (f" And {plural(more, 'more thing')} below." if more else "")
    if warn:
        more = len(warn) - 1
        return "warn", warn[0].what + (f" And {plural(more, 'more thing')} below." if more else "")
    if recent is None:
        return "unknown", "Cannot tell: the stored calls cannot be read now. Calls go on."
    if not ever_called:
        return "unknown", "Nothing has called yet."
    total = recent.total
    if total.calls == 0:
        return "ok", f"Nothing is wrong. No call in the last {minutes} min."
    p99 = f", first token {milliseconds(total.first_token_p99.value)} (p99)" if total.first_token_p99.value is not None else ""
    return "ok", f"Nothing is wrong: {plural(total.calls, 'call')} in {minutes} min, {count(total.failed)} failed{p99}."
