"""One endpoint: who waits, who runs, who pays. Three gates in order: capacity (``room.py``), lane and fair pick (the order named in the settings).

    arrive   a call wants to run: queued, or refused with the reason
    pick     the next call that may go now; it is charged its estimate and counts as running
    produced output tokens came: beyond the estimate each is charged as it comes
    read     its prompt has been read: it leaves the long lane
    close    it is over: what was charged is settled against what was used, and its place is free
    cancel   it will not run after all

Invariants are numbered as in README.md; tests carry the numbers. Every call that arrives ends in exactly one of done, refused, evicted.
"""

from collections.abc import Iterator, Mapping
from itertools import islice

from headway.calls.admission.counters import Counters, LocalCounters
from headway.calls.admission.days import Days
from headway.calls.admission.estimate import OutputEstimate, band_of
from headway.calls.admission.forecast import NONE, Forecast, Wait
from headway.calls.admission.model import EndpointAdmission, EngineLoad, Share
from headway.calls.admission.order import HeapOrder
from headway.calls.admission.orders import order_named
from headway.calls.admission.others import Others
from headway.calls.admission.promises import Promises
from headway.calls.admission.refusing import Refused, refusal
from headway.calls.admission.room import Hosted, Room
from headway.calls.admission.runs import Runs
from headway.calls.admission.standing import Standing
from headway.calls.admission.state import Call, Rank, State, Tenant
from headway.calls.admission.usage import NOTHING, TOKENS_MAX, Used
from headway.calls.model import Arrived
from headway.kernel.instants import MonoNs, after_ms, ms_between
from headway.kernel.limits import ADMISSION_TENANTS_KEPT_MAX

__all__ = ["Refused", "Scheduler", "Used"]

LOOKED_AT = 8
SLACK_KEPT = 0.99
RANKS = {"": Rank.NORMAL, "demote": Rank.DEMOTED, "pause": Rank.PAUSED, "cut": Rank.PAUSED}


