"""Whatever happens to a segment's bytes: never a wrong row, and what is missing is counted."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.facts.model import AttemptFact, CallFact, Fact, FeedbackFact
from headway.facts.segments import (
    encode_fact,
    footer_bytes,
    header_bytes,
    read_segment,
    record_bytes,
    valid_prefix,
)

FACTS: tuple[Fact, ...] = (
    CallFact(call="call_a", started_wall_ms=1, duration_ms=2.5, gateway="g", leases=("l1",), lost=("ünïcode 🙂",)),
    AttemptFact(call="call_a", attempt=1, started_wall_ms=1, gateway="g", token_times=b"\xf5\xf6\x00\xf5\xf7" * 9),
    FeedbackFact(call="call_a", kind="accepted", at_wall_ms=3),
    CallFact(call="call_b", started_wall_ms=5, duration_ms=1.0, gateway="g"),
    CallFact(call="call_c", started_wall_ms=6, duration_ms=1.0, gateway="g"),
)
HEADER = header_bytes("g", "s")
RECORDS = [record_bytes(i, encode_fact(fact)) for i, fact in enumerate(FACTS)]
WHOLE = HEADER + b"".join(RECORDS) + footer_bytes(len(FACTS))
ENDS = [len(HEADER) + sum(map(len, RECORDS[: i + 1])) for i in range(len(RECORDS))]


def is_subsequence(found: tuple[Fact, ...]) -> bool:
    rest = iter(FACTS)
    return all(any(fact == other for other in rest) for fact in found)


def test_whole() -> None:
    content = read_segment(WHOLE)
    assert content.facts == FACTS
    assert content.header is not None
    assert (content.header.gateway, content.header.segment) == ("g", "s")
    assert (content.closed, content.rows_lost, content.rows_unreadable, content.bytes_skipped) == (True, 0, 0, 0)
    assert valid_prefix(WHOLE) == (len(WHOLE), len(FACTS), True)


def test_cut_at_every_byte() -> None:
    for cut in range(len(WHOLE)):
        content = read_segment(WHOLE[:cut])
        whole = sum(end <= cut for end in ENDS)
        assert content.facts == FACTS[:whole], cut
        assert not content.closed, cut
        kept, rows, _ = valid_prefix(WHOLE[:cut])
        assert rows == whole, cut
        assert kept <= cut
        assert read_segment(WHOLE[:kept] + footer_bytes(rows)).rows_lost == 0, cut
        if cut >= len(HEADER):
            assert content.bytes_skipped == cut - kept, cut


@settings(max_examples=400, deadline=None)
@given(st.integers(0, len(WHOLE) - 1), st.integers(0, 7))
def test_one_flipped_bit(at: int, bit: int) -> None:
    damaged = bytearray(WHOLE)
    damaged[at] ^= 1 << bit
    content = read_segment(bytes(damaged))
    assert is_subsequence(content.facts)
    missing = len(FACTS) - len(content.facts)
    assert missing <= 1
    assert content.bytes_skipped > 0
    if at < len(HEADER):
        assert (content.header, missing) == (None, 0)
    elif at < ENDS[-1]:
        assert missing == 1
        assert content.rows_lost == 1
    else:
        assert (missing, content.closed) == (0, False)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.binary(min_size=1, max_size=8)), max_size=6))
def test_any_damage(damages: list[tuple[int, bytes]]) -> None:
    damaged = bytearray(WHOLE)
    for at, patch in damages:
        damaged[at : at + len(patch)] = patch
    content = read_segment(bytes(damaged[: len(WHOLE)]))
    assert is_subsequence(content.facts)
    if content.closed:
        assert content.rows_lost == len(FACTS) - len(content.facts)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_noise_holds_nothing(noise: bytes) -> None:
    assert read_segment(noise).facts == ()
    assert read_segment(noise).bytes_skipped == len(noise)
    content = read_segment(HEADER + noise + RECORDS[0])
    assert content.facts == FACTS[:1]


def test_a_missing_record_in_the_middle_is_counted() -> None:
    content = read_segment(HEADER + RECORDS[0] + RECORDS[3] + footer_bytes(5))
    assert content.facts == (FACTS[0], FACTS[3])
    assert content.rows_lost == 3


def test_rows_of_another_version_are_counted_and_skipped() -> None:
    strange = record_bytes(0, msgspec.msgpack.encode({"table": "tomorrow", "x": 1}))
    wrong = record_bytes(1, msgspec.msgpack.encode({"table": "call", "call": 7}))
    deep = record_bytes(2, b"\x91" * 50_000 + b"\xc0")
    added = record_bytes(3, msgspec.msgpack.encode({**msgspec.to_builtins(FACTS[3]), "added_later": 1}))
    content = read_segment(HEADER + strange + wrong + deep + added + footer_bytes(4))
    assert content.facts == (FACTS[3],)
    assert (content.rows_unreadable, content.rows_lost, content.bytes_skipped) == (3, 0, 0)
