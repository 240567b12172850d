"""What every order is made of: calls of one tenant (and lane) in a group, groups in heaps by rank, re-keyed lazily.

A key in a heap may be older than what it stands for: counters grow with each token that streams. Such a key is only ever too low, so it is
put right when it reaches the top; where a key may fall (a refund, a better head) the group is pushed anew and its old key is void.
"""

from collections import deque
from collections.abc import Callable
from heapq import heapify, heappop, heappush, heapreplace
from typing import Protocol

from headway.calls.admission.model import EndpointAdmission
from headway.calls.admission.room import Room
from headway.calls.admission.standing import Standing
from headway.calls.admission.state import Call, Rank, Run, State, Tenant
from headway.kernel.instants import NS_PER_MS, MonoNs

DEAD_MIN = 64
"""So many calls that left a queue from its middle are carried along before it is built anew."""
Entry = tuple[float, float, int, "Group"]


class Order(Protocol):
    """Who is next. It holds what is queued and nothing else."""

    by_counter: bool

    def put(self, call: Call, now: MonoNs) -> None: ...

    def drop(self, call: Call) -> None:
        """It was cancelled while queued."""
        ...

    def next(self, now: MonoNs) -> Call | None:
        """Taken out of the queue, to be sent now. None: nothing that may go now fits."""
        ...

    def sent(self, call: Call) -> None:
        """``call`` was charged and goes out."""
        ...

    def lane_freed(self) -> None:
        """A long prompt has been read."""
        ...

    def refunded(self, tenant: Tenant, now: MonoNs) -> None:
        """Its counter fell."""
        ...

    def eligible(self, tenant: Tenant, now: MonoNs) -> None:
        """It may have become so again: its cap has room, its rank changed."""
        ...

    def reopened(self, call: Call, now: MonoNs) -> None:
        """The run of a parked call lets it go."""
        ...

    def least(self, now: MonoNs) -> float:
        """The level of those with the least counters that could be served; that of the last one served where nobody waits."""
        ...

    def contender(self, now: MonoNs) -> float | None:
        """The counter of whoever is next here, to be held against other gateways'. None: nobody could be served, or counters do not order."""
        ...


class Group:
    """Queued calls of one tenant in one lane. ``entry`` is its valid key in a heap, None while it is in none."""

    __slots__ = ("_age_ns", "_dead", "_heap", "_inner", "_oldest", "entry", "id", "long", "queued", "rank", "tenant", "turn")

    def __init__(self, id: int, tenant: Tenant, *, long: bool, inner: Callable[[Call], float], age_ns: int | None) -> None:
        self.id, self.tenant, self.long = id, tenant, long
        self.queued = 0
        self.entry: Entry | None = None
        self.rank = Rank.NORMAL
        self.turn = 0
        """Of the long lane: which of its openings this group has seen."""
        self._inner, self._age_ns = inner, age_ns
        self._heap: list[tuple[bool, float, int, Call]] = []
        self._oldest: deque[Call] = deque()
        self._dead = 0

    def add(self, call: Call) -> None:
        self.queued += 1
        self._oldest.append(call)
        self.offer(call)

    def offer(self, call: Call) -> None:
        heappush(self._heap, (call.batch, self._inner(call), call.seq, call))

    def gone(self) -> None:
        """A call left, wherever it stood."""
        self.queued -= 1
        self._dead += 1
        if self._dead > DEAD_MIN and self._dead > self.queued:
            self._heap = [item for item in self._heap if item[3].state is State.QUEUED]
            heapify(self._heap)
            self._oldest = deque(call for call in self._oldest if call.state is State.QUEUED)
            self._dead = 0

    def head(self, now: MonoNs) -> Call | None:
        """Who goes first. None: everybody in it waits for a run of theirs."""
        age_ns, oldest = self._age_ns, self._oldest
        if age_ns is not None and oldest and now - oldest[0].arrived_at >= age_ns and (aged := self._aged(now, age_ns)) is not None:
            return aged
        heap = self._heap
        while heap:
            item = heap[0]
            call = item[3]
            if call.state is not State.QUEUED or call.parked:
                heappop(heap)
            elif (run := call.run) is None:
                return call
            elif not run.open(now):
                heappop(heap)
                park(call, run)
            elif (key := self._inner(call)) != item[1]:
                heapreplace(heap, (call.batch, key, call.seq, call))
            else:
                return call
        return None

    def _aged(self, now: MonoNs, age_ns: int) -> Call | None:
        oldest = self._oldest
        while oldest and oldest[0].state is not State.QUEUED:
            oldest.popleft()
        if not oldest or now - oldest[0].arrived_at < age_ns:
            return None
        call = oldest[0]
        return call if not call.parked and (call.run is None or call.run.open(now)) else None


def park(call: Call, run: Run) -> None:
    call.parked = True
    heappush(run.parked, (call.seq, call))