class Scheduler:
    def __init__(
        self,
        settings: EndpointAdmission,
        shares: Mapping[str, Share] | None = None,
        *,
        days: Days | None = None,
        hosted: Hosted | None = None,
        counters: Counters | None = None,
    ) -> None:
        self.settings = settings
        self.shares: dict[str, Share] = dict(shares or {})
        self.days = days if days is not None else Days(self.shares)
        self.room = Room(settings, hosted)
        self.standing = Standing(counters if counters is not None else LocalCounters())
        self.order: HeapOrder = order_named(settings, self.room, self.standing)
        self.runs = Runs(settings.run, self.order)
        self.outputs = OutputEstimate()
        self.forecast = Forecast(_known_rate(settings))
        self.promises = Promises()
        self.calls: dict[str, Call] = {}
        self.tenants: dict[str, Tenant] = {}
        self.submitted = self.queued = self.running = self.done = self.refused = self.evicted = 0
        self.long_queued = self.short_unread = 0
        self._slack = 0.0
        """The largest cost over weight of late."""
        self.usage_missing = self.usage_refused = self.ignored = 0
        self._seq = 0
        self._paused: set[str] = set()
        self._days_seen = self.days.changes

    # --- told

    def arrive(self, event: Arrived, now: MonoNs) -> Call | Refused | None:
        """None: this attempt is here already, the event is ignored and counted."""
        if event.call in self.calls:
            self.ignored += 1
            return None
        self.heed_days(now)
        self.submitted += 1
        call = self._made(event, now)
        refused = refusal(self, call, event, now)
        if refused is not None:
            self.refused += 1
            return refused
        self.calls[call.id] = call
        self._queue(call, now)
        if self.queued == 1:
            self.forecast.rate.sent(0.0, now, waiting=True)
        return call

    def pick(self, now: MonoNs) -> Call | None:
        """The next call to send, charged and counted as running. None: nobody may go now."""
        self.room.wakes_at = None
        if not self.queued or self.room.full:
            return None
        call = self.order.next(now)
        if call is None:
            return None
        self._unqueued(call)
        self.running += 1
        self._send(call, now)
        return call

    def produced(self, call_id: str, tokens: int, now: MonoNs) -> None:
        """``tokens`` more output tokens came. The first ones say that the prompt has been read."""
        call = self.calls.get(call_id)
        if call is None or call.state is not State.RUNNING or tokens <= 0:
            self.ignored += 1
            return
        self.forecast.rate.produced(tokens, now)
        expected, before = call.out_tokens, call.produced
        call.produced = min(TOKENS_MAX, before + tokens)
        if before < expected:
            self._sure(call, self.settings.output_price * (min(call.produced, expected) - before))
        if call.produced > expected:
            self._overran(call, call.produced - max(before, expected), now)

    def read(self, call_id: str, now: MonoNs) -> bool:
        """The prompt has been read (its first token is here). True the first time."""
        call = self.calls.get(call_id)
        if call is None or call.first_at is not None or call.state is not State.RUNNING:
            return False
        call.first_at = now
        self._was_read(call)
        if not call.long and call.began_at is not None:
            self.forecast.rate.read(ms_between(call.began_at, now))
        return True

    def close(
        self, call_id: str, now: MonoNs, used: Used = NOTHING, *, answered: bool = True, evicted: bool = False
    ) -> Call | None:
        """The call is over. ``answered`` False: it failed, and pays for what was seen of it. None: not known here (any more), ignored."""
        call = self.calls.get(call_id)
        if call is None:
            self.ignored += 1
            return None
        if call.state is State.QUEUED:
            self._unqueue(call)
            self.evicted += 1
        else:
            self._settle(call, used, answered, now)
            if self.room.hosted is not None:
                self.room.hosted.settle(call.taken_tokens, used.taken_by(call, answered=answered), now)
            self._free(call, now)
            self.running -= 1
            self.done += not evicted
            self.evicted += evicted
        call.state = State.ENDED
        del self.calls[call_id]
        self._after(call, now)
        return call

    def cancel(self, call_id: str, now: MonoNs) -> Call | None:
        """Its caller went away: the place is free, the unused part is refunded."""
        return self.close(call_id, now, answered=False, evicted=True)

    def heard(self, load: EngineLoad) -> None:
        """What the engine says of itself."""
        self.room.heard(load)

    def charge_besides(self, call: Call, tokens: float, now: MonoNs) -> None:
        """Service to the call's tenant that is none of its own prompt or answer: a second pass, a probe."""
        self.standing.charge(call, tokens)
        call.charged -= tokens
        self.days.spend(call.tenant.name, tokens)

    def reconfigure(self, settings: EndpointAdmission, shares: Mapping[str, Share], now: MonoNs) -> None:
        """New settings: what runs goes on, what waits is put in the new order by arrival."""
        self.settings, self.shares = settings, dict(shares)
        self.room.settle(settings)
        for tenant in self.tenants.values():
            tenant.shared_by(self._share(tenant.name))
            tenant.groups = [None, None]
            tenant.capped = False
            tenant.rank = self._rank(tenant)
        self._paused = {t.name for t in self.tenants.values() if t.rank is Rank.PAUSED}
        self.order = order_named(settings, self.room, self.standing)
        self.runs.reshared(settings.run, self.order)
        self.order.lifts = False
        for call in sorted((c for c in self.calls.values() if c.state is State.QUEUED), key=lambda c: c.seq):
            call.parked = False
            self.order.put(call, now)
            if call.run is not None:
                self.runs.wake_later(call.run, now)
        self.order.lifts = True
        self.standing.recount(self.tenants.values())

    def others_told(self, others: Others, now: MonoNs) -> None:
        """Other gateways' charges have come in, counters may stand anywhere; and this is what they have in flight."""
        self.standing.recount(self.tenants.values())
        for tenant in self.tenants.values():
            if tenant.queued:
                self.order.refunded(tenant, now)
        own = self.order.contender(now) if self.queued and others.queued else None
        ahead = own is not None and others.least is not None and own > others.least + self._slack
        self.room.others_told(others, self.waiting_weight, ahead=ahead)

    @property
    def waiting_weight(self) -> float:
        """What waits here, to be held against what waits at other gateways: weights of tenants, or calls where weights do not order."""
        return self.standing.waiting_weight if self.order.by_counter else float(self.queued)

    # --- asked

    def next_wake(self, now: MonoNs) -> MonoNs | None:
        """When time alone may let somebody go: a run's rate, a provider's minute, the end of a day."""
        if not self.queued or not (self.runs.wakes or self._paused or self.room.wakes_at is not None):
            return None
        wakes = [at for at, _, _ in self.runs.wakes[:1]]
        if self.room.wakes_at is not None:
            wakes.append(self.room.wakes_at)
        if self._paused and self.days.ends_at is not None:
            wakes.append(self.days.ends_at)
        return min(wakes) if wakes else None

    def wait_of(self, tenant: Tenant, cost: float, now: MonoNs, *, long: bool = False, promised: bool = False) -> Wait:
        """How long a call of this cost would wait were it queued now. ``promised``: those who were told to come later are not before it."""
        if not self.queued and not self.room.full:
            return NONE
        with_it = cost if promised else cost + tenant.promised_tokens
        if self.order.by_counter:
            ahead = self.standing.ahead(tenant, with_it, 0.0 if tenant.queued else self.order.least(now))
        else:
            ahead = self.standing.waiting_tokens + with_it
        return self.forecast.interval(self.forecast.raw_ms(ahead, self.room.requests_max), long=long)

    def cut_off(self) -> Iterator[Call]:
        """Calls of tenants that are past a budget whose overrun cuts."""
        return iter([c for c in self.calls.values() if self.days.overrun(c.tenant.name) == "cut"])

    def tenant(self, name: str) -> Tenant:
        tenant = self.tenants.get(name)
        if tenant is None:
            if len(self.tenants) >= ADMISSION_TENANTS_KEPT_MAX:
                self._forget_tenants()
            tenant = self.tenants[name] = Tenant(name, self._share(name))
            tenant.rank = self._rank(tenant)
            if tenant.rank is Rank.PAUSED:
                self._paused.add(name)
        return tenant

    def wake(self, now: MonoNs) -> None:
        """What time alone has changed: a day that ended, runs whose rate lets a child go again. To be called before ``pick``."""
        ends_at = self.days.ends_at
        if self._days_seen != self.days.changes or (ends_at is not None and now >= ends_at):
            self.heed_days(now)
        self.runs.wake(now)

    def heed_days(self, now: MonoNs) -> None:
        """Ranks follow budgets of the day."""
        self.days.roll(now)
        if self._days_seen == self.days.changes:
            return
        self._days_seen = self.days.changes
        for tenant in self.tenants.values():
            self._rerank(tenant, now)

    # --- how

    def _made(self, event: Arrived, now: MonoNs) -> Call:
        settings = self.settings
        tenant = self.tenant(event.charged_to or event.tenant)
        self._seq += 1
        call = Call(event.call, tenant, self._seq, now)
        call.attempt, call.feature, call.dialect = event.attempt, event.feature, event.dialect
        call.batch = event.klass == "batch"
        call.prompt_tokens = min(TOKENS_MAX, max(0, event.prompt_tokens_estimate))
        call.band = band_of(event.output_tokens_max)
        call.out_tokens = self.outputs.tokens(tenant.name, event.feature, event.output_tokens_max)
        call.need_tokens = call.prompt_tokens + call.out_tokens
        call.cost = settings.prompt_price * call.prompt_tokens + settings.output_price * call.out_tokens
        call.long = call.prompt_tokens > settings.long.prompt_tokens_over
        if event.deadline_remaining_ms is not None:
            call.deadline_at = after_ms(now, max(0.0, event.deadline_remaining_ms))
        if event.run:
            call.run = self.runs.of(tenant.name, event.run, now)
        return call

    def _queue(self, call: Call, now: MonoNs) -> None:
        self.queued += 1
        self.long_queued += call.long
        self.order.put(call, now)
        call.tenant.queued += 1
        self.standing.joined(call.tenant, call.cost)
        if call.run is not None:
            call.run.waiting += 1
            self.runs.wake_later(call.run, now)

    def _unqueued(self, call: Call) -> None:
        tenant, run = call.tenant, call.run
        self.queued -= 1
        self.long_queued -= call.long
        tenant.queued -= 1
        self.standing.left(tenant, call.cost)
        if run is not None:
            run.waiting -= 1

    def _unqueue(self, call: Call) -> None:
        """Without being sent."""
        call.state = State.ENDED
        self._unqueued(call)
        self.order.drop(call)

    def _send(self, call: Call, now: MonoNs) -> None:
        tenant, room, run = call.tenant, self.room, call.run
        tenant.running += 1
        call.began_at, call.epoch = now, tenant.epoch
        self.standing.charge(call, call.cost)
        self._slack = max(call.cost / tenant.weight, self._slack * SLACK_KEPT)
        call.outstanding = call.unsettled = call.cost
        tenant.outstanding += call.cost
        tenant.unsettled += call.cost
        if tenant.share.budget_tokens_per_day is not None:
            self.days.spend(tenant.name, call.cost)
        room.requests += 1
        room.tokens += call.need_tokens
        if room.hosted is not None:
            call.taken_tokens = call.need_tokens
            room.hosted.take(call.need_tokens, now)
        if call.long:
            room.long_running += 1
        else:
            self.short_unread += 1
        if run is not None:
            run.running += 1
            run.charge(call.cost, now)
            self.runs.reopen(run, now)
        self.order.sent(call)
        if tenant.floor:
            self._rerank(tenant, now)
        self.forecast.rate.sent(call.cost, now, waiting=self.queued > 0)
        if call.forecast is not NONE:
            self.forecast.came_true(call.forecast, ms_between(call.arrived_at, now), long=call.long)

    def _overran(self, call: Call, tokens: int, now: MonoNs) -> None:
        """More output than was estimated: charged as it comes, not at the end."""
        cost = self.settings.output_price * tokens
        self.standing.charge(call, cost)
        call.outstanding += cost
        call.tenant.outstanding += cost
        call.need_tokens += tokens
        self.room.tokens += tokens
        if call.tenant.share.budget_tokens_per_day is not None:
            self.days.spend(call.tenant.name, cost)
        if call.run is not None:
            call.run.charge(cost, now)

    def _sure(self, call: Call, tokens: float) -> None:
        """So much of its charge will not be refunded any more."""
        call.unsettled -= tokens
        call.tenant.unsettled = max(0.0, call.tenant.unsettled - tokens)

    def _settle(self, call: Call, used: Used, answered: bool, now: MonoNs) -> None:
        if used.negative:
            self.usage_refused += 1
        if answered and not used.complete:
            self.usage_missing += 1
        elif answered and used.output_tokens is not None:
            self.outputs.saw(call.tenant.name, call.feature, call.band, used.output_tokens)
        difference = used.cost_of(call, self.settings, answered=answered) - call.charged
        if difference == 0.0:
            return
        if difference > 0.0:
            self.standing.charge(call, difference)
        else:
            self.standing.refund(call, -difference)
            self.order.refunded(call.tenant, now)
        if call.tenant.share.budget_tokens_per_day is not None:
            self.days.spend(call.tenant.name, difference)
        if call.run is not None:
            call.run.charge(difference, now)

    def _free(self, call: Call, now: MonoNs) -> None:
        tenant, room, run = call.tenant, self.room, call.run
        tenant.running -= 1
        tenant.outstanding = max(0.0, tenant.outstanding - call.outstanding) if tenant.running else 0.0
        self._sure(call, call.unsettled)
        room.requests -= 1
        room.tokens = room.tokens - call.need_tokens if room.requests else 0
        if call.first_at is None:
            self._was_read(call)
        if run is not None:
            run.running -= 1

    def _was_read(self, call: Call) -> None:
        """Its prompt keeps the engine no longer."""
        if call.long:
            self.room.long_running -= 1
            self.order.lane_freed()
        else:
            self.short_unread -= 1

    def _after(self, call: Call, now: MonoNs) -> None:
        """What its end may let go."""
        tenant, run = call.tenant, call.run
        if tenant.floor:
            self._rerank(tenant, now)
        if tenant.capped:
            self.order.eligible(tenant, now)
        if run is not None:
            self.runs.reopen(run, now)
        if call.began_at is None:
            self.forecast.rate.sent(0.0, now, waiting=self.queued > 0)
        else:
            self.forecast.rate.ended(call.cost, ms_between(call.began_at, now), call.produced)

    def _share(self, name: str) -> Share:
        return self.shares.get(name) or Share()

    def _rank(self, tenant: Tenant) -> Rank:
        rank = RANKS[self.days.overrun(tenant.name)]
        under_floor = rank is Rank.NORMAL and tenant.floor > 0 and tenant.outstanding < tenant.floor
        return Rank.UNDER_FLOOR if under_floor else rank

    def _rerank(self, tenant: Tenant, now: MonoNs) -> None:
        rank = self._rank(tenant)
        if rank is not tenant.rank:
            tenant.rank = rank
            (self._paused.add if rank is Rank.PAUSED else self._paused.discard)(tenant.name)
            self.order.eligible(tenant, now)

    def _forget_tenants(self) -> None:
        """The one unused for longest, of a few: it would be lifted anyway, were it to come again. Those in use go to the end of the line."""
        for name in list(islice(self.tenants, LOOKED_AT)):
            tenant = self.tenants.pop(name)
            if tenant.idle:
                self.standing.counters.forget(name)
                return
            self.tenants[name] = tenant


def _known_rate(settings: EndpointAdmission) -> float | None:
    """A hosted endpoint's rate where it is told; else unknown until measured."""
    per_minute = settings.capacity.tokens_per_minute
    return None if per_minute is None else per_minute / 60.0
