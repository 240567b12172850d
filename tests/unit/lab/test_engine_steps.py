"""The loop of the simulated engine, step by step, on worked examples."""

import pytest

from headway.kernel.instants import NS_PER_MS
from headway.lab.engine.engine import ContinuousEngine, ParallelEngine
from headway.lab.engine.model import EngineEvent, EngineRequest, EngineSettings, StepWork
from headway.lab.engine.settings import EngineRefusal


class TenMs:
    """Every step lasts 10 ms; what was computed is noted."""

    name = "ten"

    def __init__(self) -> None:
        self.works: list[StepWork] = []

    def step_ms(self, work: StepWork) -> float:
        self.works.append(work)
        return 10.0

    def ranks_ms(self, works) -> float:
        self.works.extend(works)
        return 10.0


def engine(*, token_events: bool = False, **settings) -> ContinuousEngine:
    given = {"step_tokens_max": 100, "sequences_max": 8, "block_tokens": 10, "prefix_cache": False} | settings
    return ContinuousEngine(EngineSettings(**given), TenMs(), token_events=token_events)


def ask(id: str, prompt: int, output: int = 3, **more) -> EngineRequest:
    return EngineRequest(id=id, prompt_tokens=prompt, output_tokens=output, **more)


def chunks(built: ContinuousEngine) -> list[tuple[tuple[int, int], ...]]:
    return [work.chunks for work in built.time.works]


def run(built, *requests: EngineRequest, at: int = 0) -> list[EngineEvent]:
    for request in requests:
        built.submit(request, at)
    events = []
    while built.busy:
        at, more = built.step(at)
        events += more
    return events