class HeapOrder:
    """Groups by ``key``, one for each tenant; stops at the first head that does not fit. Orders override what differs."""

    ages = False
    by_counter = False
    """Waits depend on who is owed what, not on arrival alone."""
    lifts = True
    """False while those are put back who waited all along."""
    head_matters = True
    """The key depends on who is first in the group, so that a new call may lower it."""

    def __init__(self, settings: EndpointAdmission, room: Room, standing: Standing) -> None:
        self.settings, self.room, self.standing = settings, room, standing
        self._heaps: tuple[list[Entry], list[Entry], list[Entry]] = ([], [], [])
        self._groups = 0
        self._last_served: Tenant | None = None

    # --- what differs

    def inner(self, call: Call) -> float:
        """Order within a tenant, least first."""
        return float(call.seq)

    def key(self, group: Group, head: Call) -> tuple[float, float]:
        """Order between tenants, least first; the second decides ties."""
        raise NotImplementedError

    def lift(self, group: Group, now: MonoNs) -> None:
        """``group`` is about to take part again."""

    def heaps_of(self, group: Group) -> tuple[list[Entry], list[Entry], list[Entry]]:
        return self._heaps

    def in_lane(self, call: Call) -> bool:
        return False

    # --- what is common

    def put(self, call: Call, now: MonoNs) -> None:
        tenant, lane = call.tenant, self.in_lane(call)
        group = tenant.groups[lane]
        if group is None:
            self._groups += 1
            age_ns = int(self.settings.age_ms_max * NS_PER_MS) if self.ages else None
            group = tenant.groups[lane] = Group(self._groups, tenant, long=lane, inner=self.inner, age_ns=age_ns)
        call.group = group
        group.add(call)
        self._enter(group, now)

    def drop(self, call: Call) -> None:
        group = call.group
        assert group is not None
        group.gone()
        if not group.queued:
            group.entry = None

    def next(self, now: MonoNs) -> Call | None:
        while (found := self.first(self._heaps, now)) is not None:
            group, head = found
            if not self.within_cap(group, head):
                continue
            if not self.room.fits(head.need_tokens, now):
                return None
            self.take(group, head)
            return head
        return None

    def sent(self, call: Call) -> None:
        self._last_served = call.tenant
        call.tenant.fresh = False

    def lane_freed(self) -> None:
        """There is no lane here."""

    def refunded(self, tenant: Tenant, now: MonoNs) -> None:
        """Counters do not order these."""

    def eligible(self, tenant: Tenant, now: MonoNs) -> None:
        tenant.capped = False
        for group in tenant.groups:
            if group is None or not group.queued:
                continue
            if group.entry is not None and group.rank is not tenant.rank:
                self.push(group, now)
            else:
                self._enter(group, now)

    def reopened(self, call: Call, now: MonoNs) -> None:
        group = call.group
        assert group is not None
        group.offer(call)
        self._enter(group, now)

    def contender(self, now: MonoNs) -> float | None:
        return None

    def least(self, now: MonoNs) -> float:
        return 0.0 if self._last_served is None else self.standing.level(self._last_served)

    def within_cap(self, group: Group, head: Call) -> bool:
        """False puts the group aside until its tenant's outstanding cost falls."""
        tenant = group.tenant
        if tenant.cap is None or tenant.outstanding + head.cost <= tenant.cap:
            return True
        tenant.capped = True
        group.entry = None
        return False

    def take(self, group: Group, head: Call) -> None:
        head.state = State.RUNNING
        group.gone()
        if not group.queued:
            group.entry = None

    def first(self, heaps: tuple[list[Entry], list[Entry], list[Entry]], now: MonoNs) -> tuple[Group, Call] | None:
        for heap in heaps:
            if heap and (found := self.top(heap, now)) is not None:
                return found
        return None

    def top(self, heap: list[Entry], now: MonoNs) -> tuple[Group, Call] | None:
        while heap:
            entry = heap[0]
            group = entry[3]
            if group.entry is not entry:
                heappop(heap)
                continue
            head = group.head(now)
            if head is None:
                group.entry = None
                heappop(heap)
                continue
            first, second = self.key(group, head)
            if first != entry[0] or second != entry[1]:
                group.entry = fresh = (first, second, group.id, group)
                heapreplace(heap, fresh)
                continue
            return group, head
        return None

    def _enter(self, group: Group, now: MonoNs) -> None:
        if group.entry is None:
            if group.tenant.rank is not Rank.PAUSED and not group.tenant.capped:
                if self.lifts:
                    self.lift(group, now)
                self.push(group, now)
        elif self.head_matters:
            self.push(group, now)

    def push(self, group: Group, now: MonoNs) -> None:
        """A fresh key; the old one, where there is one, is void."""
        group.entry = None
        rank = group.rank = group.tenant.rank
        if rank is Rank.PAUSED or (head := group.head(now)) is None:
            return
        first, second = self.key(group, head)
        group.entry = entry = (first, second, group.id, group)
        heappush(self.heaps_of(group)[rank], entry)

    def put_aside(self, group: Group) -> Entry:
        """Take a group that is first in its heap out of it for a moment."""
        entry = heappop(self.heaps_of(group)[group.rank])
        assert entry is group.entry
        group.entry = None
        return entry

    def put_back(self, entry: Entry) -> None:
        group = entry[3]
        group.entry = entry
        heappush(self.heaps_of(group)[group.rank], entry)
