"""Who stalled whom, on cases whose answers are computed by hand; the time alone; the bands."""

import random

import pytest
from admission_world import FLOOR_MS, MS_PER_TOKEN, Wish, played, wishes
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.calls.admission.alone import POINTS_MAX, QUIET_MIN, Alone, alone_by_place, line
from headway.calls.admission.bands import BANDS, band_of, band_words
from headway.calls.admission.spans import CallSpan, Stretch, Stretches
from headway.calls.admission.stalls import (
    OTHERS,
    UNEXPLAINED,
    Cell,
    Matrix,
    StepSpan,
    Work,
    beside,
    folded,
    matrix_of,
    stalls_estimated,
    stalls_exact,
)

LINE = Alone(endpoint="e", model="m", floor_ms=20, ms_per_token=0.1, tokens_max=30_000, spread_ms=0, n=50, quiet=True)
LINES = {("e", "m"): LINE}


def span(call: str, arrived: float, admitted: float | None, first: float | None, ended: float, **more: object) -> CallSpan:
    fields: dict[str, object] = {"tenant": call[0], "uncached_tokens": 100, "output_tokens": 10, **more}
    return CallSpan(
        call=call, endpoint="e", model="m", arrived_ms=arrived, admitted_ms=admitted, first_token_ms=first, ended_ms=ended, **fields
    )  # type: ignore[arg-type]


def cells(matrix: Matrix) -> dict[tuple[str, str], float]:
    return {(c.victim, c.aggressor): round(c.stall_ms, 6) for c in matrix.cells}


# --- exact


def test_a_step_costs_each_one_in_it_what_went_to_others() -> None:
    step = StepSpan(ms=10, work=(Work("g1", 7, True), Work("s1", 1, True), Work("s2", 1, False)), waiting=("w1",))
    groups = {"g1": "giant", "s1": "small", "s2": "small", "w1": "small"}
    found = stalls_exact([step], groups)
    # Smalls: s1 and s2 lose 7 each to the giant and 1 to each other; w1 loses 7 and 2. The giant loses 2.
    assert cells(found) == {("small", "giant"): 21.0, ("small", "small"): 4.0, ("giant", "small"): 2.0}
    assert found.exact
    cell = found.cell("small", "giant")
    assert cell is not None
    assert (cell.queue_ms, cell.first_token_ms, cell.gap_ms) == (7.0, 7.0, 7.0)
    assert found.victims == {"giant": 1, "small": 3}


def test_alone_in_a_step_nobody_loses_anything_and_overhead_is_nobodys() -> None:
    assert stalls_exact([StepSpan(ms=10, work=(Work("a", 8, True),))], {"a": "x"}).cells == ()


@given(st.lists(st.lists(st.tuples(st.integers(0, 5), st.floats(0.1, 20), st.booleans()), max_size=5), max_size=8))
@settings(max_examples=60, deadline=None)
def test_groups_do_not_change_what_is_lost_in_all(raw: list[list[tuple[int, float, bool]]]) -> None:
    steps = []
    for each in raw:
        unique = {call: (ms, prefill) for call, ms, prefill in each}
        work = tuple(Work(f"c{call}", ms, prefill) for call, (ms, prefill) in unique.items())
        steps.append(
            StepSpan(ms=sum(w.ms for w in work), work=work, waiting=tuple(f"c{i}" for i in range(6) if i not in unique)[:2])
        )
    calls = {f"c{i}": f"c{i}" for i in range(6)}
    by_call = stalls_exact(steps, calls, "call")
    by_half = stalls_exact(steps, {call: "odd" if int(call[1]) % 2 else "even" for call in calls})
    assert sum(c.stall_ms for c in by_half.cells) == pytest.approx(sum(c.stall_ms for c in by_call.cells))
    lost_by_hand = sum(
        work.ms
        for step in steps
        for victim in [*(w.call for w in step.work), *step.waiting]
        for work in step.work
        if work.call != victim
    )
    assert sum(c.stall_ms for c in by_call.cells) == pytest.approx(lost_by_hand)
    assert all(c.victim != c.aggressor for c in by_call.cells)


