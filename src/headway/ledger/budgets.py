"""The rules of budgets, pure: what may be lent, what comes back, what an expired block counts as.

BUD-1: ``spent + leased <= cap + overrun`` after every step, and ``overrun`` is 0 unless a gateway reports more than its block held or
facts come in later than a reconciliation. Nothing is lent that would raise ``spent + leased`` over ``cap_wanted``.

A lease counts in its period, the one it was granted in:

    open        what was reported so far is spent, the rest of the block is leased
    expired     the whole block is spent: nobody knows better
    settled     what the gateway said in the end is spent
    reconciled  what the facts say (and never less than the gateway reported) is spent

``spent`` of a lease never falls, so messages may come twice and in any order. The one exception is a final word after a reconciliation:
it may only raise. No clock here: ``now`` is the ledger's time.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from msgspec.structs import replace

from headway.config.model import Tenant
from headway.kernel.instants import WallMs
from headway.kernel.limits import BUDGET_BLOCK_MAX_SHARE, LEASE_TTL_S
from headway.kernel.money import nano_usd
from headway.ledger.model import BudgetSpec, BudgetState, BudgetUnit, LeaseRecord, LeaseState

DAY = "day"
MONTH = "month"
PERIODS = (DAY, MONTH)
TTL_MS_MIN = 5_000
EXPIRY_SLACK_MS = 5_000
"""A lease lives this much longer here than its gateway was told, for the way of the last report."""


class Step(NamedTuple):
    """A budget and one of its leases after a change."""

    budget: BudgetState
    lease: LeaseRecord


# --- what a budget is ------------------------------------------------------------------------------------------------------


def specs(tenants: Mapping[str, Tenant]) -> tuple[BudgetSpec, ...]:
    """The budgets that the settings state, by tenant. One whose overrun demotes or pauses refuses nothing: admission keeps it, by gateway."""
    found: list[BudgetSpec] = []
    for name, tenant in sorted(tenants.items()):
        stated = (
            (BudgetUnit.NANO_USD, DAY, _nano(tenant.budget_usd_per_day)),
            (BudgetUnit.NANO_USD, MONTH, _nano(tenant.budget_usd_per_month)),
            (BudgetUnit.TOKENS, DAY, tenant.budget_tokens_per_day if tenant.on_overrun == "cut" else None),
            (BudgetUnit.TOKENS, MONTH, tenant.budget_tokens_per_month),
        )
        found.extend(
            BudgetSpec(scope=f"tenant:{name}", unit=unit, period=period, cap=cap) for unit, period, cap in stated if cap is not None
        )
    return tuple(found)


def period_bounds(period: str, now: WallMs) -> tuple[WallMs, WallMs]:
    """Start and end of the UTC day or month that holds ``now``. ``ValueError`` for another period."""
    at = datetime.fromtimestamp(now / 1000, UTC)
    start = at.replace(hour=0, minute=0, second=0, microsecond=0)
    if period == DAY:
        return _wall(start), _wall(start + timedelta(days=1))
    if period == MONTH:
        first = start.replace(day=1)
        return _wall(first), _wall((first + timedelta(days=32)).replace(day=1))
    raise ValueError(f"a budget's period is day or month, not {period!r}")


def opened(spec: BudgetSpec, now: WallMs) -> BudgetState:
    """The budget at the first moment of the period that holds ``now``."""
    start, end = period_bounds(spec.period, now)
    return BudgetState(
        id=spec.id,
        scope=spec.scope,
        unit=spec.unit,
        period=spec.period,
        cap=spec.cap,
        cap_wanted=spec.cap,
        spent=0,
        leased=0,
        period_start_wall_ms=start,
        period_end_wall_ms=end,
    )


def block_size(cap: int) -> int:
    """What one gateway borrows at a time, and therefore by how much a tenant can be refused early: a named share of the cap, at least 1."""
    return max(1, int(cap * BUDGET_BLOCK_MAX_SHARE)) if cap > 0 else 0


def left(budget: BudgetState) -> int:
    """What can still be lent."""
    return max(0, budget.cap_wanted - budget.spent - budget.leased) if budget.active else 0


def holds(budget: BudgetState) -> bool:
    """BUD-1."""
    return budget.spent >= 0 and budget.leased >= 0 and budget.spent + budget.leased <= budget.cap + budget.overrun


# --- what happens to it ----------------------------------------------------------------------------------------------------


def recapped(budget: BudgetState, cap: int, *, active: bool = True) -> BudgetState:
    """The settings state another cap. Below what is spent and lent the cap in force stops there and follows it down."""
    return _settled_cap(
        replace(budget, cap=cap, cap_wanted=cap, active=active), max(cap, budget.spent + budget.leased - budget.overrun)
    )


def must_close(budget: BudgetState) -> bool:
    """Whether what is lent has to come back: the budget is gone, or more is out than the settings allow."""
    return budget.leased > 0 and (not budget.active or budget.spent + budget.leased > budget.cap_wanted)


def granted(budget: BudgetState, wanted: int, *, lease: str, gateway: str, request: str, now: WallMs) -> Step | None:
    """Lend ``wanted``, or what is left of it; None when nothing is."""
    amount = min(wanted, left(budget))
    if amount <= 0:
        return None
    record = LeaseRecord(
        id=lease,
        budget=budget.id,
        scope=budget.scope,
        unit=budget.unit,
        gateway=gateway,
        request=request,
        amount=amount,
        period_start_wall_ms=budget.period_start_wall_ms,
        granted_wall_ms=now,
        expires_wall_ms=now + LEASE_TTL_S * 1000 + EXPIRY_SLACK_MS,
    )
    return Step(replace(budget, leased=budget.leased + amount), record)


def lease_ttl_ms(budget: BudgetState, now: WallMs) -> int:
    """How long the gateway may reserve from a block granted now: not into the next period, but always long enough to be of use."""
    ttl = LEASE_TTL_S * 1000
    return ttl if budget.period_end_wall_ms is None else max(TTL_MS_MIN, min(ttl, budget.period_end_wall_ms - now))


def reported(budget: BudgetState, lease: LeaseRecord, spent: int, now: WallMs) -> Step:
    """``spent so far`` from a gateway that goes on: it also renews an open lease."""
    spent = max(lease.spent, spent)
    expires = (
        max(lease.expires_wall_ms, now + LEASE_TTL_S * 1000 + EXPIRY_SLACK_MS)
        if lease.state is LeaseState.OPEN
        else lease.expires_wall_ms
    )
    return _moved(budget, lease, replace(lease, spent=spent, expires_wall_ms=expires))


def returned(budget: BudgetState, lease: LeaseRecord, spent: int) -> Step:
    """The gateway's last word on a block. After a reconciliation it can only raise what the facts said."""
    spent = max(lease.spent, spent)
    state = LeaseState.SETTLED if lease.state in (LeaseState.OPEN, LeaseState.EXPIRED) else lease.state
    return _moved(budget, lease, replace(lease, spent=spent, state=state))


