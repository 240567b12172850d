"""Orders one decision at a time: who goes before whom and why; what a room lets in and a day allows."""

import pytest
from admission_stage import arrived

from headway.calls.admission.counters import LocalCounters
from headway.calls.admission.days import Days
from headway.calls.admission.model import Capacity, EndpointAdmission, EngineLoad, LongLane, RunShare, Share
from headway.calls.admission.room import Room
from headway.calls.admission.scheduler import Scheduler, Used
from headway.calls.admission.state import Call
from headway.kernel.instants import NS_PER_MS, NS_PER_S, MonoNs


class At:
    """A scheduler at an instant that moves on by a millisecond with each thing told."""

    def __init__(self, settings: EndpointAdmission, shares: dict[str, Share] | None = None, **how: object) -> None:
        self.scheduler = Scheduler(settings, shares, **how)  # type: ignore[arg-type]
        self.now = MonoNs(NS_PER_S)

    def put(self, call: str, tenant: str = "a", **fields: object) -> Call:
        self.now = MonoNs(self.now + NS_PER_MS)
        made = self.scheduler.arrive(arrived(call, tenant, **fields), self.now)  # type: ignore[arg-type]
        assert isinstance(made, Call)
        return made

    def go(self) -> list[str]:
        self.scheduler.wake(self.now)
        gone: list[str] = []
        while (call := self.scheduler.pick(self.now)) is not None:
            gone.append(call.id)
        return gone

    def end(self, call: str, used: Used | None = None) -> list[str]:
        self.now = MonoNs(self.now + NS_PER_MS)
        self.scheduler.close(call, self.now, used or Used())
        return self.go()

    def drain(self) -> list[str]:
        """Everybody, one after the other."""
        order: list[str] = []
        gone = self.go()
        while gone:
            order += gone
            gone = [next_one for call in gone for next_one in self.end(call)]
        return order


def one(policy: str, **how: object) -> EndpointAdmission:
    how.setdefault("capacity", Capacity(requests_max=1))
    return EndpointAdmission(policy=policy, **how)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("policy", "order"),
    [
        ("fcfs", ["a1", "a2", "b1", "a3", "b2"]),
        ("shortest", ["a1", "b2", "b1", "a3", "a2"]),
        ("fair", ["a1", "b1", "b2", "a2", "a3"]),
        ("lanes", ["a1", "b1", "b2", "a2", "a3"]),
    ],
)
def test_five_calls_under_each_order(policy: str, order: list[str]) -> None:
    at = At(one(policy))
    at.put("a1", "a", prompt=500, most=10)
    assert at.go() == ["a1"]
    at.put("a2", "a", prompt=900, most=10)
    at.put("b1", "b", prompt=200, most=10)
    at.put("a3", "a", prompt=400, most=10)
    at.put("b2", "b", prompt=100, most=10)
    assert ["a1", *(call for gone in iter(lambda: at.end(at_running(at)), []) for call in gone)] == order


def at_running(at: At) -> str:
    return next(call.id for call in at.scheduler.calls.values() if call.state == 1)


def test_interactive_before_batch_within_a_tenant_until_the_batch_call_is_old() -> None:
    at = At(one("lanes", age_ms_max=5_000.0))
    at.put("run")
    at.go()
    at.put("batch", klass="batch")
    at.put("first")
    at.put("second")
    assert at.end("run") == ["first"]
    at.now = MonoNs(at.now + 6 * NS_PER_S)
    assert at.end("first") == ["batch"], "nobody of its tenant passes one that has waited so long"


def test_the_run_with_the_least_service_goes_first_within_a_tenant() -> None:
    at = At(one("lanes", run=RunShare(concurrency_max=8, burst_tokens=1_000_000)))
    at.put("heavy1", run="heavy", prompt=1_500)
    at.go()
    at.put("heavy2", run="heavy", prompt=100)
    at.put("light1", run="light", prompt=100)
    at.put("single", prompt=100)
    assert at.end("heavy1") == ["light1"], "older than the single call, and its run has had nothing either"
    assert at.end("light1") == ["single"]


