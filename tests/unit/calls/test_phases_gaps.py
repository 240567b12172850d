"""Gaps of an answer: exact ranks, stalls by the running median, and blocked writes in none of them."""

from itertools import pairwise
from statistics import median_low

from hypothesis import given, settings
from hypothesis import strategies as st

from headway.calls.phases.gaps import gaps_between, gaps_of
from headway.calls.phases.model import Seen


def test_ranks_and_counts() -> None:
    reads = [100.0 + 10.0 * i for i in range(101)]
    reads[51:] = [at + 90.0 for at in reads[51:]]
    gaps = gaps_between(reads, 100.0, reads[-1])
    assert gaps.n == 100
    assert (gaps.quantile_ms(0.5), gaps.quantile_ms(0.99), gaps.longest_ms) == (10.0, 10.0, 100.0)
    assert gaps.over_medians(5) == 1
    assert gaps.over_medians(10) == 0
    assert gaps.stalls == (), "100 ms is no stall: under 250 ms"


def test_reads_before_the_first_token_and_after_the_last_do_not_count() -> None:
    reads = [10.0, 500.0, 520.0, 540.0, 2000.0]
    gaps = gaps_between(reads, 500.0, 540.0)
    assert gaps.sorted_ms == (20.0, 20.0)
    assert gaps_between(reads, 500.04, 539.96).n == 2, "token times are rounded"


def test_a_slow_model_does_not_stall_but_a_pause_of_it_does() -> None:
    slow = [300.0 * i for i in range(10)]
    assert gaps_between(slow, 0.0, slow[-1]).stalls == ()
    late = [0.0, *(900.0 + 20.0 * i for i in range(9))]
    assert [stall.gap_ms for stall in gaps_between(late, 0.0, late[-1]).stalls] == [900.0], "the first gap is judged by all others"
    paused = [20.0 * i for i in range(10)]
    paused += [paused[-1] + 260.0 + 20.0 * i for i in range(10)]
    (stall,) = gaps_between(paused, 0.0, paused[-1]).stalls
    assert (stall.at_ms, stall.gap_ms, stall.excess_ms) == (180.0, 260.0, 240.0)


def test_a_blocked_write_is_in_no_median_and_what_remains_of_the_gap_may_be_a_stall() -> None:
    reads = [0.0, 20.0, 40.0, 1040.0, 1060.0]
    gaps = gaps_between(reads, 0.0, 1060.0, [(41.0, 1039.0)])
    assert gaps.sorted_ms == (20.0, 20.0, 20.0)
    assert (gaps.blocked, gaps.stalls) == (1, ())
    gaps = gaps_between(reads, 0.0, 1060.0, [(41.0, 141.0)])
    assert [stall.gap_ms for stall in gaps.stalls] == [900.0]


def test_without_token_times_there_is_nothing_to_say() -> None:
    seen = Seen(call="c", at_ms=0, duration_ms=9.0, first_token_ms=1.0)
    assert gaps_of(seen).n == 0
    assert gaps_of(seen).quantile_ms(0.5) is None
    assert gaps_of(seen).over_medians(5) == 0


@given(st.lists(st.floats(min_value=0.0, max_value=5_000.0, allow_nan=False), min_size=1, max_size=60))
@settings(max_examples=100, deadline=None)
def test_every_gap_is_counted_once_and_stalls_are_judged_by_those_before(lengths: list[float]) -> None:
    reads = [0.0]
    for length in lengths:
        reads.append(reads[-1] + length)
    true = [b - a for a, b in pairwise(reads)]
    gaps = gaps_between(reads, 0.0, reads[-1])
    assert list(gaps.sorted_ms) == sorted(true)
    wanted = [g for i, g in enumerate(true) if g > max(250.0, 5 * (median_low(true[:i]) if i >= 4 else median_low(true)))]
    assert [stall.gap_ms for stall in gaps.stalls] == wanted