def told(events: list[EngineEvent]) -> list[tuple[str, str, int]]:
    """Kind, id, and the step that ended with it."""
    return [(event.kind, event.id, event.at // (10 * NS_PER_MS)) for event in events]


def test_first_token_ends_the_prefill_and_each_step_brings_one_more() -> None:
    built = engine(token_events=True)
    events = run(built, ask("a", 30, 3))
    assert told(events) == [("first", "a", 1), ("token", "a", 2), ("token", "a", 3), ("finished", "a", 3)]
    assert [event.output_tokens for event in events] == [1, 2, 3, 3]
    assert [(w.decodes, w.decode_context, w.sequences) for w in built.time.works] == [(0, 0, 1), (1, 31, 1), (1, 32, 1)]


def test_token_events_come_only_when_asked_for() -> None:
    assert told(run(engine(), ask("a", 30, 5))) == [("first", "a", 1), ("finished", "a", 5)]


def test_an_answer_of_one_token_is_first_and_finished_at_once() -> None:
    assert told(run(engine(), ask("a", 30, 1))) == [("first", "a", 1), ("finished", "a", 1)]


def test_a_long_prompt_is_cut_by_the_steps_budget() -> None:
    built = engine()
    run(built, ask("a", 250, 1))
    assert chunks(built) == [((100, 0),), ((100, 100),), ((50, 200),)]


def test_decodes_go_first_and_the_prompt_gets_what_is_left() -> None:
    built = engine()
    built.submit(ask("a", 10, 10), 0)
    now, _ = built.step(0)
    built.submit(ask("b", 300, 1), now)
    built.step(now)
    assert built.last_work.decodes == 1
    assert built.last_work.chunks == ((99, 0),)


def test_several_prompts_share_a_step_and_the_rest_is_cut() -> None:
    built = engine()
    run(built, ask("a", 60, 1), ask("b", 60, 1))
    assert chunks(built) == [((60, 0), (40, 0)), ((20, 40),)]


def test_the_long_threshold_leaves_room_for_the_small() -> None:
    built = engine(long_prefill_tokens_max=20)
    events = run(built, ask("giant", 100, 1), ask("small", 15, 1))
    assert told(events)[0] == ("first", "small", 1)
    assert chunks(built)[0] == ((20, 0), (15, 0))


def test_only_so_many_long_prompts_at_once_and_others_pass_them() -> None:
    built = engine(long_prefill_tokens_max=20, long_prefills_max=1)
    events = run(built, ask("g1", 60, 1), ask("g2", 60, 1), ask("small", 15, 1))
    assert chunks(built)[0] == ((20, 0), (15, 0))
    assert told(events) == [
        ("first", "small", 1),
        ("finished", "small", 1),
        ("first", "g1", 3),
        ("finished", "g1", 3),
        ("first", "g2", 6),
        ("finished", "g2", 6),
    ]


def test_without_the_limit_long_prompts_prefill_side_by_side() -> None:
    built = engine(long_prefill_tokens_max=20)
    run(built, ask("g1", 60, 1), ask("g2", 60, 1))
    assert chunks(built)[0] == ((20, 0), (20, 0))


def test_a_full_engine_makes_the_rest_wait() -> None:
    built = engine(sequences_max=1)
    events = run(built, ask("a", 10, 2), ask("b", 10, 1))
    assert told(events) == [("first", "a", 1), ("finished", "a", 2), ("first", "b", 3), ("finished", "b", 3)]


def test_a_head_that_does_not_fit_stops_the_queue_unless_it_may_be_passed() -> None:
    requests = [ask("a", 60, 4), ask("big", 60, 1), ask("small", 10, 1)]
    stops = run(engine(kv_blocks=8), *requests)
    passes = run(engine(kv_blocks=8, skip_blocked_head=True, reserve_prompt=True), *requests)
    assert [event.id for event in stops if event.kind == "first"] == ["a", "big", "small"]
    assert [event.id for event in passes if event.kind == "first"] == ["a", "small", "big"]


def test_a_first_chunk_is_enough_unless_the_whole_prompt_must_fit() -> None:
    first_chunk = engine(kv_blocks=8, step_tokens_max=80)
    whole = engine(kv_blocks=8, step_tokens_max=80, reserve_prompt=True)
    for built in (first_chunk, whole):
        built.submit(ask("a", 60, 3), 0)
        built.submit(ask("b", 40, 1), 0)
        built.step(0)
    assert first_chunk.last_work.chunks == ((60, 0), (20, 0))
    assert whole.last_work.chunks == ((60, 0),)


def test_memory_runs_out_and_the_tail_starts_again_at_all_its_tokens() -> None:
    built = engine(kv_blocks=4)
    events = run(built, ask("a", 18, 12), ask("b", 18, 12))
    assert ("preempted", "b", 4) in told(events)
    assert [event.id for event in events if event.kind == "finished"] == ["a", "b"]
    assert [event.id for event in events if event.kind == "first"] == ["a", "b"]
    preempted = next(event for event in events if event.kind == "preempted")
    assert (18 + preempted.output_tokens, 0) in [chunk for step in chunks(built) for chunk in step]
    assert built.preemptions == 1
    assert built.scheduler.tokens_produced == 24


def test_with_priorities_the_worst_is_thrown_out_and_the_best_waits_least() -> None:
    built = engine(kv_blocks=4, priority=True)
    events = run(built, ask("worst", 18, 12, priority=5), ask("best", 18, 12, priority=1))
    assert [event.id for event in events if event.kind == "preempted"] == ["worst"]
    assert [event.id for event in events if event.kind == "finished"] == ["best", "worst"]
    order = run(
        engine(sequences_max=1, priority=True),
        ask("c", 10, 1, priority=3),
        ask("a", 10, 1, priority=1),
        ask("b", 10, 1, priority=1),
    )
    assert [event.id for event in order if event.kind == "first"] == ["a", "b", "c"]


def test_a_preempted_request_goes_before_those_that_wait() -> None:
    built = engine(kv_blocks=4, sequences_max=2)
    events = run(built, ask("a", 18, 12), ask("b", 18, 12), ask("c", 18, 1))
    assert built.preemptions == 1
    assert [event.id for event in events if event.kind == "finished"] == ["a", "b", "c"]


def test_a_known_prefix_is_not_computed_again_but_counts_as_context() -> None:
    built = engine(prefix_cache=True)
    first = run(built, ask("a", 45, 1, blocks=(1, 2, 3, 4)))
    second = run(built, ask("b", 45, 1, blocks=(1, 2, 3, 9)))
    assert [e.cached_tokens for e in (first[0], second[0])] == [0, 30]
    assert chunks(built) == [((45, 0),), ((15, 30),)]
    assert (built.scheduler.prompt_tokens_queried, built.scheduler.prompt_tokens_cached) == (90, 30)


def test_the_last_block_is_never_taken_whole_from_the_cache() -> None:
    built = engine(prefix_cache=True)
    run(built, ask("a", 40, 1, blocks=(1, 2, 3, 4)))
    (first, _) = run(built, ask("b", 40, 1, blocks=(1, 2, 3, 4)))
    assert first.cached_tokens == 30


def test_without_the_cache_nothing_is_known() -> None:
    built = engine()
    run(built, ask("a", 45, 1, blocks=(1, 2, 3, 4)))
    (first, _) = run(built, ask("b", 45, 1, blocks=(1, 2, 3, 4)))
    assert first.cached_tokens == 0


def test_a_preempted_request_finds_its_own_blocks_again() -> None:
    forgetful, mindful = engine(kv_blocks=6), engine(kv_blocks=6, prefix_cache=True)
    for built in (forgetful, mindful):
        run(built, ask("a", 28, 12), ask("b", 28, 12))
    assert forgetful.preemptions == mindful.preemptions == 1
    assert mindful.scheduler.tokens_prefilled < forgetful.scheduler.tokens_prefilled


def test_whole_prefill_holds_the_decodes_up() -> None:
    built = engine(chunked_prefill=False)
    built.submit(ask("a", 50, 5), 0)
    now, _ = built.step(0)
    built.submit(ask("b", 300, 2), now)
    now, events = built.step(now)
    assert (built.last_work.decodes, built.last_work.chunks) == (0, ((300, 0),))
    assert told(events) == [("first", "b", 2)]
    built.step(now)
    assert built.last_work.decodes == 2


def test_whole_prefills_wait_for_so_many_decode_steps() -> None:
    built = engine(chunked_prefill=False, decode_steps_between_prefills=3)
    built.submit(ask("a", 50, 9), 0)
    now, _ = built.step(0)
    built.submit(ask("b", 50, 1), now)
    kinds = []
    for _ in range(5):
        now, _ = built.step(now)
        kinds.append("prefill" if built.last_work.chunks else "decode")
    assert kinds == ["decode", "decode", "decode", "prefill", "decode"]


def test_reserved_output_preempts_nobody() -> None:
    requests = [ask(f"r{i}", 10 + i, 30) for i in range(20)]
    tight = engine(kv_blocks=200, block_tokens=1, chunked_prefill=False, reserve_output=True)
    loose = engine(kv_blocks=200, block_tokens=1, chunked_prefill=False)
    run(tight, *requests)
    run(loose, *requests)
    assert tight.preemptions == 0
    assert loose.preemptions > 0


def test_a_request_that_needs_all_memory_runs_even_with_reserved_output() -> None:
    built = engine(kv_blocks=4, reserve_output=True)
    assert told(run(built, ask("a", 30, 11)))[-1] == ("finished", "a", 11)


def test_planned_ahead_an_arrival_waits_for_the_step_that_is_planned() -> None:
    now_seen, ahead = engine(), engine(plan_ahead=True)
    for built in (now_seen, ahead):
        built.submit(ask("a", 10, 9), 0)
        now, _ = built.step(0)
        built.submit(ask("b", 10, 1), now)
        built.step(now)
    assert len(now_seen.last_work.chunks) == 1
    assert len(ahead.last_work.chunks) == 0
    ahead.step(20 * NS_PER_MS)
    assert len(ahead.last_work.chunks) == 1


def test_planned_ahead_a_freed_place_is_seen_a_step_later() -> None:
    events = run(engine(plan_ahead=True, sequences_max=1), ask("a", 10, 2), ask("b", 10, 1))
    assert told(events)[-1] == ("finished", "b", 3), "with nothing else to compute nobody waits"
    events = run(engine(plan_ahead=True, sequences_max=2), ask("a", 10, 2), ask("c", 10, 9), ask("b", 10, 1))
    assert ("first", "b", 4) in told(events)


def test_an_idle_engine_stands_still() -> None:
    assert engine().step(77) == (77, [])


def test_aborts_free_everything_wherever_the_request_is() -> None:
    built = engine(sequences_max=2, kv_blocks=50)
    for name in ("decoding", "prefilling", "waiting"):
        built.submit(ask(name, 10 if name == "decoding" else 150, 50), 0)
    built.step(0)
    for name in ("waiting", "prefilling", "decoding", "unknown"):
        built.abort(name)
    assert (built.busy, built.waiting, built.running, built.scheduler.pool.used) == (False, 0, 0, 0)


def test_produced_tells_tokens_at_any_time() -> None:
    built = engine()
    built.submit(ask("a", 150, 5), 0)
    seen, now = [], 0
    for _ in range(4):
        seen.append(built.produced("a"))
        now, _ = built.step(now)
    assert seen == [0, 0, 1, 2]
    with pytest.raises(KeyError):
        built.produced("b")


def test_ranks_share_the_load_and_step_together() -> None:
    built = ParallelEngine(EngineSettings(sequences_max=1), TenMs(), 2)
    events = run(built, ask("a", 10, 3), ask("b", 10, 3), ask("c", 10, 1))
    assert told(events)[:2] == [("first", "a", 1), ("first", "b", 1)]
    assert ("first", "c", 4) in told(events)
    assert (built.running, built.waiting, built.busy) == (0, 0, False)
    built.submit(ask("d", 10), 0)
    built.abort("d")
    assert not built.busy


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sequences_max": 0}, "at least one sequence"),
        ({"block_tokens": 0}, "one token a block"),
        ({"step_tokens_max": 4}, "cannot decode 8 sequences"),
        ({"step_tokens_max": 0, "chunked_prefill": False}, "step_tokens_max"),
        ({"long_prefill_tokens_max": 0}, "long_prefill_tokens_max"),
        ({"long_prefills_max": 0, "long_prefill_tokens_max": 5}, "long_prefills_max"),
        ({"long_prefills_max": 1}, "says what is long"),
        ({"kv_blocks": 0}, "kv_blocks"),
        ({"decode_steps_between_prefills": -1}, "not negative"),
    ],
)
def test_settings_that_make_no_engine_are_refused(settings, words: str) -> None:
    with pytest.raises(EngineRefusal, match=words):
        engine(**settings)


