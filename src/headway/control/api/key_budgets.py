"""``/api/v1/keys/{key}/budgets``: budgets of one key, beside those that its tenant has in headway.toml. Both must hold for each call."""

from decimal import Decimal, InvalidOperation

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from headway.config.rules import BUDGET_USD_MAX
from headway.control.access import Who
from headway.control.api.estate import BudgetList
from headway.control.deps import Deps, Operator, Use, Viewer
from headway.control.errors import Refused
from headway.control.schema import answer, says, taken
from headway.kernel.money import nano_usd
from headway.ledger.budgets import DAY, MONTH
from headway.ledger.model import BudgetSpec, BudgetState, BudgetUnit, KeyRecord
from headway.ledger.port import LeaseAt

router = APIRouter(prefix="/api/v1/keys/{key}/budgets", tags=["keys"])
TOKENS_MAX = 10**15

Amount = float | str | None | msgspec.UnsetType


class KeyBudgetsWanted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Amounts for each UTC day or month. What is absent stays as it is, ``null`` ends it; dollars as a number or an exact text."""

    usd_per_day: Amount = msgspec.UNSET
    usd_per_month: Amount = msgspec.UNSET
    tokens_per_day: int | msgspec.UnsetType | None = msgspec.UNSET
    tokens_per_month: int | msgspec.UnsetType | None = msgspec.UNSET


async def of_key(use: Deps, who: Who, key: str) -> tuple[BudgetState, ...]:
    """The budgets of a key of the caller's tenants. ``Refused`` 404 for any other."""
    await _record(use, who, key)
    return await _states(use, key)


async def state(use: Deps, who: Who, key: str, wanted: KeyBudgetsWanted) -> tuple[BudgetState, ...]:
    """Set and end budgets of a key, and tell the gateways. ``Refused`` for an amount that is none, a key that is not the caller's to
    change, and a revoked one."""
    record = await _record(use, who, key)
    if not who.may(record.role):
        raise Refused.forbidden(f"{who.name} is {who.role} and cannot change a key that is {record.role}")
    amounts = _amounts(wanted)
    if record.revoked_wall_ms is not None and any(cap is not None for _, _, cap in amounts):
        raise Refused.bad(f"key {key} is revoked", "create another key, and give that one a budget")
    await change(use, who.principal, key, amounts)
    return await _states(use, key)


async def end_all(use: Deps, actor: str, key: str) -> None:
    """The key is gone, and so are its budgets."""
    if held := await _states(use, key):
        await change(use, actor, key, [(budget.unit, budget.period, None) for budget in held])


async def change(use: Deps, actor: str, key: str, amounts: list[tuple[BudgetUnit, str, int | None]]) -> None:
    """Write what is stated (None ends it) with an entry in the audit log each, then let the gateways follow."""
    now = use.ledger.now()
    held = {(budget.unit, budget.period): budget.cap_wanted for budget in await _states(use, key)}
    back: list[LeaseAt] = []
    for unit, period, cap in amounts:
        if held.get((unit, period)) == cap:
            continue
        spec = BudgetSpec(scope=f"key:{key}", unit=unit, period=period, cap=held[unit, period] if cap is None else cap)
        back += await use.ledger.budgets.set_one(spec, active=cap is not None, actor=actor, now=now)
    await use.gateways.push_budgets(back)


def _amounts(wanted: KeyBudgetsWanted) -> list[tuple[BudgetUnit, str, int | None]]:
    stated = (
        ("usd_per_day", BudgetUnit.NANO_USD, DAY, wanted.usd_per_day),
        ("usd_per_month", BudgetUnit.NANO_USD, MONTH, wanted.usd_per_month),
        ("tokens_per_day", BudgetUnit.TOKENS, DAY, wanted.tokens_per_day),
        ("tokens_per_month", BudgetUnit.TOKENS, MONTH, wanted.tokens_per_month),
    )
    return [
        (unit, period, None if amount is None else _cap(name, unit, amount))
        for name, unit, period, amount in stated
        if not isinstance(amount, msgspec.UnsetType)
    ]


def _cap(name: str, unit: BudgetUnit, amount: float | str) -> int:
    try:
        value = Decimal(str(amount))
    except InvalidOperation:
        raise Refused.bad(f"{name}: {str(amount)[:40]!r} is not an amount", 'e.g. 20 or "0.25"; null ends it') from None
    most = BUDGET_USD_MAX if unit is BudgetUnit.NANO_USD else TOKENS_MAX
    if not value.is_finite() or not 0 <= value <= most:
        raise Refused.bad(f"{name} must be from 0 to {most}")
    return int(nano_usd(value)) if unit is BudgetUnit.NANO_USD else int(value)


async def _record(use: Deps, who: Who, key: str) -> KeyRecord:
    record = await use.ledger.keys.get(key)
    if record is None or not who.sees(record.tenant):
        raise Refused.missing(f"key {key!r}", "list them at /api/v1/keys")
    return record


async def _states(use: Deps, key: str) -> tuple[BudgetState, ...]:
    return tuple(state for state in await use.ledger.budgets.states(use.ledger.now()) if state.scope == f"key:{key}")


@router.get("", **says(BudgetList))
async def list_budgets(key: str, who: Viewer, use: Use) -> Response:
    """Budgets of one key: spent, leased and cap of each."""
    return answer(BudgetList(budgets=await of_key(use, who, key)))


@router.patch("", **says(BudgetList, takes=KeyBudgetsWanted))
async def set_budgets(request: Request, key: str, who: Operator, use: Use) -> Response:
    """Set budgets of one key, or end them with null; gateways hold to them at once."""
    return answer(BudgetList(budgets=await state(use, who, key, await taken(request, KeyBudgetsWanted))))
