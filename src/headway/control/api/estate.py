"""What is configured and what stands: tenants, budgets, generation and reload, gateways, prices."""

import msgspec
from fastapi import APIRouter
from starlette.responses import Response

from headway.calls.pricing import PriceRow
from headway.control.access import Who
from headway.control.deps import Deps, OperatorEverywhere, Use, Viewer, ViewerEverywhere
from headway.control.ports import GatewayView, Generation, TenantView
from headway.control.schema import answer, says
from headway.ledger.model import BudgetState

router = APIRouter(prefix="/api/v1", tags=["estate"])


class TenantList(msgspec.Struct, frozen=True, kw_only=True):
    tenants: tuple[TenantView, ...]


class BudgetList(msgspec.Struct, frozen=True, kw_only=True):
    """Invariant BUD-1: spent + leased <= cap in each."""

    budgets: tuple[BudgetState, ...]


class GatewayList(msgspec.Struct, frozen=True, kw_only=True):
    gateways: tuple[GatewayView, ...]


class PriceList(msgspec.Struct, frozen=True, kw_only=True):
    """Prices in pico-dollars a token; no row means that the price is unknown, not that the model is free."""

    version: str
    rows: tuple[PriceRow, ...]


async def budgets_of(use: Deps, who: Who) -> tuple[BudgetState, ...]:
    """The budgets of the caller's tenants and of their keys."""
    states = await use.ledger.budgets.states(use.ledger.now())
    if not who.tenant:
        return tuple(states)
    scopes = {f"tenant:{who.tenant}", *(f"key:{key.id}" for key in await use.ledger.keys.all() if key.tenant == who.tenant)}
    return tuple(state for state in states if state.scope in scopes)


@router.get("/tenants", **says(TenantList))
async def list_tenants(who: Viewer, use: Use) -> Response:
    """Tenants of the configuration in force."""
    return answer(TenantList(tenants=tuple(t for t in use.configuration.generation().tenants if who.sees(t.name))))


@router.get("/budgets", **says(BudgetList))
async def list_budgets(who: Viewer, use: Use) -> Response:
    """Spent, leased and cap of each budget."""
    return answer(BudgetList(budgets=await budgets_of(use, who)))


@router.get("/generation", **says(Generation))
async def generation(_who: ViewerEverywhere, use: Use) -> Response:
    """What is in force, what the last reload changed, and why the file on disk is not in force when it is not."""
    return answer(use.configuration.generation())


@router.post("/generation/reload", **says(Generation))
async def reload(who: OperatorEverywhere, use: Use) -> Response:
    """Read the file now. A bad file keeps the old generation; `problem` says why."""
    return answer(await use.configuration.reload(who.principal))


@router.get("/gateways", **says(GatewayList))
async def list_gateways(_who: ViewerEverywhere, use: Use) -> Response:
    """Gateways that are or were connected."""
    return answer(GatewayList(gateways=tuple(use.gateways.gateways())))


@router.get("/prices", **says(PriceList))
async def prices(_who: Viewer, use: Use, model: str, provider: str = "") -> Response:
    """What a token of a model costs."""
    return answer(PriceList(version=use.prices.version(), rows=tuple(use.prices.find(provider, model))))
