"""Verdicts by the rules: what each needs, what refutes it, and when nobody can tell."""

import random

import msgspec
import pytest
from phase_calls import STEP_MS, Target, learnt, without

from headway.calls.phases.history import History
from headway.calls.phases.model import Cause, Seen, Verdict
from headway.calls.phases.settings import Settings
from headway.calls.phases.split import split
from headway.calls.phases.verdict import Judge
from headway.calls.phases.watch import Watch

JUDGE = Judge()


def judged(seen: Seen, history: History) -> Verdict:
    verdict = JUDGE.verdict(seen, history)
    assert verdict.cause is not None or not verdict.slow
    return verdict


def lasting(seen: Seen, total_ms: float) -> Seen:
    """The same call with its first token so much later that it lasts exactly ``total_ms``."""
    assert seen.first_token_ms is not None
    assert seen.last_token_ms is not None
    later = total_ms - seen.duration_ms
    return without(
        seen,
        duration_ms=total_ms,
        first_token_ms=seen.first_token_ms + later,
        last_token_ms=seen.last_token_ms + later,
    )


def test_four_calls_of_2340_ms_have_four_verdicts() -> None:
    target = Target(1)
    history = target.history()
    long = lasting(target.call(input_tokens=4_200, cached_tokens=1_200, output_tokens=60, tenant="acme"), 2_340.0)
    cold = lasting(
        target.call(
            input_tokens=2_900,
            cached_tokens=0,
            output_tokens=60,
            tenant="acme",
            idle_ms=3_700_000.0,
            prefix_seen_before_ms=3_700_000.0,
        ),
        2_340.0,
    )
    moved = learnt(history, target.calls(4, region="us", wait_ms=1_000.0))
    assert all(seen.region == "us" for seen in moved)
    route = lasting(target.call(output_tokens=60, region="us"), 2_340.0)
    history.learn(route)
    neighbours = Target(2)
    neighbours.n = target.n + 200
    beside = learnt(history, neighbours.calls(8, wait_ms=1_000.0))
    assert {seen.tenant for seen in beside} != {"acme"}
    crowded = lasting(neighbours.call(output_tokens=60, tenant="acme"), 2_340.0)
    calls = {"long": long, "cold": cold, "route": route, "crowded": crowded}
    verdicts = {name: judged(seen, history) for name, seen in calls.items()}
    assert {seen.duration_ms for seen in calls.values()} == {2_340.0}
    assert {split(seen).duration_ms for seen in calls.values()} == {2_340.0}
    assert {name: verdict.cause for name, verdict in verdicts.items()} == {
        "long": Cause.LONG_PROMPT,
        "cold": Cause.COLD_CACHE,
        "route": Cause.ROUTE_CHANGE,
        "crowded": Cause.NEIGHBOUR,
    }
    assert all(verdict.slow and verdict.evidence for verdict in verdicts.values())
    assert "us" in verdicts["route"].evidence[0].what
    for verdict in verdicts.values():
        assert verdict.excess_ms + verdict.expected_ms == pytest.approx(2_340.0)
        assert verdict.explained_ms >= 0.6 * verdict.excess_ms


# --- each rule, and what refutes it


def test_own_queue_by_our_clock() -> None:
    target = Target(3)
    history = target.history()
    verdict = judged(target.call(queue_ms=900.0), history)
    assert verdict.cause is Cause.OWN_QUEUE
    assert verdict.explained_ms == pytest.approx(900.0, abs=3)
    assert not judged(target.call(queue_ms=60.0), history).slow


def test_a_wait_that_is_usual_is_expected() -> None:
    target = Target(4)
    history = History()
    learnt(history, (target.call(queue_ms=target.rng.uniform(300.0, 900.0)) for _ in range(300)))
    assert not judged(target.call(queue_ms=900.0), history).slow


def test_throttling_needs_a_refusal_and_a_success_at_first_refutes_it() -> None:
    target = Target(5)
    history = target.history()
    told = judged(target.call(attempts=2, attempts_ms=900.0, throttled_ms=900.0), history)
    near = judged(target.call(attempts=2, attempts_ms=900.0, ratelimit_remaining_share=0.0), history)
    assert (told.cause, near.cause) == (Cause.THROTTLING, Cause.THROTTLING)
    first = target.call(wait_ms=900.0, ratelimit_remaining_share=0.0)
    claim = next(c for c in JUDGE.claims(first, history) if c.cause is Cause.THROTTLING)
    assert not claim.holds
    assert claim.refuted
    assert judged(first, history).cause is Cause.CANNOT_TELL


