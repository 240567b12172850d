"""Where the next attempt goes, and that retries are bounded for the whole gateway."""

from collections.abc import Callable

import pytest

from headway.estate.reliability.failover import Attempt, Budget, Failure, Tried, Wait, attempts
from headway.kernel.instants import MonoNs
from headway.kernel.limits import RETRIES_PER_CALL_MAX

NOW = MonoNs(0)


def drive(
    outcome: Callable[[Attempt], Tried], *, targets: int = 2, retries_max: int = 3, budget: Budget | None = None
) -> tuple[list[tuple[int, int]], list[float], Tried]:
    plan = attempts(targets, retries_max=retries_max, budget=budget or Budget(), jitter=1.0)
    tried, waits = [], []
    try:
        step = next(plan)
        while True:
            if isinstance(step, Wait):
                waits.append(step.ms)
                step = next(plan)
            else:
                tried.append((step.target, step.number))
                step = plan.send((outcome(step), NOW))
    except StopIteration as done:
        return tried, waits, done.value


def test_an_answer_ends_it() -> None:
    assert drive(lambda a: Tried(failure=Failure.NONE))[0] == [(0, 1)]


def test_a_committed_answer_is_never_tried_again() -> None:
    assert drive(lambda a: Tried(failure=Failure.COMMITTED))[0] == [(0, 1)]


@pytest.mark.parametrize("status", [429, 500, 502, 503, 529])
def test_a_refusal_goes_to_the_next_target_without_waiting(status: int) -> None:
    tried, waits, _ = drive(
        lambda a: Tried(failure=Failure.STATUS, status=status) if a.target == 0 else Tried(failure=Failure.NONE)
    )
    assert tried == [(0, 1), (1, 2)]
    assert waits == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
def test_what_every_provider_would_refuse_is_not_repeated(status: int) -> None:
    assert drive(lambda a: Tried(failure=Failure.STATUS, status=status))[0] == [(0, 1)]


def test_the_providers_word_on_retries_beats_the_status() -> None:
    assert drive(lambda a: Tried(failure=Failure.STATUS, status=500, should_retry=False))[0] == [(0, 1)]
    assert len(drive(lambda a: Tried(failure=Failure.STATUS, status=400, should_retry=True))[0]) > 1


def test_the_last_target_is_asked_again_after_its_retry_after() -> None:
    tried, waits, _ = drive(lambda a: Tried(failure=Failure.STATUS, status=429, retry_after_ms=250), targets=1, retries_max=2)
    assert tried == [(0, 1), (0, 2), (0, 3)]
    assert waits == [250.0, 250.0]


def test_a_retry_after_too_long_is_not_waited_for() -> None:
    tried, waits, last = drive(lambda a: Tried(failure=Failure.STATUS, status=429, retry_after_ms=60_000), targets=1)
    assert tried == [(0, 1)]
    assert waits == []
    assert last.status == 429


def test_a_call_that_may_still_be_running_is_not_paid_for_twice_at_one_target() -> None:
    assert drive(lambda a: Tried(failure=Failure.NO_ANSWER), targets=1)[0] == [(0, 1)]
    assert drive(lambda a: Tried(failure=Failure.NO_ANSWER), targets=2)[0] == [(0, 1), (1, 2)]


def test_what_was_never_sent_may_go_to_the_same_target_again() -> None:
    assert len(drive(lambda a: Tried(failure=Failure.NOT_SENT), targets=1, retries_max=2)[0]) == 3


def test_one_budget_bounds_the_retries_of_all_calls() -> None:
    budget = Budget()
    total = sum(
        len(drive(lambda a: Tried(failure=Failure.STATUS, status=503), targets=1, retries_max=3, budget=budget)[0])
        for _ in range(1_000)
    )
    assert total <= 1_000 * (1 + budget.share) + budget.burst
    assert budget.turned_down > 0


def test_a_quiet_hour_refills_the_burst_and_no_more() -> None:
    budget = Budget(burst=10)
    while budget.spend(NOW):
        pass
    assert not budget.spend(NOW)
    later = MonoNs(3_600 * 1_000_000_000)
    assert sum(budget.spend(later) for _ in range(50)) == 10


def test_another_provider_is_tried_even_when_the_retry_budget_is_spent() -> None:
    """A provider that is down for everybody must not take those with it that another could serve."""
    budget = Budget()
    while budget.spend(NOW):
        pass
    for _ in range(100):
        tried, waits, last = drive(
            lambda a: Tried(failure=Failure.NOT_SENT) if a.target == 0 else Tried(failure=Failure.NONE), budget=budget
        )
        assert (tried, waits, last.failure) == ([(0, 1), (1, 2)], [], Failure.NONE)
        budget._balance = 0.0


def replicas(outcome: Callable[[Attempt], Tried], budget: Budget, retries_max: int = 3) -> list[int]:
    """Targets tried, of two replicas of one provider and one of another."""
    plan = attempts(3, retries_max=retries_max, budget=budget, jitter=0.0, providers=("a", "a", "b"))
    tried = []
    try:
        step = next(plan)
        while True:
            if isinstance(step, Wait):
                step = next(plan)
                continue
            tried.append(step.target)
            step = plan.send((outcome(step), NOW))
    except StopIteration:
        return tried


def test_replicas_of_one_provider_share_the_budget_and_are_skipped_without_it() -> None:
    down = lambda a: Tried(failure=Failure.STATUS, status=503) if a.target < 2 else Tried(failure=Failure.NONE)  # noqa: E731
    assert replicas(down, Budget()) == [0, 1, 2]
    empty = Budget(burst=0.5)
    assert replicas(down, empty) == [0, 2]
    assert replicas(down, Budget(), retries_max=0) == [0, 2], "a provider without retries still has a fallback"


def test_a_provider_in_full_failure_sees_a_bounded_share_more_through_all_its_replicas() -> None:
    budget = Budget()
    seen = sum(sum(t < 2 for t in replicas(lambda a: Tried(failure=Failure.STATUS, status=503), budget)) for _ in range(1_000))
    assert seen <= 1_000 * (1 + budget.share) + budget.burst


def test_an_unusable_target_is_left_at_no_cost_and_never_asked_again() -> None:
    budget = Budget(burst=0.0)
    unusable = Tried(failure=Failure.UNUSABLE)
    assert drive(lambda a: unusable if a.target == 0 else Tried(failure=Failure.NONE), budget=budget)[0] == [(0, 1), (1, 2)]
    assert drive(lambda a: unusable, targets=1)[0] == [(0, 1)]
    assert replicas(lambda a: unusable, Budget(burst=0.0)) == [0, 1, 2]


def test_all_tries_of_a_call_are_bounded() -> None:
    tried, _, _ = drive(lambda a: Tried(failure=Failure.STATUS, status=503), targets=50, retries_max=4)
    assert len(tried) == RETRIES_PER_CALL_MAX + 1