# --- estimated


def test_a_small_call_behind_a_giants_prefill() -> None:
    giant = span("g", 0, 0, 2_820, 4_000, uncached_tokens=28_000)
    small = span("s", 1_000, 1_000, 1_030 + 1_790, 3_500)
    found = beside(stalls_estimated([giant, small], LINES), "s")
    # It took 1,820 ms where 30 are right; the giant's tokens cost 2,800 of its 2,820 ms, evenly: 1,820 / 2,820 of them fall into the window.
    assert found["g"] == pytest.approx(1_790, rel=0.02)
    assert sum(found.values()) == pytest.approx(1_790)
    assert beside(stalls_estimated([giant, small], LINES), "g").get("s", 0) <= 10


def test_nobody_is_blamed_for_more_than_its_tokens_cost() -> None:
    other = span("o", 0, 0, 500, 900, uncached_tokens=100)
    victim = span("v", 0, 0, 2_030, 3_000)
    found = beside(stalls_estimated([other, victim], LINES), "v")
    assert found["o"] == pytest.approx(10)
    assert found[UNEXPLAINED] == pytest.approx(1_990)


def test_a_wait_in_the_queue_is_laid_to_those_that_ran_by_tokens_and_time() -> None:
    waiting = span("w", 100, 300, 330, 400)
    long = span("a", 0, 0, 50, 1_000, uncached_tokens=300, output_tokens=0)
    short = span("b", 0, 0, 50, 200, uncached_tokens=300, output_tokens=0)
    found = beside(stalls_estimated([waiting, long, short], {}), "w")
    assert found == pytest.approx({"a": 200 * 2 / 3, "b": 200 / 3})


def test_a_wait_while_nobody_ran_is_laid_to_nobody() -> None:
    assert beside(stalls_estimated([span("w", 0, 100, 130, 200)], LINES), "w") == {UNEXPLAINED: 100}


def test_a_call_that_left_the_queue_lost_its_whole_wait() -> None:
    gone = span("x", 0, None, None, 700)
    other = span("o", 0, 0, 30, 2_000)
    assert beside(stalls_estimated([gone, other], LINES), "x") == {"o": 700}


def test_pieces_are_their_parents_doing_and_nobodys_victims() -> None:
    giant = span("g", 0, 0, None, 5_000, uncached_tokens=0)
    pieces = [
        span(f"p{i}", i * 200, i * 200 + 50, i * 200 + 150, i * 200 + 150, parent_call="g", uncached_tokens=1_000, tenant="g")
        for i in range(5)
    ]
    small = span("s", 200, 200, 350, 500)
    found = beside(stalls_estimated([giant, *pieces, small], LINES), "s")
    assert found["g"] == pytest.approx(100)
    assert set(found) == {"g", UNEXPLAINED}
    victims = {stall.victim.call for stall in stalls_estimated([giant, *pieces, small], LINES)}
    assert not victims & {piece.call for piece in pieces}
    assert all(stall.aggressor is None or stall.aggressor.owner != "g" for stall in stalls_estimated([giant, *pieces], LINES))


def test_a_paced_giant_lost_only_the_time_in_which_none_of_its_pieces_ran() -> None:
    giant = span("g", 0, 1_000, 1_100, 2_000, uncached_tokens=0)
    pieces = [span(f"p{i}", i * 250, i * 250, i * 250 + 200, i * 250 + 200, parent_call="g", tenant="g") for i in range(4)]
    small = span("s", 0, 0, 30, 2_000)
    assert beside(stalls_estimated([giant, *pieces, small], {}), "g") == pytest.approx({"s": 200})