def test_a_head_that_does_not_fit_is_passed_so_often_and_then_waited_for() -> None:
    at = At(one("lanes", capacity=Capacity(requests_max=100, tokens_max=2_000), passes_max=3, passes_ms_max=1e9))
    at.put("base", "a", prompt=1_000, most=100)
    at.go()
    at.put("big", "b", prompt=1_500, most=100)
    assert at.go() == []
    passed = []
    for number in range(5):
        at.put(f"small{number}", "c", prompt=90, most=10)
        passed += at.go()
    assert passed == ["small0", "small1", "small2"]
    assert at.scheduler.pick(at.now) is None, "a place is kept for the big one, though small ones would fit"
    for call in ("small0", "small1", "small2"):
        assert at.end(call) == []
    assert at.end("base")[0] == "big"


def test_a_small_call_behind_a_large_one_of_its_tenant_is_looked_at_once_that_is_gone() -> None:
    at = At(one("lanes", capacity=Capacity(requests_max=4, tokens_max=1_000)))
    for name in ("a1", "a2", "a3"):
        at.put(name, prompt=250, most=50)
    assert at.go() == ["a1", "a2", "a3"]
    at.put("large", prompt=550, most=50)
    at.put("small", prompt=50, most=50)
    assert at.go() == [], "100 are free"
    assert at.end("a1") == []
    assert at.end("a2") == ["large", "small"]


def test_what_a_head_needed_that_is_gone_hides_nobody() -> None:
    at = At(one("lanes", capacity=Capacity(requests_max=4, tokens_max=1_000)))
    for name in ("a1", "a2"):
        at.put(name, prompt=200, most=50)
    at.put("b1", prompt=350, most=50)
    assert at.go() == ["a1", "a2", "b1"]
    at.put("large", prompt=450, most=50)
    at.put("next", prompt=200, most=50)
    assert at.go() == []
    assert at.end("b1") == ["large"]
    assert at.end("a1") == ["next"], "large needed 500, and 250 are enough"


def test_a_head_is_passed_for_so_long_at_most() -> None:
    at = At(one("lanes", capacity=Capacity(requests_max=100, tokens_max=2_000), passes_max=1_000, passes_ms_max=500.0))
    at.put("base", "a", prompt=1_000, most=100)
    at.go()
    at.put("big", "b", prompt=1_500, most=100)
    at.put("small", "c", prompt=90, most=10)
    assert at.go() == ["small"]
    at.now = MonoNs(at.now + NS_PER_S)
    at.put("late", "c", prompt=90, most=10)
    assert at.go() == []


def test_fair_waits_for_a_head_that_does_not_fit() -> None:
    at = At(one("fair", capacity=Capacity(requests_max=100, tokens_max=2_000)))
    at.put("base", "a", prompt=1_000, most=100)
    at.go()
    at.put("big", "b", prompt=1_500, most=100)
    at.put("small", "b", prompt=10, most=10)
    assert at.go() == []
    assert at.end("base") == ["big", "small"]


def test_what_is_larger_than_everything_goes_when_it_is_alone() -> None:
    at = At(one("lanes", capacity=Capacity(requests_max=4, tokens_max=1_000)))
    at.put("small", prompt=100, most=10)
    at.put("huge", "b", prompt=1_900, most=10)
    assert at.go() == ["small"]
    assert at.end("small") == ["huge"]


def test_long_prompts_go_one_at_a_time_and_are_in_nobodys_way() -> None:
    at = At(one("lanes", capacity=Capacity(requests_max=10), long=LongLane(prompt_tokens_over=1_000)))
    at.put("giant1", "a", prompt=20_000)
    at.put("giant2", "b", prompt=20_000)
    at.put("small1", "c", prompt=50)
    at.put("small2", "a", prompt=50)
    assert set(at.go()) == {"giant1", "small1", "small2"}
    assert at.scheduler.read("giant1", at.now)
    assert at.go() == ["giant2"], "its prompt has been read: the next may come, though it still answers"
    assert not at.scheduler.read("giant1", at.now), "once"


