"""Prices as the pipeline asks for them: found once a generation, then from memory."""

from collections.abc import Sequence

from headway.calls.conversation import Usage
from headway.calls.pricing import UNKNOWN, Cost, PriceRow, cost, find, reservation
from headway.gateway.live import Live, Target
from headway.kernel.limits import PRICES_REMEMBERED_MAX


def row_of(live: Live, target: Target) -> PriceRow | None:
    """The price row of a target; remembered in its generation, up to PRICES_REMEMBERED_MAX."""
    key = (target.endpoint.price_provider, target.model)
    try:
        return live.price_rows[key]
    except KeyError:
        row = find(live.prices, *key)
        if len(live.price_rows) < PRICES_REMEMBERED_MAX:
            live.price_rows[key] = row
        return row


def cost_of(live: Live, target: Target, usage: Usage | None) -> Cost:
    return UNKNOWN if usage is None else cost(usage, row_of(live, target))


def reservation_nano_usd(live: Live, targets: Sequence[Target], input_upper: int, output_upper: int) -> int | None:
    """The most that the dearest target could cost; None when any target's price is unknown."""
    worst = 0
    for target in targets:
        amount = reservation(row_of(live, target), input_upper, output_upper)
        if amount is None:
            return None
        worst = max(worst, amount)
    return worst
