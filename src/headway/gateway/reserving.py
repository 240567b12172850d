"""Reserve the most a call can cost, waiting a little for a block that is on its way."""

import asyncio

from headway.gateway.budgets import NOTHING_RESERVED, Reservation, Shortfall
from headway.gateway.flow import Flow
from headway.gateway.prices import reservation_nano_usd
from headway.gateway.services import Services
from headway.kernel.errors import BudgetExhausted, Forbidden
from headway.kernel.instants import after_ms, mono_ns
from headway.kernel.limits import LEASE_WAIT_MS_MAX
from headway.ledger.model import BudgetUnit

OUTPUT_TOKENS_UNSTATED = 4_096
"""Reserved for a call that names no maximum at a feature that names none."""
LEASE_POLL_MS = 10


async def reserve(services: Services, flow: Flow, scopes: tuple[str, ...]) -> tuple[Reservation, int]:
    """A reservation in all ``scopes`` and its nano-dollars. BudgetExhausted, or Forbidden where money is capped and the price unknown."""
    scan, route = flow.scan, flow.route
    assert scan is not None
    assert route is not None
    input_upper = services.estimator.upper(scan.model, scan.prompt_bytes)
    output_upper = scan.max_tokens or route.max_output_tokens or OUTPUT_TOKENS_UNSTATED
    nano = reservation_nano_usd(flow.live, route.targets(), input_upper, output_upper)
    if nano is None:
        if BudgetUnit.NANO_USD in services.book.units(*scopes):
            raise Forbidden(
                f"{flow.caller.tenant} has a budget in money and the price of {scan.model!r} is not known; set price_as at its provider, "
                "or give the tenant a budget in tokens",
                code="price_unknown",
                param="model",
            )
        nano = 0
    give_up = after_ms(mono_ns(), LEASE_WAIT_MS_MAX)
    while True:
        now = mono_ns()
        got = services.book.reserve(scopes, nano, input_upper + output_upper, now)
        services.feed.ask_leases()
        if not isinstance(got, Shortfall):
            return got, nano
        purse = services.book.purse(got.budget)
        if purse is None:
            return NOTHING_RESERVED, nano
        if (purse.refused and not purse.asked) or now >= give_up:
            why = purse.refused or "control has not answered"
            raise BudgetExhausted(
                f"the budget {got.budget} of {flow.caller.tenant} cannot cover this call ({why})", retry_after_ms=purse.resets_in_ms
            )
        await asyncio.sleep(LEASE_POLL_MS / 1000)
