"""What changed since an instant: parts that add up, the mix apart, dates that are confirmed."""

import msgspec
import numpy as np
import pytest
from phase_calls import START_MS, STEP_MS, Target

from headway.calls.phases.model import Cause, Seen
from headway.calls.phases.report import WindowReport, report, split_test
from headway.calls.phases.window import compare

BEFORE, AFTER = 500, 300
SINCE_MS = START_MS + BEFORE * STEP_MS


def since(target: Target, **after: object) -> tuple[WindowReport, list[Seen]]:
    calls = [*target.calls(BEFORE), *target.calls(AFTER, **after)]  # type: ignore[arg-type]
    return report(compare(calls, SINCE_MS)), calls


def added(found: WindowReport, cause: Cause) -> float:
    return next((part.added.value or 0.0 for part in found.parts if part.cause is cause), 0.0)


def test_parts_and_mix_add_up_to_what_was_added() -> None:
    found, calls = since(Target(1), wait_ms=400.0, queue_ms=350.0)
    means = [
        sum(c.duration_ms for c in side) / len(side)
        for side in ([c for c in calls if c.at_ms < SINCE_MS], [c for c in calls if c.at_ms >= SINCE_MS])
    ]
    assert found.added.value == pytest.approx(means[1] - means[0])
    assert (found.mix.value or 0.0) + sum(part.added.value or 0.0 for part in found.parts) == pytest.approx(found.added.value)


def test_nothing_changed() -> None:
    found, _ = since(Target(2))
    assert abs(found.added.value or 0.0) < 60
    assert all(abs(part.added.value or 0.0) < 25 for part in found.parts)
    assert not any(test.sure for test in found.confirmed)


def test_another_route_is_the_first_cause_with_its_date() -> None:
    found, _ = since(Target(3), region="us", wait_ms=500.0)
    assert found.parts[0].cause is Cause.ROUTE_CHANGE
    assert found.parts[0].added.value == pytest.approx(500, rel=0.1)
    assert found.parts[0].share == pytest.approx(1.0, abs=0.2)
    assert found.drifts[0].dimension == "region"
    assert (found.drifts[0].p or 0.0) < 1e-9
    sure = next(test for test in found.confirmed if test.sure)
    assert abs((sure.stamp_ms or 0) - SINCE_MS) <= 10 * STEP_MS
    assert abs(found.alarms[0][1].stamp_ms - SINCE_MS) <= 10 * STEP_MS


def test_slow_for_all_is_a_neighbour_and_a_queue_of_ours_is_ours() -> None:
    crowd, _ = since(Target(4), wait_ms=500.0)
    assert crowd.parts[0].cause is Cause.NEIGHBOUR
    queue, _ = since(Target(5), queue_ms=600.0)
    assert queue.parts[0].cause is Cause.OWN_QUEUE
    assert added(queue, Cause.OWN_QUEUE) == pytest.approx(600, rel=0.05)


def test_other_callers_are_no_slow_model() -> None:
    target = Target(6)
    sizes = {"acme": 1_800, "bolt": 9_000}

    def call(tenant: str) -> Seen:
        return target.call(tenant=tenant, input_tokens=round(sizes[tenant] * target.rng.lognormvariate(0, 0.1)))

    before = [call("bolt" if n % 10 == 0 else "acme") for n in range(BEFORE)]
    after = [call("acme" if n % 10 == 0 else "bolt") for n in range(AFTER)]
    found = report(compare([*before, *after], SINCE_MS))
    assert (found.added.value or 0.0) > 300
    assert (found.mix.value or 0.0) == pytest.approx(found.added.value, rel=0.15)
    assert not any(test.sure for test in found.confirmed)


def test_a_caller_of_one_tenant_is_told_of_its_own_calls() -> None:
    calls = [*Target(7).calls(BEFORE + AFTER)]
    compared = compare(calls, SINCE_MS, tenant="acme")
    assert {row.tenant for row in compared.rows} == {"acme"}
    assert len(compared.rows) == sum(c.tenant == "acme" for c in calls)


def test_too_few_calls_are_said_to_be_too_few() -> None:
    found = report(compare([*Target(8).calls(40)], START_MS + 35 * STEP_MS))
    assert found.added.value is None
    assert found.problem == "35 calls before and 5 after; 30 on each side are needed"
    assert report(compare([], SINCE_MS)).n_after == 0


def test_the_order_of_calls_does_not_matter() -> None:
    calls = [*Target(9).calls(BEFORE), *Target(9).calls(0)]
    one, other = compare(calls, SINCE_MS - 100 * STEP_MS), compare(calls[::-1], SINCE_MS - 100 * STEP_MS)
    assert msgspec.json.encode(report(one)) == msgspec.json.encode(report(other))


def test_minutes_are_exchanged_whole() -> None:
    draw = np.random.default_rng(1)
    minutes = np.repeat(np.arange(40), 5)
    alike = np.repeat(draw.normal(size=40), 5)
    alike -= alike.mean()
    _, p = split_test(alike, minutes, 0, shuffles=500)
    _, naive = split_test(alike, np.arange(200), 0, shuffles=500)
    assert p > 0.02
    assert naive <= p
    step = np.where(np.arange(200) < 120, -0.4, 0.6) + draw.normal(scale=0.05, size=200)
    at, sure = split_test(step - step.mean(), minutes, 0, shuffles=2_000)
    assert at == 120
    assert sure < 0.001
