"""What prefills cost: recovered from prefills of a known engine, with noise and without."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.calls.admission.model import EndpointAdmission, Pacing
from headway.calls.admission.policy import AdmissionPolicy
from headway.calls.admission.prefill_cost import Cost, PrefillCost
from headway.calls.conversation import DialectName, Usage
from headway.calls.model import Admit, Arrived, Chunk, Closed, Outcome
from headway.kernel.instants import NS_PER_S, MonoNs, after_ms


def taught(cost: Cost, sizes: list[tuple[int, int]], noise: float = 0.0, seed: int = 1) -> PrefillCost:
    rng = random.Random(seed)
    learnt = PrefillCost()
    for n, context in sizes:
        learnt.saw(n, context, (cost.fixed_ms + cost.span_ms(context, context + n)) * (1 + noise * (2 * rng.random() - 1)))
    return learnt


GROWING = [
    (24, 0),
    (64, 20),
    (110, 80),
    (110, 180),
    (80, 280),
    (70, 360),
    (64, 430),
    (60, 500),
    (50, 1_000),
    (45, 2_000),
    (40, 2_800),
]


@given(st.floats(0.1, 500), st.floats(0.01, 20), st.floats(0, 0.01))
@settings(max_examples=100, deadline=None)
def test_an_engine_that_keeps_to_the_form_is_recovered(fixed: float, token: float, pair: float) -> None:
    true = Cost(fixed_ms=fixed, token_ms=token, pair_ms=pair)
    found = taught(true, GROWING).fit()
    assert found is not None
    assert found.whole_ms(3_000) == pytest.approx(true.whole_ms(3_000), rel=0.01)


def test_noise_moves_the_whole_prompt_little() -> None:
    true = Cost(fixed_ms=60, token_ms=2.2, pair_ms=0.0015)
    for seed in range(20):
        found = taught(true, GROWING * 3, noise=0.25, seed=seed).fit()
        assert found is not None
        assert found.whole_ms(3_000) == pytest.approx(true.whole_ms(3_000), rel=0.35)


def test_nothing_is_said_before_enough_was_seen_or_when_all_are_alike() -> None:
    true = Cost(fixed_ms=60, token_ms=2, pair_ms=0)
    assert PrefillCost().fit() is None
    assert taught(true, GROWING[:3]).fit() is None
    assert taught(true, [(32, 100)] * 50).fit() is None


def test_no_part_is_negative() -> None:
    learnt = PrefillCost()
    for n, took in ((10, 5.0), (100, 100.0), (200, 260.0), (400, 900.0), (50, 30.0)):
        learnt.saw(n, 0, took)
    found = learnt.fit()
    assert found is not None
    assert min(found.fixed_ms, found.token_ms, found.pair_ms) >= 0


def test_what_teaches_nothing_is_left_out() -> None:
    learnt = taught(Cost(fixed_ms=10, token_ms=1, pair_ms=0), GROWING)
    before = learnt.fit()
    learnt.saw(1, 500, 9_000.0)
    learnt.saw(500, -1, 9_000.0)
    learnt.saw(500, 0, 0.0)
    assert learnt.fit() == before


def test_it_forgets_an_engine_that_has_changed() -> None:
    learnt = taught(Cost(fixed_ms=10, token_ms=1, pair_ms=0), GROWING * 9)
    for _ in range(9):
        for n, context in GROWING:
            learnt.saw(n, context, 10 + 4.0 * n)
    found = learnt.fit()
    assert found is not None
    assert found.whole_ms(1_000) == pytest.approx(4_010, rel=0.02)


def test_long_prompts_that_went_whole_teach_what_the_next_would_take() -> None:
    shared = EndpointAdmission(pacing=Pacing(on=True))
    policy = AdmissionPolicy({"e": shared}, {}, default=shared)
    for number, tokens in enumerate((3_000, 5_000, 8_000, 12_000)):
        now, call = MonoNs(number * 600 * NS_PER_S), f"call{number}"
        told = Arrived(
            call=call,
            endpoint="e",
            tenant="t",
            klass="interactive",
            feature="f",
            dialect=DialectName.OPENAI_CHAT,
            prompt_tokens_estimate=tokens,
            prompt_tokens_error=0.1,
            output_tokens_max=8,
            deadline_remaining_ms=None,
        )
        assert any(isinstance(effect, Admit) for effect in policy.receive(told, now)), "nobody is about: it goes whole"
        read = after_ms(now, 100 + 2.0 * tokens)
        policy.receive(Chunk(call=call, events=1, bytes=10), read)
        usage = Usage(input_tokens=tokens, output_tokens=8, cached_tokens=0)
        policy.receive(Closed(call=call, endpoint="e", outcome=Outcome.DONE, usage=usage), after_ms(read, 500))
    found = policy._place("e").pacing.cost.fit()
    assert found is not None
    assert found.whole_ms(10_000) == pytest.approx(20_100, rel=0.01)
