"""Identifiers: their layout, their order, what is refused."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.kernel.ids import IdSource, id_wall_ms, new_id
from headway.kernel.instants import WallMs
from headway.kernel.traces import span_id, trace_id, trace_of

INSTANTS = st.integers(0, 2**48 - 1).map(WallMs)


@given(INSTANTS, st.binary(min_size=10, max_size=10))
def test_an_id_tells_its_instant(now: WallMs, entropy: bytes) -> None:
    made = new_id("call", now, entropy)
    assert re.fullmatch(r"call_[0-9a-hjkmnp-tv-z]{26}", made)
    assert id_wall_ms(made) == now


@given(INSTANTS, INSTANTS, st.binary(min_size=10, max_size=10), st.binary(min_size=10, max_size=10))
def test_later_ids_sort_behind(one: WallMs, other: WallMs, first: bytes, second: bytes) -> None:
    if one < other:
        assert new_id("call", one, first) < new_id("call", other, second)


def test_a_source_makes_ids_of_the_same_form_and_never_two_alike() -> None:
    source = IdSource("call")
    made = [source(WallMs(1_700_000_000_000 + n // 300)) for n in range(1_000)]
    assert len(set(made)) == 1_000
    assert [id_wall_ms(each) for each in made] == [1_700_000_000_000 + n // 300 for n in range(1_000)]
    assert {len(each) for each in made} == {len(new_id("call", WallMs(0)))}


@pytest.mark.parametrize("text", ["", "call_", "call_short", "call_" + "u" * 26])
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not an id|substring not found"):
        id_wall_ms(text)


def test_a_trace_follows_from_the_call_or_from_its_caller() -> None:
    assert trace_id("call_a") == trace_id("call_a") != trace_id("call_b")
    assert len(trace_id("call_a")) == 16
    assert span_id("call_a", 1) != span_id("call_a", 2)
    assert len(span_id("call_a", 1)) == 8
    assert trace_of("call_a", "") == trace_id("call_a")
    assert trace_of("call_a", "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01") == bytes.fromhex("ab" * 16)
