"""Cleaning: spans that lie, one defect at a time, and all of them at once."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.calls.hops.clean import Cleaned, clean
from headway.calls.hops.critical_path import exclusive_us, walk
from headway.calls.hops.model import HopSpan
from headway.calls.hops.tree import MISSING
from headway.kernel.limits import HOP_TRACE_US_MAX

DAY = 1_700_000_000_000_000


def span(name: str, parent: str, start: int, end: int, hop: str = "", **more: object) -> HopSpan:
    return HopSpan(trace="t", span=name, parent=parent, hop=hop or name, start_us=DAY + start, duration_us=end - start, **more)  # type: ignore[arg-type]


def counted(cleaned: Cleaned) -> dict[str, int]:
    return {repair.reason: repair.count for repair in cleaned.repairs}


def bounds(cleaned: Cleaned) -> dict[str, tuple[int, int, bool]]:
    return {s.span: (s.start_us - DAY, s.end_us - DAY, s.awaited) for s in cleaned.traces[0].spans}


def test_a_sound_trace_is_left_as_it_is() -> None:
    spans = [span("b", "a", 10, 20), span("a", "", 0, 100), span("c", "b", 10, 20)]
    cleaned = clean(spans)
    assert cleaned.traces[0].spans == (spans[1], spans[0], spans[2])
    assert (cleaned.repairs, cleaned.spans_in, cleaned.spans_kept, cleaned.spans_refused) == ((), 3, 3, 0)
    assert cleaned.traces[0].request_type == "a"


def test_a_clock_that_runs_ahead_is_moved_by_the_overlap_with_all_below() -> None:
    cleaned = clean([span("a", "", 0, 100), span("b", "a", 50, 105), span("c", "b", 60, 105), span("d", "c", 90, 104, hop="c")])
    assert counted(cleaned) == {"skew_shifted": 1}
    assert bounds(cleaned) == {"a": (0, 100, True), "b": (45, 100, True), "c": (55, 100, True), "d": (85, 99, True)}


def test_a_clock_behind_is_moved_however_far_and_one_ahead_only_so_far() -> None:
    cleaned = clean([span("a", "", 0, 100_000), span("b", "a", -90_000, -10_000), span("x", "a", 80_000, 90_000)])
    assert (counted(cleaned), bounds(cleaned)["b"]) == ({"skew_shifted": 1}, (0, 80_000, True))
    late = clean([span("a", "", 0, 100_000), span("b", "a", 70_000, 130_000)])
    assert (counted(late), bounds(late)["b"]) == ({"clipped_to_parent": 1}, (70_000, 100_000, True))


def test_a_call_that_was_given_up_on_is_cut_and_what_lies_below_it_too() -> None:
    cleaned = clean([span("a", "", 0, 100), span("b", "a", 10, 500), span("c", "b", 20, 450), span("d", "c", 300, 400)])
    assert bounds(cleaned)["b"] == (10, 100, True)
    assert bounds(cleaned)["c"] == (20, 100, True)
    assert bounds(cleaned)["d"] == (300, 400, False)
    assert counted(cleaned) == {"clipped_to_parent": 2}
    assert exclusive_us(cleaned.traces[0]) == {"a": 10, "b": 10, "c": 80}


@pytest.mark.parametrize(
    "child",
    [
        span("b", "a", 110, 150),
        span("b", "a", 90, 190, hop="a"),
        span("b", "a", 50, 160, awaited=False),
    ],
    ids=["begun after its parent", "mostly outside", "told so"],
)
def test_work_that_nobody_waits_for_is_on_no_path_and_keeps_its_times(child: HopSpan) -> None:
    cleaned = clean([span("a", "", 0, 100), child, span("z", "a", 0, 5)])
    assert counted(cleaned) == {"outlives_parent": 1}
    assert bounds(cleaned)["b"] == (child.start_us - DAY, child.end_us - DAY, False)
    assert exclusive_us(cleaned.traces[0]) == {"a": 95, "z": 5}


def test_missing_parents_and_more_roots_hang_on_the_root() -> None:
    cleaned = clean([span("a", "", 0, 100), span("b", "gone", 10, 20), span("c", "b", 12, 18), span("r", "", 30, 40)])
    assert counted(cleaned) == {"parent_missing": 1, "root_extra": 1}
    assert {s.span: s.parent for s in cleaned.traces[0].spans} == {"a": "", "b": "a", "c": "b", "r": "a"}


def test_without_a_root_the_only_orphan_is_it_and_several_get_one_that_covers_them() -> None:
    one = clean([span("b", "gone", 0, 10), span("c", "b", 2, 4)])
    assert [s.span for s in one.traces[0].spans] == ["b", "c"]
    several = clean([span("b", "gone", 0, 10), span("c", "gone", 20, 50)])
    root = several.traces[0].spans[0]
    assert (root.hop, root.span, root.start_us, root.duration_us) == (MISSING, "gone", DAY, 50)
    assert counted(several) == {"parent_missing": 2, "root_missing": 1}
    assert (several.spans_in, several.spans_added, several.spans_kept) == (2, 1, 3)
    assert exclusive_us(several.traces[0]) == {"b": 10, MISSING: 10, "c": 30}


def test_cycles_are_cut_once_each() -> None:
    ring = [
        span("a", "c", 0, 100),
        span("b", "a", 10, 90),
        span("c", "b", 20, 80),
        span("own", "own", 5, 6),
        span("d", "c", 30, 40),
    ]
    cleaned = clean(ring)
    assert counted(cleaned)["cycle_cut"] == 2
    assert cleaned.traces[0].duration_us == sum(part.duration_us for part in walk(cleaned.traces[0]))
    assert {s.span: s.parent for s in cleaned.traces[0].spans if s.hop != MISSING} | {"a": "", "own": ""} == {
        "a": "",
        "own": "",
        "b": "a",
        "c": "b",
        "d": "c",
    }


def test_what_cannot_be_used_is_refused_and_counted() -> None:
    spans = [
        span("a", "", 0, 100),
        span("a", "", 0, 90),
        span("b", "a", 10, 5),
        span("", "a", 1, 2),
        HopSpan(trace="", span="x", hop="x", start_us=0, duration_us=1),
    ]
    cleaned = clean(spans)
    assert counted(cleaned) == {"duplicate_id": 1, "id_malformed": 2, "negative_duration": 1}
    assert (cleaned.spans_in, cleaned.spans_kept, cleaned.spans_refused) == (5, 2, 3)
    assert bounds(cleaned) == {"a": (0, 100, True), "b": (10, 10, True)}


def test_a_trace_over_the_bound_is_refused_whole() -> None:
    cleaned = clean([span("a", "", 0, 9), span("b", "a", 1, 2), span("c", "a", 3, 4)], spans_max=2)
    assert (cleaned.traces, counted(cleaned), cleaned.spans_refused) == ((), {"trace_too_large": 3}, 3)


def test_times_of_1970_and_2099_are_moved_into_the_trace() -> None:
    old = HopSpan(trace="t", span="old", parent="a", hop="old", start_us=5, duration_us=7)
    far = HopSpan(trace="t", span="far", parent="a", hop="far", start_us=4_080_000_000_000_000, duration_us=9)
    below = span("below", "old", 3, 6)
    cleaned = clean([span("a", "", 0, 100), old, far, below])
    assert counted(cleaned)["time_out_of_range"] == 3
    assert bounds(cleaned)["old"] == (0, 7, True)
    assert bounds(cleaned)["far"] == (0, 9, True)
    whole = clean([HopSpan(trace="t", span="a", hop="a", start_us=0, duration_us=10)])
    assert (counted(whole), whole.traces[0].duration_us) == ({"time_out_of_range": 1}, 10)
    endless = clean([span("a", "", 0, 10 * HOP_TRACE_US_MAX)])
    assert (counted(endless), endless.traces[0].duration_us) == ({"time_out_of_range": 1}, HOP_TRACE_US_MAX)


def test_a_stray_root_of_1970_does_not_become_the_root() -> None:
    stray = HopSpan(trace="t", span="stray", hop="stray", start_us=1, duration_us=1)
    assert clean([stray, span("a", "", 0, 100)]).traces[0].spans[0].span == "a"


def test_tries_after_a_failure_are_counted_and_kept() -> None:
    tries = [
        span("1", "a", 0, 10, hop="db", error=True),
        span("2", "a", 15, 25, hop="db", error=True),
        span("3", "a", 30, 40, hop="db"),
    ]
    cleaned = clean([span("a", "", 0, 100), *tries, span("4", "a", 5, 8, hop="db"), span("5", "a", 50, 60, hop="other")])
    assert counted(cleaned) == {"retry_sibling": 2}
    assert exclusive_us(cleaned.traces[0])["db"] == 30


def test_a_hundred_thousand_deep_and_wide() -> None:
    deep = [span(str(i), str(i - 1) if i else "", i, 200_000 - i) for i in range(50_000)]
    wide = [
        HopSpan(trace="w", span=str(i), parent="0" if i else "", hop=f"h{i % 9}", start_us=DAY + i, duration_us=1 if i else 60_000)
        for i in range(50_000)
    ]
    cleaned = clean([*deep, *wide])
    assert cleaned.repairs == ()
    for trace in cleaned.traces:
        assert sum(part.duration_us for part in walk(trace)) == trace.duration_us


ids = st.sampled_from(["", "a", "b", "c", "d", "e"])
times = st.one_of(st.integers(-50, 50), st.sampled_from([0, -DAY, 10**15, 2**62]))
messes = st.lists(
    st.builds(
        lambda trace, name, parent, hop, start, duration, awaited, error: HopSpan(
            trace=trace, span=name, parent=parent, hop=hop, start_us=DAY + start, duration_us=duration, awaited=awaited, error=error
        ),
        st.sampled_from(["", "t", "u"]),
        ids,
        ids,
        st.sampled_from(["x", "y", "z"]),
        times,
        times,
        st.booleans(),
        st.booleans(),
    ),
    max_size=14,
)


@settings(max_examples=300, deadline=None)
@given(messes, st.integers(0, 9))
def test_whatever_comes_nothing_is_lost_sums_are_exact_and_order_does_not_matter(spans: list[HopSpan], seed: int) -> None:
    cleaned = clean(spans)
    assert cleaned.spans_in == len(spans)
    assert cleaned.spans_in + cleaned.spans_added == cleaned.spans_kept + cleaned.spans_refused
    for trace in cleaned.traces:
        by_id = {s.span: s for s in trace.spans}
        assert len(by_id) == len(trace.spans)
        parts = walk(trace)
        at = trace.spans[0].start_us
        for part in parts:
            assert part.start_us == at
            assert part.duration_us > 0
            at += part.duration_us
        assert at == trace.spans[0].end_us
        for s in trace.spans[1:]:
            parent = by_id[s.parent]
            if s.awaited:
                assert parent.start_us <= s.start_us <= s.end_us <= parent.end_us
    shuffled = list(spans)
    random.Random(seed).shuffle(shuffled)
    assert clean(shuffled) == cleaned
