"""Instants of reads survive to 0.1 ms in under four bytes each."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.facts.token_times import TICK_US, decode, encode
from headway.kernel.instants import MonoNs
from headway.kernel.limits import TOKEN_TIMES_MAX


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**62), st.lists(st.integers(0, 20_000_000_000), max_size=200))
def test_there_and_back(start: int, gaps_ns: list[int]) -> None:
    reads, at = [], start
    for gap in gaps_ns:
        at += gap
        reads.append(at)
    encoded = encode(MonoNs(start), reads)
    found = decode(encoded)
    assert len(found) == len(reads)
    for read, us in zip(reads, found, strict=True):
        assert abs((read - start) - us * 1000) <= TICK_US * 1000 / 2
    assert len(encoded) <= 1 + 4 * len(reads)


def test_sizes() -> None:
    start = MonoNs(10)
    burst = encode(start, [start + i * 1_000_000 for i in range(1000)])
    typical = encode(start, [start + i * 25_000_000 for i in range(1000)])
    assert len(burst) <= 1001
    assert len(typical) <= 2001
    assert encode(start, []) == b""
    assert decode(b"") == []


def test_a_clock_that_goes_back_counts_as_simultaneous() -> None:
    start = MonoNs(0)
    assert decode(encode(start, [5_000_000, 3_000_000, 6_000_000])) == [5000, 5000, 6000]


def test_bound() -> None:
    assert len(decode(encode(MonoNs(0), list(range(0, (TOKEN_TIMES_MAX + 5) * 1_000_000, 1_000_000))))) == TOKEN_TIMES_MAX


@pytest.mark.parametrize("bad", [b"\x02\x01", b"\x01\x80", b"\x01" + b"\xff" * 12])
def test_other_bytes_are_refused(bad: bytes) -> None:
    with pytest.raises(ValueError, match="token times"):
        decode(bad)
