"""Whose time a call's is: Headway's, its queue's, the model's or the caller's. What Headway owns is what nobody else took."""

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from headway.calls.hops.times import times_of
from headway.facts.hops import clean_traces
from headway.facts.model import AttemptFact, CallFact
from headway.facts.own_spans import own_rows
from headway.facts.span_rows import to_seen
from headway.facts.token_times import encode
from headway.kernel.instants import MonoNs

AT = 1_764_000_000_000


def call(duration_ms: float, *, received_ms: float = 0.0) -> CallFact:
    return CallFact(
        call="c1", started_wall_ms=AT, duration_ms=duration_ms, gateway="g", feature="chat", received_ms=received_ms, attempts=1
    )


def attempt(start_ms: float, duration_ms: float, number: int = 1, **more: object) -> AttemptFact:
    return AttemptFact(
        call="c1",
        attempt=number,
        started_wall_ms=AT,
        gateway="g",
        upstream_model="m",
        start_ms=start_ms,
        duration_ms=duration_ms,
        **more,  # type: ignore[arg-type]
    )


def owned(whole: CallFact, attempts: Iterable[AttemptFact]) -> dict[str, int]:
    """Microseconds by hop."""
    (trace,) = clean_traces(to_seen(row) for row in own_rows([whole, *attempts])).traces
    assert not trace.repairs
    found = times_of(trace)
    assert sum(found.by_hop.values()) == found.duration_us
    return found.by_hop


def test_headway_owns_what_is_before_the_sending_and_behind_the_last_byte() -> None:
    found = owned(call(100.0), [attempt(2.0, 95.0, sent_ms=3.0, answered_ms=90.0)])
    assert found == {"headway": 2_000 + 3_000 + 8_000, "model m": 87_000}


def test_a_socket_that_had_to_be_opened_is_no_work_of_headway() -> None:
    found = owned(call(100.0), [attempt(2.0, 95.0, connect_ms=30.0, sent_ms=31.0, answered_ms=90.0)])
    assert found == {"headway": 10_000, "model m": 90_000}


def test_the_queue_is_a_hop_of_its_own() -> None:
    found = owned(call(100.0), [attempt(2.0, 95.0, queue_ms=40.0, sent_ms=41.0, answered_ms=90.0)])
    assert found == {"headway": 11_000, "headway queue": 40_000, "model m": 49_000}


def test_a_caller_that_still_sends_and_one_that_does_not_read_own_their_time() -> None:
    blocked = encode(MonoNs(0), [50_000_000, 60_000_000, 80_000_000, 94_000_000])  # the first while the answer still came
    found = owned(call(150.0, received_ms=40.0), [attempt(42.0, 105.0, sent_ms=1.0, answered_ms=85.0, blocked_times=blocked)])
    assert found == {"caller": 40_000 + 9_000, "model m": 84_000, "headway": 2_000 + 1_000 + 14_000}


def test_an_answer_that_never_ended_is_the_models_to_the_end_of_the_attempt() -> None:
    assert owned(call(100.0), [attempt(2.0, 98.0, sent_ms=3.0)]) == {"headway": 5_000, "model m": 95_000}
    assert owned(call(100.0), [attempt(2.0, 90.0)]) == {"headway": 10_000, "model m": 90_000}, "it could not be reached"


def test_blocked_writes_in_an_unknown_layout_are_nobodys() -> None:
    found = owned(call(100.0), [attempt(0.0, 100.0, sent_ms=0.0, answered_ms=90.0, blocked_times=b"\xffxyz")])
    assert found == {"headway": 10_000, "model m": 90_000}


instants = st.lists(st.integers(0, 5_000_000), min_size=6, max_size=6).map(sorted)


@given(instants, st.integers(0, 5_000_000))
def test_whatever_the_instants_parts_are_the_call(times: list[int], received: int) -> None:
    """Instants may be out of order or beyond the call: nothing is counted twice, nothing lost."""
    start, queue, sent, answered, ended, end = (time / 1000 for time in times)
    fact = attempt(start, ended - start, queue_ms=queue - start, sent_ms=sent - start, answered_ms=answered - start)
    found = owned(call(end, received_ms=min(received / 1000, start)), [fact])
    assert found.get("model m", 0) == round((answered - sent) * 1000)
    assert sum(found.values()) == times[-1]