def test_a_retry_is_an_attempt_that_was_not_throttled() -> None:
    target = Target(6)
    history = target.history()
    assert judged(target.call(attempts=2, attempts_ms=900.0), history).cause is Cause.RETRY
    both = judged(target.call(attempts=3, attempts_ms=1_000.0, throttled_ms=500.0), history)
    assert both.cause is Cause.CANNOT_TELL
    assert any("throttling" in missing and "retry" in missing for missing in both.missing)


def test_a_long_prompt_is_refuted_where_its_tokens_do_not_explain_it() -> None:
    target = Target(7)
    history = target.history()
    honest = target.call(input_tokens=5_000, cached_tokens=1_500)
    assert judged(honest, history).cause is Cause.LONG_PROMPT
    late = target.call(input_tokens=5_000, cached_tokens=1_500, wait_ms=3_000.0)
    claim = next(c for c in JUDGE.claims(late, history) if c.cause is Cause.LONG_PROMPT)
    assert claim.refuted
    assert judged(late, history).cause is Cause.CANNOT_TELL


def test_a_cold_cache_needs_a_reported_count_the_same_prefix_and_a_reason() -> None:
    target = Target(8)
    history = target.history()
    away = {"idle_ms": 900_000.0, "prefix_seen_before_ms": 900_000.0}
    assert judged(target.call(cached_tokens=0, **away), history).cause is Cause.COLD_CACHE
    warm = judged(target.call(**away), history)
    assert not warm.slow
    soon = judged(target.call(cached_tokens=0), history)
    assert soon.cause is Cause.CANNOT_TELL
    assert soon.second is Cause.COLD_CACHE
    assert "same route" in soon.missing[0]
    never = judged(target.call(cached_tokens=0, prefix_seen_before_ms=None, idle_ms=900_000.0), history)
    assert never.cause is not Cause.COLD_CACHE


def test_where_nobody_reports_a_cached_count_a_cold_cache_is_not_named() -> None:
    target = Target(9)
    history = History()
    learnt(history, target.calls(300, cached_tokens=None))
    verdict = judged(target.call(cached_tokens=None, wait_ms=1_500.0, idle_ms=900_000.0, prefix_seen_before_ms=900_000.0), history)
    assert verdict.cause is Cause.CANNOT_TELL
    assert "the provider reports no cached count" in verdict.missing


def test_on_an_engine_of_ones_own_an_evicted_slot_needs_no_reason() -> None:
    target = Target(10, hosted=False)
    history = target.history()
    assert judged(target.call(cached_tokens=0), history).cause is Cause.COLD_CACHE


def test_a_route_change_needs_a_marker_and_a_date() -> None:
    target = Target(11)
    history = target.history()
    first = judged(target.call(region="us", wait_ms=800.0), history)
    assert first.cause is Cause.CANNOT_TELL
    assert "no change point yet" in first.missing[0]
    learnt(history, target.calls(4, region="us", wait_ms=800.0))
    verdict = judged(target.call(region="us", wait_ms=800.0), history)
    assert verdict.cause is Cause.ROUTE_CHANGE
    assert verdict.explained_ms == pytest.approx(800.0, rel=0.2)


def test_a_route_that_is_as_fast_changes_nothing() -> None:
    target = Target(12)
    history = target.history()
    learnt(history, target.calls(10, region="us"))
    verdict = judged(target.call(region="us", wait_ms=900.0), history)
    assert verdict.cause is Cause.CANNOT_TELL


def test_probes_that_find_the_route_as_it_was_refute_its_change() -> None:
    target = Target(13)
    history = target.history()
    for _ in range(6):
        learnt(history, target.calls(1, region="us", wait_ms=800.0))
        learnt(history, target.calls(1, region="us", probe=True))
    slow = target.call(region="us", wait_ms=800.0)
    claim = next(c for c in JUDGE.claims(slow, history) if c.cause is Cause.ROUTE_CHANGE)
    assert claim.refuted.startswith("probes")
    assert judged(slow, history).cause is not Cause.ROUTE_CHANGE


