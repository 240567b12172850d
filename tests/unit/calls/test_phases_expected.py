"""The line behind what is expected, change points and shares against what is known of them."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.calls.phases.cusum import Cusum
from headway.calls.phases.drift import chi_square_p, drift
from headway.calls.phases.expected import Line, Point, fit
from headway.calls.phases.medians import rank_sum_p, usual_of
from headway.calls.phases.series import Series
from headway.calls.phases.settings import Settings


def points(rng: random.Random, n: int, *, curve: float = 0.0, wild: float = 0.0, own: bool = False) -> list[Point]:
    made = []
    for _ in range(n):
        uncached = rng.lognormvariate(6, 0.8)
        waiting, beside = (rng.choice((0, 0, 1, 4)), rng.choice((0, 500, 4_000))) if own else (0, 0)
        took = (200 + 0.3 * uncached + curve * uncached**2 + 40 * waiting + 0.1 * beside) * rng.lognormvariate(0, 0.05)
        made.append(Point(took + (5_000 if rng.random() < wild else 0), uncached, waiting, beside))
    return made


def test_the_line_is_found_though_a_quarter_of_the_calls_are_wild() -> None:
    line = fit(points(random.Random(1), 400, wild=0.25))
    assert line.start_ms == pytest.approx(200, rel=0.1)
    assert line.token_ms == pytest.approx(0.3, rel=0.1)
    assert line.at(1_000) == pytest.approx(500, rel=0.05)


def test_a_curve_is_taken_where_there_is_one_and_not_where_there_is_none() -> None:
    assert fit(points(random.Random(2), 400)).curve == 0.0
    bent = fit(points(random.Random(2), 400, curve=3e-4))
    assert bent.curve == pytest.approx(3e-4, rel=0.25)


def test_an_engine_of_ones_own_has_terms_for_its_load() -> None:
    line = fit(points(random.Random(3), 500, own=True))
    assert line.waiting_ms == pytest.approx(40, rel=0.25)
    assert line.beside_ms == pytest.approx(0.1, rel=0.25)


def test_more_tokens_are_never_expected_to_be_faster() -> None:
    rng = random.Random(4)
    falling = [Point(max(500 - 0.1 * u, 50), u) for u in (rng.uniform(0, 3_000) for _ in range(100))]
    assert fit(falling).token_ms == 0.0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.builds(
            Point,
            st.floats(0, 1e7),
            st.none() | st.floats(0, 1e6),
            st.floats(0, 1e3),
            st.floats(0, 1e6),
        ),
        max_size=40,
    )
)
def test_any_calls_have_a_line_that_only_rises(made: list[Point]) -> None:
    line = fit(made)
    assert line.n == len(made)
    assert min(line.token_ms, line.curve, line.waiting_ms, line.beside_ms) >= 0
    sizes = [line.at(u) for u in (0, 10, 1_000, 100_000)]
    assert sizes == sorted(sizes)


def test_an_uncounted_prompt_is_taken_for_the_median_one() -> None:
    line = Line(start_ms=100, token_ms=1, uncached_median=50)
    assert line.at(None) == 150
    assert fit([Point(100.0), Point(120.0), Point(5_000.0)]).at(None) == 120


# --- change points


def test_a_rise_is_dated_where_it_began() -> None:
    rng, cusum = random.Random(5), Cusum(Settings())
    alarms = []
    for number in range(300):
        alarm = cusum.receive(rng.gauss(2.0 if number >= 200 else 0.0, 1.0), number * 2_000)
        if alarm is not None and number >= 200:
            alarms.append(alarm)
    assert alarms[0].rose
    assert abs(alarms[0].stamp_index - 201) <= 6
    assert alarms[0].index - 200 <= 12
    assert cusum.episode is not None


def test_false_alarms_are_as_rare_as_promised() -> None:
    rng, cusum, alarms = random.Random(6), Cusum(Settings()), 0
    for number in range(20_000):
        alarms += cusum.receive(rng.gauss(0, 1), number * 2_000) is not None
    assert 20 <= alarms <= 90, "once in about 465"
    busy, many = Cusum(Settings()), 0
    for number in range(20_000):
        many += busy.receive(rng.gauss(0, 1), number * 100) is not None
    assert many <= 5


def test_one_wild_call_is_no_change_and_the_way_back_ends_one() -> None:
    cusum = Cusum(Settings())
    assert cusum.receive(1e9, 0) is None
    for number in range(1, 20):
        cusum.receive(3.0, number * 2_000)
    assert cusum.episode is not None
    assert cusum.episode.rose
    for number in range(20, 40):
        cusum.receive(-3.0, number * 2_000)
        if cusum.episode is None:
            break
    assert cusum.episode is None


# --- what is usual


def test_unusual_values_do_not_become_the_usual_until_they_have_lasted() -> None:
    rng, series = random.Random(7), Series(Settings(settle_ms=100_000, settle_calls=50), 1.0)
    for number in range(200):
        series.add(number * 1_000, rng.gauss(100, 5))
    for number in range(200, 260):
        series.add(number * 1_000, rng.gauss(300, 5))
    assert series.median() == pytest.approx(100, abs=3)
    assert series.odd(300.0)
    for number in range(260, 700):
        series.add(number * 1_000, rng.gauss(300, 5))
    assert series.median() == pytest.approx(300, abs=3)


def test_a_long_tail_is_usual_where_it_is_usual() -> None:
    rng = random.Random(8)
    tail = usual_of([rng.expovariate(0.01) for _ in range(2_000)])
    assert sum(tail.units(rng.expovariate(0.01)) > 2.5 for _ in range(2_000)) < 150


# --- ranks and shares


def test_ranks_and_chi_square_against_their_tables() -> None:
    assert rank_sum_p([5, 6, 7], [1, 2, 3, 4] * 25) < 0.01
    assert rank_sum_p([1, 2, 3], [1, 2, 3]) == pytest.approx(0.5, abs=0.15)
    assert rank_sum_p([], [1.0]) == 1.0
    for value, degrees, p in ((3.841, 1, 0.05), (5.991, 2, 0.05), (18.307, 10, 0.05), (10.828, 1, 0.001), (29.588, 10, 0.001)):
        assert chi_square_p(value, degrees) == pytest.approx(p, rel=1e-3)


def test_shares_that_moved_are_found_and_thirty_calls_a_side_are_needed() -> None:
    before, after = ["eu"] * 95 + ["us"] * 5, ["eu"] * 60 + ["us"] * 40
    found = drift("region", before, after)
    assert found.p is not None
    assert found.p < 1e-6
    assert found.g == pytest.approx(38.96, abs=0.02)
    assert found.values[0][0] in ("eu", "us")
    assert drift("region", before[:29], after).p is None
    same = drift("region", before, list(reversed(before)))
    assert same.p == pytest.approx(1.0)