def expired(budget: BudgetState, lease: LeaseRecord) -> Step:
    """Nobody answers for this block: all of it counts as spent."""
    if lease.state is not LeaseState.OPEN:
        return Step(budget, lease)
    return _moved(budget, lease, replace(lease, state=LeaseState.EXPIRED))


def reconciled(budget: BudgetState, lease: LeaseRecord, charged: int) -> Step:
    """The facts of the block are in: ``charged`` is their sum. Repeated when more facts come. Of no effect on open and settled leases."""
    if lease.state not in (LeaseState.EXPIRED, LeaseState.RECONCILED):
        return Step(budget, lease)
    return _moved(budget, lease, replace(lease, state=LeaseState.RECONCILED, spent=max(lease.spent, charged)))


# --- counting --------------------------------------------------------------------------------------------------------------


def counted(lease: LeaseRecord) -> tuple[int, int, int]:
    """What a lease adds to its budget's spent, leased and overrun."""
    overrun = max(0, lease.spent - lease.amount)
    if lease.state is LeaseState.OPEN:
        return lease.spent, max(0, lease.amount - lease.spent), overrun
    if lease.state is LeaseState.EXPIRED:
        return max(lease.amount, lease.spent), 0, overrun
    return lease.spent, 0, overrun


def _moved(budget: BudgetState, before: LeaseRecord, after: LeaseRecord) -> Step:
    was, now = counted(before), counted(after)
    moved = replace(
        budget,
        spent=budget.spent + now[0] - was[0],
        leased=budget.leased + now[1] - was[1],
        overrun=budget.overrun + now[2] - was[2],
    )
    return Step(_settled_cap(moved, moved.cap), after)


def _settled_cap(budget: BudgetState, cap: int) -> BudgetState:
    """Let a cap in force that was left above the wanted one fall, and count what facts raised over it as overrun."""
    out = budget.spent + budget.leased - budget.overrun
    cap = min(cap, max(budget.cap_wanted, out))
    return replace(budget, cap=cap, overrun=budget.overrun + max(0, out - cap))


def _nano(usd: float | str | None) -> int | None:
    return None if usd is None else int(nano_usd(Decimal(str(usd))))


def _wall(at: datetime) -> WallMs:
    return WallMs(int(at.timestamp()) * 1000)