def test_a_changed_engine_of_ones_own_is_known_by_its_address() -> None:
    target = Target(14, hosted=False)
    history = target.history()
    learnt(history, target.calls(4, address="10.0.0.2:8000", wait_ms=800.0, token_ms=25.0))
    verdict = judged(target.call(address="10.0.0.2:8000", wait_ms=800.0, token_ms=25.0, output_tokens=60), history)
    assert verdict.cause is Cause.ROUTE_CHANGE
    assert verdict.explained_ms > 1_000.0


def test_a_neighbour_on_ones_own_engine_needs_load_that_was_seen() -> None:
    target = Target(15, hosted=False)
    history = target.history()
    alone = judged(target.call(wait_ms=900.0), history)
    assert alone.cause is Cause.CANNOT_TELL
    verdict = judged(target.call(wait_ms=900.0, engine_waiting=6), history)
    assert verdict.cause is Cause.NEIGHBOUR
    assert "waiting" in verdict.evidence[0].what
    silent = target.call(wait_ms=900.0, engine_waiting=None, engine_running=None, beside_tokens=None)
    assert "the engine tells nothing of its queue" in judged(silent, history).missing


def test_a_hosted_neighbour_needs_others_that_are_slow_too() -> None:
    target = Target(16)
    history = target.history()
    alone = judged(target.call(wait_ms=900.0, tenant="acme"), history)
    assert alone.cause is Cause.CANNOT_TELL
    claim = next(c for c in JUDGE.claims(target.call(wait_ms=900.0, tenant="acme"), history) if c.cause is Cause.NEIGHBOUR)
    assert claim.refuted == "others were not slow at the same time"
    learnt(history, target.calls(8, wait_ms=900.0, tenant="bolt"))
    assert judged(target.call(wait_ms=900.0, tenant="acme"), history).cause is Cause.NEIGHBOUR


def test_calm_probes_refute_a_hosted_neighbour() -> None:
    target = Target(17)
    history = target.history()
    learnt(history, target.calls(20, probe=True))
    target.n += 200
    for _ in range(8):
        learnt(history, target.calls(1, wait_ms=900.0, tenant="bolt"))
        learnt(history, target.calls(1, probe=True))
    slow = target.call(wait_ms=900.0, tenant="acme")
    claim = next(c for c in JUDGE.claims(slow, history) if c.cause is Cause.NEIGHBOUR)
    assert claim.refuted == "probes were not slow then"


def test_without_a_region_header_neighbour_and_route_are_not_told_apart() -> None:
    target = Target(18)
    history = History()
    learnt(history, target.calls(300, region=""))
    learnt(history, target.calls(10, region="", wait_ms=900.0))
    verdict = judged(target.call(region="", wait_ms=900.0), history)
    assert verdict.cause is Cause.CANNOT_TELL
    assert any("neither region nor fingerprint" in missing for missing in verdict.missing)


def test_longer_output_is_refuted_by_a_slower_pace() -> None:
    target = Target(19)
    history = target.history()
    assert judged(target.call(output_tokens=300), history).cause is Cause.LONGER_OUTPUT
    slower = target.call(output_tokens=120, token_ms=40.0)
    claim = next(c for c in JUDGE.claims(slower, history) if c.cause is Cause.LONGER_OUTPUT)
    assert claim.refuted == "time a token is up"
    assert judged(slower, history).cause is Cause.SLOW_DECODE


def test_hidden_reasoning_is_longer_output_and_no_slow_first_token() -> None:
    target = Target(20)
    history = target.history()
    seen = target.call(output_tokens=60, wait_ms=200 * 15.0)
    verdict = judged(without(seen, output_tokens=260, reasoning_tokens=200), history)
    assert verdict.cause is Cause.LONGER_OUTPUT


def test_slow_decode_slow_reader_and_tool_wait() -> None:
    target = Target(21)
    history = History()
    learnt(history, (target.call(tool_ms=300.0 if n % 3 == 0 else 0.0) for n in range(400)))
    assert judged(target.call(token_ms=40.0), history).cause is Cause.SLOW_DECODE
    read = judged(target.call(blocked_ms=1_500.0), history)
    assert read.cause is Cause.SLOW_READER
    assert read.explained_ms == pytest.approx(1_500.0, rel=0.05)
    assert judged(target.call(tool_ms=3_000.0), history).cause is Cause.TOOL_WAIT
    assert not judged(target.call(tool_ms=310.0), history).slow


def test_a_slow_decode_beside_others_is_a_neighbours() -> None:
    target = Target(22, hosted=False)
    history = target.history()
    verdict = judged(target.call(token_ms=40.0, engine_running=40), history)
    assert verdict.cause is Cause.NEIGHBOUR
    assert verdict.second is Cause.SLOW_DECODE


