"""A call's parts add up to it to the last bit, whatever its clocks say; each part is what its name says."""

import math
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from headway.calls.phases.model import Phase, Seen, Split
from headway.calls.phases.split import split

MS = st.floats(min_value=0.0, max_value=1e7, allow_nan=False)
ANY = st.one_of(MS, st.sampled_from([-1.0, math.nan, math.inf, -math.inf, 1e300, 5e-324]))


def intervals(instants: list[float]) -> tuple[tuple[float, float], ...]:
    ordered = sorted(instants)
    return tuple(zip(ordered[::2], ordered[1::2], strict=False))


SEEN = st.builds(
    Seen,
    call=st.just("c"),
    at_ms=st.just(0),
    duration_ms=ANY,
    queue_ms=ANY,
    connect_ms=st.none() | ANY,
    sent_ms=ANY,
    first_token_ms=st.none() | ANY,
    last_token_ms=st.none() | ANY,
    token_ms=st.lists(MS, max_size=20).map(lambda found: tuple(sorted(found))),
    blocked_ms=ANY,
    blocked_at_ms=st.lists(MS, max_size=8).map(intervals),
    tool_ms=ANY,
    attempts_ms=ANY,
    received_ms=ANY,
    stalled_ms=st.none() | ANY,
)


@given(seen=SEEN, seed=st.integers(0, 1000))
@settings(max_examples=300, deadline=None)
def test_ph1_the_parts_add_up_to_the_call_exactly(seen: Seen, seed: int) -> None:
    found = split(seen)
    assert set(found.parts_ms) == {phase.value for phase in Phase}
    values = list(found.parts_ms.values())
    assert all(value >= 0.0 for value in values)
    random.Random(seed).shuffle(values)
    total = 0.0
    for value in values:
        total += value
    assert total == found.duration_ms
    if 0.0 <= seen.duration_ms < 1e7 and seen.tool_ms == 0.0:
        assert found.duration_ms == seen.duration_ms


def parts(**facts: object) -> dict[str, float]:
    found: Split = split(Seen(call="c", at_ms=0, **facts))  # type: ignore[arg-type]
    assert sum(found.parts_ms.values()) == found.duration_ms
    return {name: ms for name, ms in found.parts_ms.items() if ms}


def test_an_ordinary_stream() -> None:
    assert parts(
        duration_ms=1000.0,
        queue_ms=100.0,
        connect_ms=50.0,
        sent_ms=160.0,
        first_token_ms=400.0,
        last_token_ms=900.0,
        token_ms=(390.0, 400.0, 500.0, 600.0, 700.0, 800.0, 900.0, 950.0),
    ) == {"queue": 110.0, "connect": 50.0, "provider": 240.0, "decode": 500.0, "close": 100.0}


def test_earlier_attempts_are_theirs_and_not_the_providers() -> None:
    found = parts(duration_ms=1000.0, queue_ms=10.0, attempts_ms=500.0, sent_ms=512.0, first_token_ms=700.0, last_token_ms=1000.0)
    assert found == {"attempts": 500.0, "queue": 12.0, "provider": 188.0, "decode": 300.0}


def test_a_stall_is_what_goes_beyond_an_ordinary_gap() -> None:
    reads = (100.0, 120.0, 140.0, 160.0, 660.0, 680.0)
    found = parts(duration_ms=700.0, sent_ms=0.0, first_token_ms=100.0, last_token_ms=680.0, token_ms=reads)
    assert found["stall"] == 480.0
    assert found["decode"] == 100.0


def test_a_blocked_write_is_the_readers_and_no_stall() -> None:
    reads = (100.0, 120.0, 140.0, 160.0, 660.0, 680.0)
    facts = {"duration_ms": 700.0, "first_token_ms": 100.0, "last_token_ms": 680.0, "token_ms": reads}
    found = parts(**facts, blocked_ms=499.0, blocked_at_ms=((160.5, 659.5),))
    assert found == {"provider": 100.0, "decode": 81.0, "reader": 499.0, "close": 20.0}
    only_the_sum = parts(duration_ms=700.0, first_token_ms=100.0, last_token_ms=680.0, blocked_ms=590.0)
    assert only_the_sum == {"provider": 100.0, "reader": 590.0, "close": 10.0}


def test_a_request_that_is_still_coming_is_its_callers_time() -> None:
    facts = {"duration_ms": 500.0, "queue_ms": 40.0, "first_token_ms": 400.0, "last_token_ms": 500.0}
    assert parts(**facts, received_ms=250.0, sent_ms=300.0) == {"reader": 250.0, "queue": 50.0, "provider": 100.0, "decode": 100.0}
    late = parts(**facts, received_ms=999.0, sent_ms=300.0, connect_ms=20.0)
    assert (late["connect"], late["queue"], late["reader"]) == (20.0, 40.0, 240.0)


def test_the_tool_lies_before_the_call() -> None:
    assert parts(duration_ms=300.0, tool_ms=2040.0, first_token_ms=200.0, last_token_ms=300.0) == {
        "tool": 2040.0,
        "provider": 200.0,
        "decode": 100.0,
    }


def test_without_a_first_token_all_after_the_sending_is_the_providers() -> None:
    assert parts(duration_ms=300.0, sent_ms=20.0) == {"queue": 20.0, "provider": 280.0}
    assert parts(duration_ms=300.0, sent_ms=300.0, queue_ms=290.0) == {"queue": 300.0}


def test_four_calls_of_the_same_length_look_different() -> None:
    base = {"duration_ms": 2340.0}
    queued = parts(**base, queue_ms=1800.0, sent_ms=1800.0, first_token_ms=2000.0, last_token_ms=2340.0)
    prefill = parts(**base, first_token_ms=2000.0, last_token_ms=2340.0)
    decode = parts(**base, first_token_ms=200.0, last_token_ms=2340.0)
    slow = parts(**base, first_token_ms=200.0, last_token_ms=2340.0, blocked_ms=1800.0, blocked_at_ms=((300.0, 2100.0),))
    assert [max(each, key=each.__getitem__) for each in (queued, prefill, decode, slow)] == [
        "queue",
        "provider",
        "decode",
        "reader",
    ]


def test_stalls_are_known_without_the_times_of_reads() -> None:
    facts = {"duration_ms": 700.0, "first_token_ms": 100.0, "last_token_ms": 680.0}
    assert parts(**facts, stalled_ms=480.0)["stall"] == 480.0
    assert parts(**facts, stalled_ms=9_999.0)["stall"] == 580.0
    assert "stall" not in parts(**facts, stalled_ms=480.0, token_ms=(100.0, 680.0))
