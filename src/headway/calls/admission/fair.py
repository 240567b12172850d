"""Weighted fair by virtual token counters (VTC, OSDI 2024): the tenant with the least service over its weight goes next.

A tenant that comes back from having nothing queued is lifted to the least counter of those that wait, so that idleness banks nothing. It then
stands level with one that has waited all along, whose head is older: by age alone the light tenant would always go second. At equal counters
those go first that have been sent nothing since they came back, by arrival among them. Since what is sent raises the counter, that is one
call each, at most. Within a tenant: interactive before batch, then arrival. A head that does not fit is waited for.
"""

from headway.calls.admission.order import Group, HeapOrder
from headway.calls.admission.state import Call, Tenant
from headway.kernel.instants import MonoNs

SERVED = float(2**52)
"""Added to the age of heads whose tenants are not fresh. Sums stay whole: a double counts to 2**53."""


def among_equals(tenant: Tenant, head: Call) -> float:
    """Who goes first at equal counters."""
    return float(head.seq) if tenant.fresh else SERVED + head.seq


class Fair(HeapOrder):
    by_counter = True
    head_matters = False

    def key(self, group: Group, head: Call) -> tuple[float, float]:
        return self.standing.read(group.tenant), among_equals(group.tenant, head)

    def lift(self, group: Group, now: MonoNs) -> None:
        if not self.takes_part(group.tenant):
            self.standing.lift(group.tenant, self.least(now))

    def takes_part(self, tenant: Tenant) -> bool:
        """It has something queued that could be sent."""
        group = tenant.groups[0]
        return group is not None and group.entry is not None

    def least(self, now: MonoNs) -> float:
        found = [self.standing.level(group.tenant) for group in self.nearest(now)]
        return min(found) if found else super().least(now)

    def contender(self, now: MonoNs) -> float | None:
        found = [self.standing.read(group.tenant) for group in self.nearest(now)]
        return min(found) if found else None

    def nearest(self, now: MonoNs) -> list[Group]:
        """Those with the least counters that could be served, one for each rank; of the demoted only where nobody else waits."""
        floor, normal, demoted = self._heaps
        tops = [found[0] for heap in (floor, normal) if heap and (found := self.top(heap, now)) is not None]
        if not tops and demoted and (found := self.top(demoted, now)) is not None:
            tops.append(found[0])
        return tops

    def refunded(self, tenant: Tenant, now: MonoNs) -> None:
        for group in tenant.groups:
            if group is not None and group.entry is not None:
                self.push(group, now)