# --- nobody can tell


def test_too_few_calls_are_no_measure() -> None:
    target = Target(23)
    history = target.history(12)
    verdict = JUDGE.verdict(target.call(queue_ms=5_000.0), history)
    assert verdict.cause is Cause.CANNOT_TELL
    assert not verdict.slow
    assert verdict.missing == ("12 calls of this target are known, 30 are needed",)
    assert JUDGE.verdict(target.call(provider="other"), history).n_baseline == 0


def test_two_causes_of_one_size_are_not_told_apart() -> None:
    target = Target(24)
    history = target.history()
    verdict = judged(target.call(queue_ms=800.0, blocked_ms=800.0), history)
    assert verdict.cause is Cause.CANNOT_TELL
    lead = judged(target.call(queue_ms=2_400.0, blocked_ms=600.0), history)
    assert (lead.cause, lead.second) == (Cause.OWN_QUEUE, Cause.SLOW_READER)


def test_an_excess_without_any_evidence_is_not_named() -> None:
    target = Target(25)
    history = target.history()
    verdict = judged(target.call(wait_ms=2_000.0), history)
    assert verdict.slow
    assert verdict.cause is Cause.CANNOT_TELL
    assert verdict.explained_ms == 0.0
    assert verdict.missing


def test_verdicts_change_nothing_and_are_the_same_again() -> None:
    target = Target(26)
    history = target.history()
    seen = target.call(region="us", wait_ms=500.0)
    assert JUDGE.verdict(seen, history) == JUDGE.verdict(seen, history)
    assert JUDGE.verdict(seen, history) == JUDGE.verdict(seen, Target(26).history())


@pytest.mark.parametrize("hosted", [True, False])
def test_clean_calls_are_not_named(hosted: bool) -> None:
    named = slow = total = 0
    for seed in range(3):
        target, watch = Target(100 + seed, hosted, noise=0.15), Watch()
        rng = random.Random(seed)
        for number in range(500):
            more = {} if hosted else {"engine_waiting": rng.choice((0, 0, 0, 1)), "engine_running": rng.randrange(6)}
            for told in watch.learn(target.call(**more)):
                if number > 100:
                    total += 1
                    slow += told.verdict.slow
                    named += told.verdict.slow and told.verdict.cause is not Cause.CANNOT_TELL
    assert total > 800
    assert named < 0.02 * total
    assert slow < 0.05 * total


def test_a_history_is_bounded() -> None:
    settings = Settings(targets_max=3, tenants_max=2, lanes_max=2, places_max=2)
    history, target = History(settings), Target(27)
    for number in range(300):
        history.learn(target.call(provider=f"p{number % 5}", tenant=f"t{number % 7}", region=f"r{number % 11}"))
    assert len(history.targets) == 3
    for each in history.targets.values():
        assert len(each.tenants) <= 2
        assert len(each.lanes) <= 2
        assert len(each.place_of) <= 2


def test_a_change_that_lasts_becomes_the_usual() -> None:
    settings = Settings(settle_ms=300_000.0, settle_calls=60)
    history, target, judge = History(settings), Target(28), Judge(settings)
    learnt_with(history, target, 300, 0.0)
    learnt_with(history, target, 20, 700.0)
    assert judge.verdict(target.call(wait_ms=700.0), history).slow
    learnt_with(history, target, int(600_000 / STEP_MS), 700.0)
    assert not judge.verdict(target.call(wait_ms=700.0), history).slow


def learnt_with(history: History, target: Target, count: int, wait_ms: float) -> None:
    learnt(history, target.calls(count, wait_ms=wait_ms))


def test_any_call_has_a_verdict() -> None:
    target = Target(29)
    history = target.history()
    odd = (
        {"first_token_ms": None, "last_token_ms": None},
        {"input_tokens": None, "cached_tokens": None, "output_tokens": None},
        {"duration_ms": 0.0},
        {"duration_ms": float("nan")},
        {"input_tokens": 0, "cached_tokens": 5, "output_tokens": 0},
        {"attempts_ms": 1e12, "queue_ms": -5.0},
        {"output_tokens": 3, "reasoning_tokens": 900},
    )
    for fields in odd:
        seen = msgspec.structs.replace(target.call(), **fields)
        JUDGE.verdict(seen, history)
        history.learn(seen)
    assert not judged(target.call(), history).slow
