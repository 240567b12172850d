"""One tenant opens ten thousand calls: memory is bounded, nothing vanishes, the others hardly notice, and a Retry-After is true.

Forecasts are held against what came true, their interval against its 80 %.
"""

import random
import tracemalloc
from collections import deque

import pytest
from admission_stage import Stage, Truth, arrived

from headway.calls.admission.estimate import COLD_TOKENS, OutputEstimate
from headway.calls.admission.forecast import Forecast, ServiceRate
from headway.calls.admission.model import Capacity, EndpointAdmission, Share
from headway.calls.admission.promises import Promises
from headway.calls.admission.scheduler import Refused, Scheduler, Used
from headway.calls.admission.state import Call, Tenant
from headway.kernel import limits
from headway.kernel.instants import NS_PER_MS, NS_PER_S, MonoNs


def balanced(s: Scheduler) -> bool:
    return s.submitted == s.done + s.queued + s.running + s.refused + s.evicted


def test_ten_thousand_calls_of_one_tenant_in_bounded_memory_and_nothing_vanishes() -> None:
    settings = EndpointAdmission(capacity=Capacity(requests_max=16), queued_max=3_000, queued_per_tenant_max=2_000)
    s = Scheduler(settings)
    now = MonoNs(0)
    running: deque[str] = deque()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(10_000):
        now = MonoNs(now + NS_PER_MS)
        result = s.arrive(arrived(f"flood-{number}", "flood", prompt=100 + number % 50, most=30), now)
        assert isinstance(result, Call) == (s.queued <= 2_000 and f"flood-{number}" in s.calls)
        while (call := s.pick(now)) is not None:
            running.append(call.id)
        assert balanced(s)
    assert s.queued == 2_000
    assert s.refused == 10_000 - 2_016
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert held < 24 * 1024 * 1024
    for turn in range(20):  # others come in at once, and go next while they ask for less than the flood gets
        name = f"chat-{turn}"
        assert isinstance(s.arrive(arrived(name, "chat", prompt=20, most=10), now), Call)
        for place in range(3):
            now = MonoNs(now + NS_PER_MS)
            s.close(running.popleft(), now, Used(100, 20, 0))
            call = s.pick(now)
            assert call is not None
            assert (call.id == name) == (place == 0)
            running.append(call.id)
            assert balanced(s)
    while running:
        now = MonoNs(now + NS_PER_MS)
        s.close(running.popleft(), now, Used(100, 20, 0))
        while (call := s.pick(now)) is not None:
            running.append(call.id)
        assert balanced(s)
    assert (s.queued, s.running, s.calls) == (0, 0, {})
    assert s.room.tokens == 0
    assert s.standing.waiting_tokens == pytest.approx(0.0, abs=1e-6)


def test_cancelled_calls_are_not_carried_along() -> None:
    s = Scheduler(EndpointAdmission(capacity=Capacity(requests_max=1)))
    assert isinstance(s.arrive(arrived("first", "a"), MonoNs(0)), Call)
    assert s.pick(MonoNs(0)) is not None
    for number in range(20_000):
        s.arrive(arrived(f"c{number}", "a"), MonoNs(number))
        s.cancel(f"c{number}", MonoNs(number))
    [group] = [g for g in s.tenants["a"].groups if g is not None]
    assert len(group._heap) < 200
    assert len(group._oldest) < 200
    assert sum(len(heap) for heap in s.order._heaps) < 20_100 - 20_000 + 200


def test_tenants_runs_and_kinds_are_forgotten_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headway.calls.admission.scheduler.ADMISSION_TENANTS_KEPT_MAX", 50)
    monkeypatch.setattr("headway.calls.admission.runs.ADMISSION_RUNS_KEPT_MAX", 50)
    monkeypatch.setattr("headway.calls.admission.estimate.ADMISSION_KINDS_KEPT_MAX", 50)
    s = Scheduler(EndpointAdmission(capacity=Capacity(requests_max=200)))
    s.arrive(arrived("kept", "kept", run="kept"), MonoNs(0))
    assert s.pick(MonoNs(0)) is not None
    for number in range(500):
        now = MonoNs(number * NS_PER_MS)
        s.arrive(arrived(f"c{number}", f"t{number}", run=f"r{number}"), now)
        assert s.pick(now) is not None
        s.close(f"c{number}", now, Used(10, 10, 0))
    assert "kept" in s.tenants
    assert len(s.tenants) <= 52
    assert len(s.runs.by_name) <= 52
    assert len(s.outputs._kinds) <= 50