def test_a_pause_inside_an_answer_is_laid_to_the_prompt_read_meanwhile() -> None:
    reads = tuple(30.0 + 15 * i for i in range(10)) + tuple(30.0 + 15 * 9 + 1_000 + 15 * i for i in range(1, 10))
    victim = span("v", 0, 0, 30, reads[-1] + 1, reads_ms=reads)
    giant = span("g", 160, 160, 1_180, 1_500, uncached_tokens=10_000)
    matrix = matrix_of(stalls_estimated([victim, giant], LINES), "tenant", lambda s: s.tenant, {"v": 1, "g": 1})
    cell = matrix.cell("v", "g")
    assert cell is not None
    assert cell.gap_ms == pytest.approx(1_000, rel=0.05)
    assert cell.queue_ms == cell.first_token_ms == 0


def test_other_endpoints_are_other_worlds() -> None:
    giant = CallSpan(
        call="g", endpoint="other", model="m", tenant="g", arrived_ms=0, admitted_ms=0, first_token_ms=900, ended_ms=999
    )
    assert set(beside(stalls_estimated([giant, span("s", 0, 500, 530, 600)], LINES), "s")) == {UNEXPLAINED}


def test_noise_is_no_stall() -> None:
    noisy = {
        ("e", "m"): Alone(endpoint="e", model="m", floor_ms=20, ms_per_token=0.1, tokens_max=400, spread_ms=5, n=50, quiet=True)
    }
    assert list(stalls_estimated([span("v", 0, 0, 44, 50)], noisy)) == []
    assert beside(stalls_estimated([span("v", 0, 0, 46, 50)], noisy), "v") == {UNEXPLAINED: pytest.approx(16)}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_against_an_engine_whose_truth_is_known(seed: int) -> None:
    from headway.facts.admission import span_of

    world = played(wishes(seed, 10, 1.5, [60.0 * i + 20 for i in range(9)], ["acme", "globex"]), 1_790_000_000_000)
    rows = [
        {
            "call": call.call,
            "endpoint": tried.endpoint,
            "upstream_model": tried.upstream_model,
            "tenant": call.tenant,
            "klass": call.klass,
            "origin": "client",
            "parent_call": "",
            "outcome": "done",
            "uncached": call.input_tokens,
            "whole": call.input_tokens,
            "output_tokens": call.output_tokens,
            "token_times": tried.token_times,
            "tried_wall_ms": tried.started_wall_ms,
            "tried_queue_ms": tried.queue_ms,
            "tried_first_token_ms": tried.first_token_ms,
            "tried_duration_ms": tried.duration_ms,
            "tried_status": 200,
        }
        for call, tried in zip(world.calls, world.facts[1::2], strict=True)
    ]
    spans = [span_of(row) for row in rows]
    alone = alone_by_place(spans)[("vllm-0", "qwen3-32b")]
    assert alone.quiet
    assert alone.ms_per_token == pytest.approx(MS_PER_TOKEN, rel=0.02)
    assert alone.floor_ms == pytest.approx(FLOOR_MS, rel=0.05)
    matrix = matrix_of(
        stalls_estimated(spans, {alone.endpoint and ("vllm-0", "qwen3-32b"): alone}), "tenant", lambda s: s.tenant, {}
    )
    for victim in ("acme", "globex"):
        truth = world.stalled_ms[(victim, "reports")]
        cell = matrix.cell(victim, "reports")
        assert cell is not None
        assert cell.first_token_ms == pytest.approx(truth, rel=0.15), "who waits behind a giant lost that to the giant"
    small = matrix.cell("acme", "globex")
    assert small is None or small.stall_ms < 0.1 * world.stalled_ms[("acme", "reports")]


# --- the matrix


def test_folding_keeps_every_millisecond() -> None:
    matrix = Matrix(
        by="tenant",
        exact=False,
        method="",
        cells=tuple(
            Cell(victim=v, aggressor=a, queue_ms=1, first_token_ms=i)
            for i, (v, a) in enumerate([("a", "b"), ("b", "c"), ("c", "a"), ("c", UNEXPLAINED), ("d", "d")])
        ),
        victims={"a": 1, "b": 2, "c": 3, "d": 4},
    )
    small = folded(matrix, ["a", "b"])
    assert sum(c.stall_ms for c in small.cells) == sum(c.stall_ms for c in matrix.cells)
    assert {c.victim for c in small.cells} | {c.aggressor for c in small.cells} == {"a", "b", OTHERS, UNEXPLAINED}
    assert small.victims == {"a": 1, "b": 2, OTHERS: 7}
    assert matrix.names()[0] == "c"
    assert UNEXPLAINED not in matrix.names()


