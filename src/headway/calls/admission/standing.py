"""Who stands where: the counters with their rules (charge, refund, lift), and how much is ahead of whom.

A counter is lifted when its tenant comes back, and never lowered but by a refund of its own charge. A refund of a charge made before the last
lift must not bring back credit that the lift took away: it stops at ``Tenant.least_counter``, where the tenant would stand had it come without
any. A refund of a later charge is given in full, however far others have gone on meanwhile: or a tenant whose estimates are too high would pay
for them for ever.

Who comes back is lifted to the level of what the others have surely been served, not to what they have been charged for calls that still run: such
a charge may come back to them, and then they would go before whoever was lifted by it. That is where VTC stands too, which charges output
only as it comes.
"""

from collections.abc import Iterable

from headway.calls.admission.counters import Counters
from headway.calls.admission.state import Call, Tenant


class Standing:
    """``waiting_tokens`` is the cost of all that is queued. ``_place`` is the sum of weight x counter over tenants that have something queued."""

    __slots__ = ("_place", "_weights", "counters", "waiting_tokens")

    def __init__(self, counters: Counters) -> None:
        self.counters = counters
        self.waiting_tokens = 0.0
        self._weights = self._place = 0.0

    @property
    def waiting_weight(self) -> float:
        return self._weights

    def read(self, tenant: Tenant) -> float:
        return self.counters.read(tenant.name)

    def level(self, tenant: Tenant) -> float:
        """Its counter without what may be refunded."""
        return self.counters.read(tenant.name) - tenant.unsettled / tenant.weight

    def lift(self, tenant: Tenant, least: float) -> None:
        """``tenant`` may be served again, while the least counter of those who wait is ``least``."""
        before = self.counters.read(tenant.name)
        if before < least:
            self.counters.lift(tenant.name, least)
            if tenant.queued:
                self._place += (least - before) * tenant.weight
        tenant.least_counter = least
        tenant.epoch += 1
        tenant.fresh = True

    def charge(self, call: Call, tokens: float) -> None:
        """``tokens`` more of service to the call's tenant."""
        tenant = call.tenant
        by = tokens / tenant.weight
        self.counters.charge(tenant.name, by)
        tenant.least_counter += by
        call.charged += tokens
        tenant.served += tokens
        if tenant.queued:
            self._place += tokens

    def refund(self, call: Call, tokens: float) -> None:
        """``tokens`` of what the call was charged were not used."""
        tenant = call.tenant
        by = tokens / tenant.weight
        call.charged -= tokens
        tenant.served -= tokens
        if call.epoch == tenant.epoch:
            tenant.least_counter -= by
        else:
            by = min(by, max(0.0, self.counters.read(tenant.name) - tenant.least_counter))
        self.counters.charge(tenant.name, -by)
        if tenant.queued:
            self._place -= by * tenant.weight

    def joined(self, tenant: Tenant, cost: float) -> None:
        """A call was queued (``tenant.queued`` already counts it)."""
        self.waiting_tokens += cost
        tenant.queued_tokens += cost
        if tenant.queued == 1:
            self._weights += tenant.weight
            self._place += self.counters.read(tenant.name) * tenant.weight

    def left(self, tenant: Tenant, cost: float) -> None:
        """A call is no longer queued (``tenant.queued`` no longer counts it)."""
        self.waiting_tokens = max(0.0, self.waiting_tokens - cost)
        tenant.queued_tokens = max(0.0, tenant.queued_tokens - cost)
        if not tenant.queued:
            tenant.queued_tokens = 0.0
            self._weights -= tenant.weight
            self._place -= self.counters.read(tenant.name) * tenant.weight

    def ahead(self, tenant: Tenant, cost: float, least: float) -> float:
        """Cost that is sent before or with a call that ``tenant`` queues now, in the order of counters."""
        own = tenant.queued_tokens + cost
        counter = self.counters.read(tenant.name)
        weights, place = self._weights, self._place
        if tenant.queued:
            weights -= tenant.weight
            place -= counter * tenant.weight
        else:
            counter = max(counter, least)
        others = max(0.0, self.waiting_tokens - tenant.queued_tokens)
        return own + min(others, max(0.0, weights * (counter + own / tenant.weight) - place))

    def recount(self, tenants: Iterable[Tenant]) -> None:
        """Counters or weights were changed from outside."""
        waiting = [tenant for tenant in tenants if tenant.queued]
        self._weights = sum(tenant.weight for tenant in waiting)
        self._place = sum(tenant.weight * self.counters.read(tenant.name) for tenant in waiting)
        self.waiting_tokens = sum(tenant.queued_tokens for tenant in waiting)