def test_waiting_for_the_lane_banks_nothing_for_small_ones() -> None:
    """A tenant whose giant waited long for its turn does not then crowd out others with small calls."""
    at = At(one("lanes", capacity=Capacity(requests_max=2), long=LongLane(prompt_tokens_over=1_000)))
    at.put("giant1", "a", prompt=20_000)
    at.put("giant2", "hoarder", prompt=20_000)
    assert at.go() == ["giant1"]
    at.put("s0", "chat", prompt=500, most=1)
    assert at.go() == ["s0"]
    for number in range(40):  # chat is served and served, the hoarder's giant waits
        at.put(f"s{number + 1}", "chat", prompt=500, most=1)
        assert at.end(f"s{number}", Used(500, 1, 0)) == [f"s{number + 1}"]
    for number in range(10):
        at.put(f"h{number}", "hoarder", prompt=500, most=1)
        at.put(f"c{number}", "chat", prompt=500, most=1)
    running, turns = "s40", []
    for _ in range(10):
        [running] = at.end(running, Used(500, 1, 0))
        turns.append(running[0])
    assert 4 <= turns.count("h") <= 6


def test_waiting_for_the_lane_pays_no_part_of_the_giant() -> None:
    at = At(one("lanes", capacity=Capacity(requests_max=3), long=LongLane(prompt_tokens_over=1_000)))
    at.put("giant1", "a", prompt=20_000)
    at.put("giant2", "hoarder", prompt=20_000, most=1)
    at.put("s0", "chat", prompt=500, most=1)
    at.put("t0", "chat", prompt=500, most=1)
    at.go()
    for number in range(40):
        at.put(f"s{number + 1}", "chat", prompt=500, most=1)
        at.end(f"s{number}", Used(500, 1, 0))
    for number in range(30):
        at.put(f"c{number}", "chat", prompt=500, most=1)
    at.scheduler.read("giant1", at.now)
    assert at.end("s40", Used(500, 1, 0)) == ["giant2"]
    for number in range(5):
        at.put(f"h{number}", "hoarder", prompt=500, most=1)
    [running], turns = at.end("t0", Used(500, 1, 0)), []
    for _ in range(20):
        [running] = at.end(running, Used(500, 1, 0))
        turns.append(running[0])
    assert turns == ["c"] * 20, "its giant is paid in full: chat's next twenty calls cost half of it"


def test_who_brings_its_first_giant_late_has_no_credit_in_the_lane() -> None:
    at = At(one("lanes", capacity=Capacity(requests_max=2), long=LongLane(prompt_tokens_over=1_000)))
    for number in range(20):
        at.put(f"old{number}", "old", prompt=5_000, most=1)
    [running] = at.go()
    turns: list[str] = []
    for number in range(20):
        if number == 10:
            for late in range(20):
                at.put(f"new{late}", "new", prompt=5_000, most=1)
        [running] = at.end(running, Used(5_000, 1, 0))
        turns.append(running[:3])
    assert turns[:10] == ["old"] * 10
    assert 4 <= turns[10:].count("new") <= 6


def test_a_refund_puts_its_tenant_before_those_it_was_overcharged_behind() -> None:
    at = At(one("fair", capacity=Capacity(requests_max=2)))
    at.put("over", "a", prompt=1_800, most=400)
    at.put("busy", "b", prompt=500, most=1)
    at.go()
    at.put("a2", "a", prompt=10, most=1)
    at.put("b2", "b", prompt=400, most=1)
    at.put("b3", "b", prompt=400, most=1)
    assert at.end("busy", Used(500, 1, 0)) == ["b2"]
    assert at.end("over", Used(10, 1, 0)) == ["a2"]


def test_a_run_that_is_closed_lets_its_tenants_other_calls_go() -> None:
    at = At(one("lanes", capacity=Capacity(requests_max=10), run=RunShare(concurrency_max=2)))
    for number in range(6):
        at.put(f"r{number}", run="wide")
    at.put("single")
    assert at.go() == ["r0", "single", "r1"], "the run has been served once by then"
    assert at.end("single") == []
    assert at.end("r0") == ["r2"]
    assert at.drain() == []
    assert at.end("r1") == ["r3"]


def test_a_cancelled_child_gives_its_turn_to_the_next() -> None:
    at = At(one("lanes", capacity=Capacity(requests_max=10), run=RunShare(concurrency_max=1)))
    for number in range(4):
        at.put(f"r{number}", run="wide")
    assert at.go() == ["r0"]
    at.scheduler.cancel("r1", at.now)
    assert at.end("r0") == ["r2"]