# --- the time alone


def test_a_third_of_wild_points_does_not_move_the_line() -> None:
    rng = random.Random(4)
    points = [(x, 20 + 0.1 * x + rng.uniform(-1, 1)) for x in (rng.uniform(50, 4_000) for _ in range(200))]
    points += [(x, 20 + 0.1 * x + rng.uniform(500, 5_000)) for x in (rng.uniform(50, 4_000) for _ in range(80))]
    found = line(("e", "m"), points)
    assert found.ms_per_token == pytest.approx(0.1, rel=0.1)
    assert found.floor_ms == pytest.approx(20, abs=10)
    assert found.n == 280
    assert len(points) < POINTS_MAX


def test_thinning_keeps_the_ends_and_the_line() -> None:
    found = line(("e", "m"), [(float(x), 5 + 0.5 * x) for x in range(5_000)])
    assert (found.floor_ms, found.ms_per_token, found.tokens_max, found.n) == pytest.approx((5, 0.5, 4_999, 5_000))


def test_one_size_is_a_level_line_that_says_nothing_far_away() -> None:
    found = line(("e", "m"), [(100.0, 30.0)] * 10)
    assert (found.floor_ms, found.ms_per_token) == (30.0, 0.0)
    assert found.expected_ms(200) == 30.0
    assert found.expected_ms(201) is None
    assert found.expected_ms(None) is None


def test_quiet_calls_are_those_beside_which_nothing_ran() -> None:
    apart = [span(f"q{i}", i * 1_000, i * 1_000, i * 1_000 + 40, i * 1_000 + 100) for i in range(QUIET_MIN)]
    crowd = [span(f"c{i}", 50_000, 50_000, 52_000, 53_000) for i in range(20)]
    assert alone_by_place([*apart, *crowd])[("e", "m")].floor_ms == pytest.approx(40)
    busy = alone_by_place([*apart[1:], *crowd])[("e", "m")]
    assert not busy.quiet, "too few were alone, and it says so"
    assert alone_by_place(apart[1:]) == {}


# --- bands and stretches


def test_bands_meet_without_a_hole() -> None:
    assert [band_of(n) for n in (0, 511, 512, 2_047, 2_048, 8_191, 8_192, 10**9, None)] == [
        "short",
        "short",
        "medium",
        "medium",
        "long",
        "long",
        "giant",
        "giant",
        "unknown",
    ]
    assert band_words("medium") == "512 to 2,047 uncached prompt tokens"
    assert band_words("giant") == "8,192 and more uncached prompt tokens"
    assert [b.tokens_from for b in BANDS] == sorted(b.tokens_from for b in BANDS)


@given(st.lists(st.tuples(st.floats(0, 1_000), st.floats(0, 5_000)), max_size=40), st.floats(0, 2_000), st.floats(0.01, 2_000))
@settings(max_examples=80, deadline=None)
def test_stretches_find_what_meets_a_window(raw: list[tuple[float, float]], start: float, length: float) -> None:
    made = [Stretch(a, a + b, i) for i, (a, b) in enumerate(raw)]
    end = start + length
    wanted = {s.place for s in made if s.end > s.start and s.start < end and s.end > start}
    assert {s.place for s in Stretches(made).meeting(start, end)} == wanted


def test_a_wish_of_the_world_is_what_it_says() -> None:
    world = played([Wish(0, "a", "x", 1_000, 5), Wish(10, "b", "x", 100, 5)], 1_790_000_000_000)
    assert world.calls[0].first_token_ms == pytest.approx(120)
    assert world.calls[1].first_token_ms == pytest.approx(90 + 10 + 20)
    assert world.stalled_ms == {("b", "a"): 90.0}