def test_promises_are_bounded_and_expire(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headway.calls.admission.promises.ADMISSION_PROMISES_MAX", 10)
    promises, tenant = Promises(), Tenant("a", Share())
    for number in range(25):
        promises.make(tenant, ("a", "", number, None, 0), 7.0, 1_000.0, MonoNs(number))
    assert tenant.promises == 10
    assert tenant.promised_tokens == pytest.approx(70.0)
    assert not promises.keep(("a", "", 3, None, 0), MonoNs(1_001 * NS_PER_MS)), "the oldest kept no place"
    assert not promises.keep(("a", "", 24, None, 0), MonoNs(500 * NS_PER_MS)), "too early"
    assert promises.keep(("a", "", 24, None, 0), MonoNs(1_001 * NS_PER_MS))
    assert not promises.keep(("a", "", 24, None, 0), MonoNs(1_001 * NS_PER_MS)), "a place is kept once"
    promises.expire(MonoNs(60 * NS_PER_S))
    assert (tenant.promises, tenant.promised_tokens) == (0, 0.0)


def test_callers_that_come_when_told_are_let_in() -> None:
    """Four times what fits: who is refused comes again when told, newcomers meanwhile keep coming."""
    settings = EndpointAdmission(capacity=Capacity(requests_max=8), queued_per_tenant_max=60)
    stage = Stage(settings)
    rng = random.Random(5)
    due: list[tuple[MonoNs, int, int]] = []
    back = let_in = 0
    for tick in range(6_000):
        mine = [one for one in due if one[0] <= stage.now]
        due = [one for one in due if one[0] > stage.now]
        if tick < 3_000 and tick % 2 == 0:
            mine.append((MonoNs(-1), rng.randint(20, 400), rng.randint(5, 60)))
        for told_at, prompt, output in mine:
            name = f"x{stage.made}"
            stage.made += 1
            result = stage.scheduler.arrive(arrived(name, "flood", prompt=prompt, most=output), stage.now)
            assert result is not None
            back += told_at >= 0
            if isinstance(result, Refused):
                assert result.retry_after_ms is not None
                due.append((MonoNs(stage.now + result.retry_after_ms * NS_PER_MS), prompt, output))
            else:
                let_in += told_at >= 0
                stage.truth[name] = Truth(prompt, output)
        stage.pump()
        stage.tick()
    assert back > 200
    assert let_in / back >= 0.9


def kept_intervals(seed: int) -> float:
    """Share of waits that came true within what was forecast, while load comes in waves from half to one and a half of what fits."""
    stage = Stage(EndpointAdmission(capacity=Capacity(requests_max=8)))
    rng = random.Random(seed)
    forecasts: list[tuple[str, MonoNs, float, float]] = []
    for tick in range(9_000):
        for tenant, share in (("a", 0.10), ("b", 0.08), ("c", 0.05)):
            wave = 1.5 if tick // 1_500 % 2 == 0 else 0.5
            if rng.random() < share * wave:
                prompt, output = rng.choice([50, 200, 800]), rng.randint(5, 80)
                known = stage.scheduler.tenant(tenant)
                cost = stage.cost(prompt, stage.scheduler.outputs.tokens(tenant, "chat", 80))
                wait = stage.scheduler.wait_of(known, cost, stage.now)
                name = stage.arrive(tenant, prompt=prompt, output=output, most=80)
                if wait.raw >= 500.0:
                    forecasts.append((name, stage.now, wait.low, wait.high))
        stage.pump()
        stage.tick()
    judged = [((stage.sent_at[n] - at) / 1e6, low, high) for n, at, low, high in forecasts[100:] if n in stage.sent_at]
    assert len(judged) > 200
    return sum(low <= waited <= high for waited, low, high in judged) / len(judged)


def test_the_forecasts_interval_holds_about_four_in_five() -> None:
    kept = [kept_intervals(seed) for seed in (11, 12, 13)]
    assert 0.7 <= sum(kept) / 3 <= 0.92
    assert min(kept) >= 0.6


def test_idle_time_says_nothing_about_the_rate() -> None:
    rate = ServiceRate()
    now = 0
    for _ in range(200):  # 1,000 tokens a second while somebody waits, ten seconds of nothing between
        for _ in range(10):
            now += NS_PER_S // 10
            rate.sent(100.0, MonoNs(now), waiting=True)
        rate.sent(0.0, MonoNs(now), waiting=False)
        now += 10 * NS_PER_S
        rate.sent(0.0, MonoNs(now), waiting=True)
    assert rate.tokens_per_s(8) == pytest.approx(1_000.0, rel=0.15)


def test_a_rate_that_is_told_is_used_until_it_is_measured() -> None:
    assert Forecast(known_tokens_per_s=250.0).raw_ms(1_000.0, 8) == pytest.approx(4_000.0)


def test_answers_are_estimated_by_their_kind() -> None:
    outputs = OutputEstimate()
    assert outputs.tokens("a", "chat", None) == COLD_TOKENS
    assert outputs.tokens("a", "chat", 40) == 40
    assert outputs.tokens("a", "chat", 0) == 1
    for tokens in range(1, 101):
        outputs.saw("a", "chat", (300).bit_length(), tokens)
    assert outputs.tokens("a", "chat", 300) == pytest.approx(84, abs=2), "0.75 of the last 64"
    assert outputs.tokens("a", "chat", 256) == pytest.approx(84, abs=2), "one band of max_tokens"
    assert outputs.tokens("a", "chat", 100) == 100, "another band"
    assert outputs.tokens("b", "chat", 300) == COLD_TOKENS
    assert limits.ADMISSION_KINDS_KEPT_MAX > 0
