"""Invariants 1, 4, 5 and 9 of admission as a state machine: whatever arrives, ends, is cancelled or tells nonsense, in any order.

HYPOTHESIS_PROFILE=admission runs more and longer examples.
"""

import os

import pytest
from admission_stage import arrived
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from headway.calls.admission.lanes import NEEDS_DEAD_MIN, Lanes
from headway.calls.admission.model import POLICIES, Capacity, EndpointAdmission, LongLane, RunShare, Share
from headway.calls.admission.scheduler import Refused, Scheduler, Used
from headway.calls.admission.state import Call, Rank, State
from headway.kernel.instants import NS_PER_MS, MonoNs, ms_between

LARGE = os.environ.get("HYPOTHESIS_PROFILE") == "admission"
SHARES = {
    "light": Share(weight=1.0),
    "heavy": Share(weight=3.0),
    "floor": Share(floor_tokens=1_000),
    "capped": Share(cap_tokens=3_000),
}
tenants = st.sampled_from(sorted(SHARES))
prompts = st.sampled_from([1, 30, 200, 900, 2_500])
outputs = st.integers(0, 400)
usages = st.sampled_from(["told", "missing", "negative", "half"])


class Sharing(RuleBasedStateMachine):
    policy = "lanes"

    def __init__(self) -> None:
        super().__init__()
        self.now = MonoNs(0)
        self.made = 0
        self.truth: dict[str, tuple[int, int]] = {}
        self.queued: set[str] = set()
        self.running: dict[str, Call] = {}
        self.paid = 0.0
        """What ended calls are to have paid in all."""

    @initialize(slots=st.integers(1, 6), pool=st.sampled_from([None, 1_500, 4_000]), lane=st.integers(1, 2), prices=st.booleans())
    def begin(self, slots: int, pool: int | None, lane: int, prices: bool) -> None:
        self.settings = EndpointAdmission(
            policy=self.policy,
            prompt_price=1.0 if prices else 0.5,
            output_price=2.0 if prices else 3.0,
            capacity=Capacity(requests_max=slots, tokens_max=pool),
            long=LongLane(prompt_tokens_over=1_000, requests_max=lane),
            run=RunShare(concurrency_max=2, tokens_per_s=5_000.0, burst_tokens=2_000),
            passes_max=3,
            queued_max=40,
            queued_per_tenant_max=25,
        )
        self.scheduler = Scheduler(self.settings, SHARES)

    # --- what happens

    @rule(
        tenant=tenants,
        prompt=prompts,
        error=st.floats(0.2, 5.0),
        output=outputs,
        most=st.sampled_from([None, 50, 400]),
        run=st.sampled_from(["", "", "r1", "r2"]),
        batch=st.booleans(),
    )
    def arrive(self, tenant: str, prompt: int, error: float, output: int, most: int | None, run: str, batch: bool) -> None:
        self.made += 1
        name = f"c{self.made}"
        klass = "batch" if batch else "interactive"
        event = arrived(name, tenant, prompt=max(1, int(prompt * error)), most=most, run=run, klass=klass)
        result = self.scheduler.arrive(event, self.now)
        assert result is not None
        if isinstance(result, Call):
            self.queued.add(name)
            self.truth[name] = (prompt, output if most is None else min(output, most))
        else:
            assert isinstance(result, Refused)
            assert result.retry_after_ms is None or result.retry_after_ms > 0
        self.pump()

    @precondition(lambda self: self.running)
    @rule(data=st.data(), tokens=st.integers(1, 60))
    def produce(self, data: st.DataObject, tokens: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.running)))
        self.scheduler.read(name, self.now)
        self.scheduler.produced(name, tokens, self.now)
        self.pump()

    @precondition(lambda self: self.running)
    @rule(data=st.data(), usage=usages)
    def end(self, data: st.DataObject, usage: str) -> None:
        name = data.draw(st.sampled_from(sorted(self.running)))
        call = self.running.pop(name)
        prompt, output = self.truth[name]
        estimate = call.prompt_tokens, max(call.out_tokens, call.produced)
        used, (paid_prompt, paid_output) = {
            "told": (Used(prompt, output, 0), (prompt, output)),
            "missing": (Used(), estimate),
            "negative": (Used(-5, -1, -1), estimate),
            "half": (Used(prompt, None, prompt // 2), (prompt - prompt // 2, estimate[1])),
        }[usage]
        self.paid += self.settings.prompt_price * paid_prompt + self.settings.output_price * paid_output
        assert self.scheduler.close(name, self.now, used) is call
        assert self.scheduler.close(name, self.now, used) is None, "its end is told twice: the second is ignored"
        self.pump()

    @precondition(lambda self: self.queued)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """9: a cancelled call frees its place and has paid nothing."""
        name = data.draw(st.sampled_from(sorted(self.queued)))
        self.queued.discard(name)
        assert self.scheduler.cancel(name, self.now) is not None
        self.pump()

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def cut(self, data: st.DataObject) -> None:
        """9: one that ran pays for what was seen of it; the rest is refunded."""
        name = data.draw(st.sampled_from(sorted(self.running)))
        call = self.running.pop(name)
        seen = call.prompt_tokens if call.first_at is not None or call.produced else 0
        self.paid += self.settings.prompt_price * seen + self.settings.output_price * call.produced
        self.scheduler.cancel(name, self.now)
        self.pump()

    @rule()
    def nonsense(self) -> None:
        self.scheduler.produced("nobody", 3, self.now)
        assert not self.scheduler.read("nobody", self.now)
        assert self.scheduler.close("nobody", self.now) is None

    @rule(ms=st.sampled_from([1, 40, 700, 12_000]))
    def time_passes(self, ms: int) -> None:
        self.now = MonoNs(self.now + ms * NS_PER_MS + 1)
        self.pump()

    def pump(self) -> None:
        self.scheduler.wake(self.now)
        while (call := self.scheduler.pick(self.now)) is not None:
            assert call.id in self.queued
            self.queued.discard(call.id)
            self.running[call.id] = call
            tenant = call.tenant
            overrun = sum(c.outstanding - c.cost for c in self.running.values() if c.tenant is tenant)
            if tenant.cap is not None:  # 5
                assert tenant.outstanding - overrun <= tenant.cap + 1e-6

    # --- what holds

    @invariant()
    def nothing_vanishes(self) -> None:
        """9"""
        s = self.scheduler
        assert s.submitted == s.done + s.queued + s.running + s.refused + s.evicted
        assert s.queued == len(self.queued)
        assert s.running == len(self.running)
        assert set(s.calls) == self.queued | set(self.running)

    @invariant()
    def books_agree(self) -> None:
        """Every sum that is kept is the sum of its parts."""
        s = self.scheduler
        running = list(self.running.values())
        waiting = [c for c in s.calls.values() if c.state is State.QUEUED]
        assert s.room.requests == len(running)
        assert s.room.tokens == sum(c.need_tokens for c in running)
        assert s.room.long_running == sum(c.long and c.first_at is None for c in running)
        assert s.short_unread == sum(not c.long and c.first_at is None for c in running)
        assert s.long_queued == sum(c.long for c in waiting)
        assert s.standing.waiting_tokens == pytest.approx(sum(c.cost for c in waiting), abs=1e-3)
        for tenant in s.tenants.values():
            assert tenant.queued == sum(c.tenant is tenant for c in waiting)
            assert tenant.running == sum(c.tenant is tenant for c in running)
            assert tenant.outstanding == pytest.approx(sum(c.outstanding for c in running if c.tenant is tenant), abs=1e-3)
        place = s.standing._place
        weights = s.standing._weights
        s.standing.recount(s.tenants.values())
        assert weights == pytest.approx(s.standing._weights, abs=1e-6)
        assert place == pytest.approx(s.standing._place, rel=1e-6, abs=1.0)

    @invariant()
    def refunds_equal_what_was_not_used(self) -> None:
        """4 and 9: what all have been charged is what ended calls are to pay and what running ones were charged so far."""
        s = self.scheduler
        charged = sum(c.charged for c in self.running.values())
        assert sum(t.served for t in s.tenants.values()) == pytest.approx(self.paid + charged, abs=1e-3)
        for tenant in s.tenants.values():
            assert tenant.served >= -1e-6
            assert s.standing.read(tenant) >= tenant.least_counter - 1e-6

    @invariant()
    def no_place_is_left_free(self) -> None:
        """1: a head that fits and may go is only held back for the one that a place is kept for."""
        s = self.scheduler
        if not isinstance(s.order, Lanes):
            return
        heads = [
            (group, head)
            for tenant in s.tenants.values()
            for group in tenant.groups
            if group is not None and tenant.rank is not Rank.PAUSED and (head := group.head(self.now)) is not None
        ]
        may_go = [(g, h) for g, h in heads if g.tenant.cap is None or g.tenant.outstanding + h.cost <= g.tenant.cap]
        if not s.room.lane_open:
            may_go = [(g, h) for g, h in may_go if not g.long]
        owed = [
            head
            for _, head in may_go
            if head.blocked_at is not None
            and (head.passes >= s.settings.passes_max or ms_between(head.blocked_at, self.now) >= s.settings.passes_ms_max)
        ]
        fitting = [head for _, head in may_go if s.room.fits(head.need_tokens, self.now)]
        assert not fitting or owed
        for _, head in heads:
            assert head.passes <= s.settings.passes_max + 1

    @invariant()
    def memory_is_bounded(self) -> None:
        s = self.scheduler
        kept = sum(len(heap) for heap in s.order._heaps)
        assert kept <= 4 * (self.made + 1)
        if isinstance(s.order, Lanes):
            assert len(s.order._needs) <= 2 * self.settings.queued_max + NEEDS_DEAD_MIN

    def teardown(self) -> None:
        """9 and 11: everything that was let in ends, and what was charged is what it cost."""
        for _ in range(10_000):
            if not self.queued and not self.running:
                break
            for name in list(self.running):
                prompt, output = self.truth[name]
                self.paid += self.settings.prompt_price * prompt + self.settings.output_price * output
                self.scheduler.close(name, self.now, Used(prompt, output, 0))
                del self.running[name]
            self.now = MonoNs(self.now + 1_000 * NS_PER_MS)
            self.pump()
        assert not self.queued
        assert not self.running
        if self.made:
            assert sum(t.served for t in self.scheduler.tenants.values()) == pytest.approx(self.paid, abs=1e-3)


def machine(policy: str) -> type:
    case = type(f"Sharing_{policy}", (Sharing,), {"policy": policy}).TestCase  # type: ignore[attr-defined]
    case.settings = settings(
        max_examples=400 if LARGE else 25,
        stateful_step_count=120 if LARGE else 40,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )
    return case


TestLanes, TestFair, TestFcfs, TestShortest = (machine(policy) for policy in POLICIES)
