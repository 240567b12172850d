"""Reserve the most a call can cost, waiting a little for a block that is on its way."""

import asyncio

from headway.calls.model import Wire
from headway.gateway.budgets import Purse, Shortfall
from headway.gateway.dialects.scan import read_int
from headway.gateway.flow import Flow
from headway.gateway.prices import reservation_nano_usd
from headway.gateway.services import Services
from headway.gateway.unseen_tokens import unseen_tokens
from headway.kernel.errors import BudgetExhausted, CallError, DeadlineExceeded, Forbidden, Overloaded
from headway.kernel.instants import after_ms, mono_ns
from headway.kernel.limits import LEASE_WAIT_MS_MAX
from headway.ledger.model import BudgetUnit

OUTPUT_TOKENS_UNSTATED = 4_096
"""Reserved for a call that names no maximum at a feature that names none, and sent upstream as its maximum."""
LEASE_POLL_MS = 10
AWAY_RETRY_AFTER_MS = 1_000


async def reserve(services: Services, flow: Flow, scopes: tuple[str, ...]) -> None:
    """Put a reservation in all ``scopes`` on the flow. Before anything was sent it raises:

    BudgetExhausted; Overloaded when control cannot be asked; Forbidden where money is capped and the price unknown; DeadlineExceeded.
    """
    scan, route = flow.scan, flow.route
    assert scan is not None
    assert route is not None
    targets = [group[0] for group in route.groups]  # replicas cost the same; asking for the order would move it on
    input_upper = services.estimator.upper(scan.model, scan.prompt_bytes)
    if flow.wire is not Wire.OPAQUE:
        input_upper += unseen_tokens(flow.dialect.name, flow.inbound.body, scan, targets)
    output_upper = output_tokens_upper(flow)
    nano = reservation_nano_usd(flow.live, targets, input_upper, output_upper)
    if nano is None:
        if BudgetUnit.NANO_USD in services.book.units(*scopes):
            raise Forbidden(
                f"{flow.caller.tenant} has a budget in money and the price of {scan.model!r} is not known; set price_as at its provider, "
                "or give the tenant a budget in tokens",
                code="price_unknown",
                param="model",
            )
        nano = 0
    flow.reserved_nano_usd, flow.reserved_tokens = nano, input_upper + output_upper
    give_up = after_ms(mono_ns(), LEASE_WAIT_MS_MAX)
    refusals_before: dict[str, int] = {}
    while True:
        now = mono_ns()
        got = services.book.reserve(scopes, nano, flow.reserved_tokens, now)
        services.feed.ask_leases()
        if not isinstance(got, Shortfall):
            flow.reservation = got
            return
        purse = services.book.purse(got.budget)
        assert purse is not None
        if flow.deadline is not None and now >= flow.deadline:
            raise DeadlineExceeded(f"the deadline passed while the call waited for its share of the budget {got.budget}")
        # Control lends what is left, however little: a refusal since we began to wait means that nothing is.
        if purse.refusals > refusals_before.setdefault(got.budget, purse.refusals) or purse.away or now >= give_up:
            raise _refusal(flow, purse)
        await asyncio.sleep(LEASE_POLL_MS / 1000)


def output_tokens_upper(flow: Flow) -> int:
    """The most tokens that the answer may have: of each choice asked for, the maximum named, the feature's, or a guess."""
    scan, route = flow.scan, flow.route
    assert scan is not None
    assert route is not None
    if flow.wire is Wire.OPAQUE and scan.max_tokens is not None:
        each = scan.max_tokens
    else:
        each = scan.max_tokens or route.max_output_tokens or OUTPUT_TOKENS_UNSTATED
    body, spans = flow.inbound.body, scan.spans
    choices = max(1, *(read_int(body, spans, name) or 1 for name in ("n", "best_of") if name in spans), 1)
    return each * choices


def output_tokens_cap(flow: Flow) -> int | None:
    """The maximum to send upstream with a call that names none: the feature's, else what was reserved; an answer without a bound would
    make the reservation a guess. None where the caller named one, or where no budget is drawn on."""
    scan, route = flow.scan, flow.route
    assert scan is not None
    if scan.max_tokens is not None or route is None:
        return None
    return route.max_output_tokens or (OUTPUT_TOKENS_UNSTATED if draws(flow) else None)


def draws(flow: Flow) -> bool:
    """Whether what the call uses is taken from a budget; a model that costs nothing takes nothing from one in money."""
    return any(hold.amount for hold in flow.reservation.holds)


def _refusal(flow: Flow, purse: Purse) -> CallError:
    name, tenant = purse.scope.budget, flow.caller.tenant
    if purse.away:
        return Overloaded(
            f"no room in the budget {name} of {tenant} could be had: {purse.refused}",
            retry_after_ms=AWAY_RETRY_AFTER_MS,
            code="budget_unavailable",
        )
    why = purse.refused or "control has not answered"
    return BudgetExhausted(f"the budget {name} of {tenant} cannot cover this call ({why})", retry_after_ms=purse.resets_in_ms)
