"""The engine of the measured runs: what it takes and when, and that nobody is ever left without memory."""

from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st

from headway.lab.fair.engine import ADAPTER_TOKENS, DECODES_BETWEEN, PREFILL_TOKENS_MAX, Asked, BatchEngine, Step
from headway.lab.fair.steptime import BatchStepTime

TIME = BatchStepTime(
    name="test", source="made up", decode_ms=30.0, context_ms=0.001, prefill_ms=10.0, token_ms=0.4, further_token_ms=0.2
)


def engine_of(requests: list[tuple[int, int]], pool: int = 10_000, typical: tuple[int, int] = (256, 256)) -> BatchEngine:
    """All wait from the start; each is of a client of its own number modulo three."""
    waiting = deque(Asked(n, n % 3, 0, prompt, output) for n, (prompt, output) in enumerate(requests))
    return BatchEngine(TIME, lambda now: waiting.popleft() if waiting else None, typical, pool_tokens=pool)


def run(engine: BatchEngine) -> list[Step]:
    steps: list[Step] = []
    now = 0
    while (step := engine.step(now)) is not None:
        assert step.ended_at > now
        now = step.ended_at
        steps.append(step)
    return steps


def test_eleven_prompts_of_256_are_prefilled_together_and_twelve_never() -> None:
    assert PREFILL_TOKENS_MAX // 256 == 11
    step = engine_of([(256, 100)] * 30).step(0)
    assert step is not None
    assert [asked.number for asked in step.first] == list(range(11))
    assert step.ended_at == round(1e6 * (10.0 + 0.4 * 256 + 0.2 * 2560))


def test_the_next_batch_is_looked_for_after_ten_decodes() -> None:
    engine = engine_of([(256, 100)] * 12)
    steps = [engine.step(n) for n in range(DECODES_BETWEEN + 2)]
    assert [len(step.first) for step in steps if step is not None] == [11, *[0] * DECODES_BETWEEN, 1]


def test_where_nobody_fits_it_is_looked_for_again_after_each_step() -> None:
    engine = engine_of([(100, 15), (100, 100)], pool=200 + 15 + 2 * ADAPTER_TOKENS, typical=(100, 100))
    prefilled = [n for n, step in enumerate(run(engine)) if step.first]
    assert prefilled == [0, 15]  # after the 14 decodes of the first, not at the twentieth


def test_an_answer_of_one_token_ends_with_its_prefill() -> None:
    (step,) = run(engine_of([(50, 1)]))
    assert (len(step.first), len(step.finished)) == (1, 1)


def test_a_decode_costs_by_the_context_of_all_that_run() -> None:
    engine = engine_of([(100, 10), (200, 10)])
    engine.step(0)
    assert engine.context == 302  # prompts and a first token each
    step = engine.step(0)
    assert step is not None
    assert step.ended_at == round(1e6 * (30.0 + 0.302))


@settings(max_examples=60, deadline=None)
@given(
    requests=st.lists(st.tuples(st.integers(1, 400), st.integers(1, 300)), min_size=1, max_size=40),
    pool=st.integers(1_000, 4_000),
)
def test_everybody_ends_once_and_the_pool_always_holds_them(requests: list[tuple[int, int]], pool: int) -> None:
    engine = engine_of(requests, pool=pool)
    ended: list[int] = []
    first: list[int] = []
    now = 0
    while (step := engine.step(now)) is not None:
        now = step.ended_at
        first += [asked.number for asked in step.first]
        ended += [asked.number for asked in step.finished]
        clients = {asked.client for asked, _ in engine.produced()}
        assert engine.context + ADAPTER_TOKENS * len(clients) <= pool
        assert all(1 <= tokens < asked.output for asked, tokens in engine.produced())
    assert first == list(range(len(requests)))  # nobody passes the head
    assert sorted(ended) == first
    assert engine.running == engine.context == 0


@settings(max_examples=60, deadline=None)
@given(requests=st.lists(st.tuples(st.integers(1, 200), st.integers(2, 120)), min_size=2, max_size=12))
def test_what_would_have_fitted_is_not_left_out(requests: list[tuple[int, int]]) -> None:
    """The bound is not only safe: a batch that peaks well below the pool is taken whole."""
    total = sum(prompt + output for prompt, output in requests)
    engine = engine_of(requests, pool=total + 3 * ADAPTER_TOKENS + 2 * len(requests), typical=(1, 2))
    step = engine.step(0)
    assert step is not None
    assert len(step.first) == len(requests)