def test_a_cap_holds_back_one_tenant_and_nobody_else() -> None:
    at = At(one("lanes", capacity=Capacity(requests_max=10)), {"capped": Share(cap_tokens=500)})
    for number in range(3):
        at.put(f"x{number}", "capped", prompt=200, most=10)
    at.put("other", "b", prompt=5_000, most=10)
    assert set(at.go()) == {"x0", "x1", "other"}
    assert at.end("x0") == ["x2"]


def test_a_refund_of_a_charge_from_before_the_last_lift_brings_no_credit_back() -> None:
    at = At(one("fair", capacity=Capacity(requests_max=2)))
    at.put("over", "a", prompt=3_000, most=400)
    at.go()
    for number in range(5):  # b is served for 2,500 while a has nothing queued
        at.put(f"b{number}", "b", prompt=500, most=1)
        assert at.go() == [f"b{number}"]
        at.end(f"b{number}", Used(500, 1, 0))
    at.put("busy", "b", prompt=500, most=1)
    at.go()
    at.put("waits", "b", prompt=500, most=1)
    at.put("a2", "a", prompt=100, most=1)
    a = at.scheduler.tenants["a"]
    lifted_to = a.least_counter
    assert lifted_to > 2_000
    assert at.end("busy", Used(500, 1, 0)) == ["waits"]
    assert at.end("waits", Used(500, 1, 0)) == ["a2"]
    at.scheduler.close("over", at.now, Used(10, 1, 0))
    assert at.scheduler.standing.read(a) == lifted_to + 102, "what it was charged since stands"


def test_a_new_generation_of_settings_takes_nothing_from_who_waited() -> None:
    at = At(one("lanes", run=RunShare(tokens_per_s=1.0, burst_tokens=100)))
    at.put("busy", "b", prompt=4_000, most=1)
    at.go()
    at.put("a1", "a", prompt=10, most=1)
    at.put("b1", "b", prompt=10, most=1)
    at.put("r1", "c", prompt=100, most=50, run="slow")
    before = {name: at.scheduler.standing.read(tenant) for name, tenant in at.scheduler.tenants.items()}
    at.scheduler.reconfigure(one("lanes", run=RunShare(tokens_per_s=50.0, burst_tokens=100)), {"a": Share(weight=2.0)}, at.now)
    assert {name: at.scheduler.standing.read(tenant) for name, tenant in at.scheduler.tenants.items()} == before
    assert at.scheduler.tenants["a"].weight == 2.0
    assert at.end("busy", Used(4_000, 1, 0)) == ["a1"]
    assert at.end("a1", Used(10, 1, 0)) == ["r1"]


# --- counters


def test_local_counters_rise_fall_and_are_forgotten() -> None:
    counters = LocalCounters()
    counters.charge("a", 5.0)
    counters.charge("a", -2.0)
    assert counters.lift("a", 1.0) == 3.0
    assert counters.lift("a", 8.0) == 8.0
    counters.forget("a")
    assert counters.read("a") == 0.0


# --- room and days


def test_a_room_learns_from_preemptions() -> None:
    room = Room(EndpointAdmission(capacity=Capacity(requests_max=64)), None)
    room.heard(EngineLoad(preemptions=3))
    assert room.tokens_max is None, "the first count is where it starts"
    room.requests, room.tokens = 10, 10_000
    room.heard(EngineLoad(preemptions=4))
    assert room.tokens_max == pytest.approx(9_000)
    assert not room.fits(100, MonoNs(0))
    room.heard(EngineLoad(preemptions=4, kv_used_share=0.5))
    assert room.tokens_max is not None
    assert room.tokens_max > 9_000
    room.heard(EngineLoad(slots=4))
    assert room.requests_max == 4


def test_a_day_begins_anew_and_a_refund_brings_a_tenant_back() -> None:
    days = Days({"a": Share(budget_tokens_per_day=100)}, MonoNs(NS_PER_S))
    days.spend("a", 120.0)
    days.spend("stranger", 10**9)
    assert (days.overrun("a"), days.overrun("stranger")) == ("demote", "")
    days.spend("a", -30.0)
    assert days.overrun("a") == ""
    days.spend("a", 500.0)
    changes = days.changes
    days.roll(MonoNs(3 * NS_PER_S))
    assert (days.overrun("a"), days.spent("a"), days.changes) == ("", 0.0, changes + 1)
    assert days.ends_at is not None
    assert days.ends_at > 86_400 * NS_PER_S
