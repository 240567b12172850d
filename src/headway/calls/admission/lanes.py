"""The default: weighted fair, with a lane for long prompts, so that neither the many small nor the few giants starve.

Beyond ``fair``: long prompts are limited in sum, and while their lane is taken they are not in anybody's way; whose giant goes next is
fair among giants. A head that does not fit is passed by others a bounded number of times, then a place is kept for it. Within a tenant:
interactive before batch, then the run with the least service so far, growing older with time, so that a fan-out of many children does not
hold up a single call; after ``age_ms_max`` nobody of its tenant passes the oldest. Without long prompts and runs it decides as ``fair``,
but for the passing.
"""

from heapq import heapify, heappop, heappush

from headway.calls.admission.fair import SERVED, Fair, among_equals
from headway.calls.admission.model import EndpointAdmission
from headway.calls.admission.order import Entry, Group
from headway.calls.admission.room import Room
from headway.calls.admission.standing import Standing
from headway.calls.admission.state import Call, State, Tenant
from headway.kernel.instants import NS_PER_S, MonoNs, ms_between

NEEDS_DEAD_MIN = 64
"""So many needs of calls that left are carried along before they are looked through."""


class Lanes(Fair):
    ages = True

    def __init__(self, settings: EndpointAdmission, room: Room, standing: Standing) -> None:
        super().__init__(settings, room, standing)
        self._long: tuple[list[Entry], list[Entry], list[Entry]] = ([], [], [])
        self._last_long: Tenant | None = None
        self._opened = 0
        """How often a place in the long lane was freed."""
        self._needs: list[tuple[int, int, Call]] = []
        """KV tokens of everybody who waits, least first, and of some who left: with fewer free there is nobody to look for. Of heads alone it would
        not do: who is first of a tenant changes with time, with what its runs were served, and with each one sent."""
        self._needs_kept_max = NEEDS_DEAD_MIN
        self._ageing_tokens_per_s = settings.run.burst_tokens / max(1e-3, settings.age_ms_max / 1000)

    def inner(self, call: Call) -> float:
        attained = 0.0 if call.run is None else call.run.attained
        return attained + call.arrived_at / NS_PER_S * self._ageing_tokens_per_s

    def key(self, group: Group, head: Call) -> tuple[float, float]:
        if group.long:
            return group.tenant.lane_counter, head.seq
        tenant = group.tenant
        return self.standing.counters.read(tenant.name), float(head.seq) if tenant.fresh else SERVED + head.seq

    def in_lane(self, call: Call) -> bool:
        return call.long

    def heaps_of(self, group: Group) -> tuple[list[Entry], list[Entry], list[Entry]]:
        return self._long if group.long else self._heaps

    def lift(self, group: Group, now: MonoNs) -> None:
        super().lift(group, now)
        if group.long:
            group.turn = self._opened
            top = self.first(self._long, now)
            waiting = self._last_long if top is None else top[0].tenant
            if waiting is not None:
                group.tenant.lane_counter = max(group.tenant.lane_counter, waiting.lane_counter)

    def takes_part(self, tenant: Tenant) -> bool:
        long = tenant.groups[1]
        return super().takes_part(tenant) or (long is not None and long.entry is not None and self.room.lane_open)

    def nearest(self, now: MonoNs) -> list[Group]:
        tops = super().nearest(now)
        if self.room.lane_open and (found := self.first(self._long, now)) is not None:
            tops.append(found[0])
        return tops

    def put(self, call: Call, now: MonoNs) -> None:
        heappush(self._needs, (call.need_tokens, call.seq, call))
        if len(self._needs) > self._needs_kept_max:
            self._needs = [need for need in self._needs if need[2].state is State.QUEUED]
            heapify(self._needs)
            self._needs_kept_max = 2 * len(self._needs) + NEEDS_DEAD_MIN
        super().put(call, now)

    def lane_freed(self) -> None:
        self._opened += 1

    def sent(self, call: Call) -> None:
        super().sent(call)
        if call.long:
            call.tenant.lane_counter += call.cost / call.tenant.weight
            self._last_long = call.tenant

    def next(self, now: MonoNs) -> Call | None:
        room = self.room
        if room.full or room.free_tokens < self._least_need():
            return None
        passed: list[tuple[Entry, Call]] = []
        found: Call | None = None
        while (candidate := self._candidate(now)) is not None:
            group, head = candidate
            if not self.within_cap(group, head):
                continue
            if room.fits(head.need_tokens, now):
                self.take(group, head)
                found = head
                break
            passed.append((self.put_aside(group), head))
            if self._is_owed(head, now):
                break
        for entry, head in passed:
            head.passes += found is not None
            self.put_back(entry)
        return found

    def _least_need(self) -> int:
        needs = self._needs
        while needs and needs[0][2].state is not State.QUEUED:
            heappop(needs)
        return needs[0][0] if needs else 0

    def _is_owed(self, head: Call, now: MonoNs) -> bool:
        """It was passed often or long enough: nothing goes before it."""
        if head.blocked_at is None:
            head.blocked_at = now
        return head.passes >= self.settings.passes_max or ms_between(head.blocked_at, now) >= self.settings.passes_ms_max

    def _candidate(self, now: MonoNs) -> tuple[Group, Call] | None:
        short = self.first(self._heaps, now)
        if not self.room.lane_open or (long := self.first(self._long, now)) is None:
            return short
        if short is None:
            return long
        return long if self._goes_before(long, short) else short

    def _goes_before(self, long: tuple[Group, Call], short: tuple[Group, Call]) -> bool:
        group, tenant, theirs = long[0], long[0].tenant, short[0].entry
        assert theirs is not None
        if group.turn != self._opened:
            group.turn = self._opened
            if not super().takes_part(tenant):  # it could not be served while the lane was taken: that banks nothing
                self.standing.lift(tenant, self.standing.level(short[0].tenant))
        if group.rank is not short[0].rank:
            return group.rank < short[0].rank
        counter = self.standing.read(tenant)
        return counter < theirs[0] or (counter == theirs[0] and among_equals(tenant, long[1]) < theirs[1])