def test_requests_that_can_never_run_are_refused() -> None:
    built = engine(kv_blocks=3)
    with pytest.raises(EngineRefusal, match="needs 4 blocks, the engine has 3"):
        built.submit(ask("a", 30, 2), 0)
    built.submit(ask("a", 30, 1), 0)
    with pytest.raises(EngineRefusal, match="in the engine already"):
        built.submit(ask("a", 5), 0)
    for prompt, output in ((0, 1), (1, 0)):
        with pytest.raises(EngineRefusal, match="at least one token"):
            built.submit(ask("b", prompt, output), 0)


def test_tokens_of_a_thrown_out_decode_go_to_the_prompts_of_that_step() -> None:
    built = engine(step_tokens_max=10, block_tokens=1, kv_blocks=20, priority=True, long_prefill_tokens_max=6)
    built.submit(ask("bad", 5, 9, priority=9), 0)
    built.step(0)
    built.submit(ask("good", 20, 1, priority=0), 0)
    built.submit(ask("fair", 20, 1, priority=1), 0)
    built.step(0)
    assert (built.last_work.decodes, built.last_work.chunks) == (1, ((6, 0), (3, 0)))
    built.step(0)
    assert (built.last_work.decodes, built.last_work.chunks) == (0, ((6, 6), (4, 3)))
    assert built.preemptions == 1
