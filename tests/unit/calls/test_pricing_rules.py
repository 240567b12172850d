"""Prices of a call: what each kind of token costs, which tier applies, what stays unknown, and bounds that hold."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.calls.conversation import Usage
from headway.calls.pricing import FREE, UNKNOWN, Cost, PriceRow, PriceTable, cost, find, reservation, tier_for
from headway.link.messages import PriceTable as TableOfTheLink

ROW = PriceRow(
    provider="p",
    model="m",
    input_pico=3_000_000,
    output_pico=15_000_000,
    cached_input_pico=300_000,
    cache_write_pico=3_750_000,
    cache_write_1h_pico=6_000_000,
    tiers=(
        PriceRow(
            provider="p", model="m", above_tokens=200_000, input_pico=6_000_000, output_pico=22_500_000, cached_input_pico=600_000
        ),
    ),
)
PLAIN = PriceRow(provider="p", model="plain", input_pico=150_000, output_pico=600_000)
EMBEDDING = PriceRow(provider="p", model="e", input_pico=20_000)


@pytest.mark.parametrize(
    ("row", "usage", "nano_usd"),
    [
        (PLAIN, Usage(input_tokens=1, output_tokens=0), 150),
        (PLAIN, Usage(input_tokens=0, output_tokens=1), 600),
        (PLAIN, Usage(input_tokens=10, output_tokens=5, cached_tokens=4), 4_500),  # no price for cached: as input, once
        (PLAIN, Usage(input_tokens=10, output_tokens=5, reasoning_tokens=5), 4_500),  # reasoning is output already
        (ROW, Usage(input_tokens=1_000, output_tokens=0, cached_tokens=1_000), 300_000),
        (ROW, Usage(input_tokens=1_000, output_tokens=0, cached_tokens=400), 1_920_000),
        (ROW, Usage(input_tokens=1_000, output_tokens=0, cache_write_tokens=1_000), 3_750_000),
        (ROW, Usage(input_tokens=1_000, output_tokens=0, cache_write_tokens=1_000, cache_write_1h_tokens=1_000), 6_000_000),
        (ROW, Usage(input_tokens=1_000, output_tokens=0, cache_write_tokens=600, cache_write_1h_tokens=200), 3_900_000),
        (ROW, Usage(input_tokens=1_000, output_tokens=0, cache_write_1h_tokens=200), 3_600_000),  # a report without the sum
        (ROW, Usage(input_tokens=200_000, output_tokens=0), 600_000_000),
        (ROW, Usage(input_tokens=200_001, output_tokens=0), 1_200_006_000),
        (ROW, Usage(input_tokens=200_001, output_tokens=2, cached_tokens=200_001), 120_045_600),
        (
            ROW,
            Usage(input_tokens=200_001, output_tokens=0, cache_write_tokens=200_001),
            1_200_006_000,
        ),  # the tier has no write price
        (EMBEDDING, Usage(input_tokens=7), 140),
        (EMBEDDING, Usage(input_tokens=7, output_tokens=0), 140),
        (msgspec.structs.replace(PLAIN, request_pico=5_000_000_000), Usage(input_tokens=1, output_tokens=1), 5_000_750),
        (
            msgspec.structs.replace(PLAIN, reasoning_pico=900_000),
            Usage(input_tokens=0, output_tokens=10, reasoning_tokens=4),
            7_200,
        ),
        (
            PriceRow(provider="p", model="x", input_pico=37_500, output_pico=1),
            Usage(input_tokens=1, output_tokens=0),
            38,
        ),  # 37.5: even
        (
            PriceRow(provider="p", model="x", input_pico=36_500, output_pico=1),
            Usage(input_tokens=1, output_tokens=0),
            36,
        ),  # 36.5: even
        (PriceRow(provider="p", model="x", input_pico=36_500, output_pico=1), Usage(input_tokens=1, output_tokens=1), 37),
    ],
)
def test_the_bill_to_the_last_digit(row: PriceRow, usage: Usage, nano_usd: int) -> None:
    assert cost(usage, row) == Cost(nano_usd, "table")


@pytest.mark.parametrize(
    ("row", "usage"),
    [
        (None, Usage(input_tokens=1, output_tokens=1)),
        (PLAIN, Usage()),
        (PLAIN, Usage(input_tokens=1)),
        (PLAIN, Usage(output_tokens=1)),
        (EMBEDDING, Usage(input_tokens=1, output_tokens=1)),
        (PriceRow(provider="p", model="x", output_pico=1), Usage(input_tokens=1, output_tokens=1)),
        (PLAIN, Usage(input_tokens=5, output_tokens=1, cached_tokens=6)),
        (msgspec.structs.replace(PLAIN, reasoning_pico=1), Usage(input_tokens=5, output_tokens=1, reasoning_tokens=2)),
    ],
    ids=[
        "no row",
        "no usage",
        "no output count",
        "no input count",
        "no output price",
        "no input price",
        "more cached than all",
        "reasoning",
    ],
)
def test_unknown_is_unknown_and_never_nothing(row: PriceRow | None, usage: Usage) -> None:
    assert cost(usage, row) == UNKNOWN == Cost(None, "unknown")


def test_a_model_of_your_own_costs_a_known_nothing() -> None:
    row = find(PriceTable(version="v"), FREE, "whatever")
    assert cost(Usage(), row) == Cost(0, "free")
    assert reservation(row, 10**9, 10**9) == 0


TABLE = PriceTable(
    version="v",
    rows=tuple(PriceRow(provider=p, model=m, input_pico=i) for i, (p, m) in enumerate([("a", "m"), ("a", "m-1"), ("b", "m")])),
    prefixes=tuple(
        PriceRow(provider=p, model=m, prefix=True, input_pico=100 + i)
        for i, (p, m) in enumerate([("a", "m-"), ("a", "m-1-2"), ("a", "m-1-2026"), ("a", "n-2026-"), ("c", "")])
    ),
)


@pytest.mark.parametrize(
    ("provider", "model", "found"),
    [
        ("a", "m", 0),
        ("a", "M", 0),
        ("a", "m-1", 1),
        ("b", "m", 2),
        ("b", "m-1", None),
        ("a", "m-2", 100),
        ("a", "m-1-1", 100),
        ("a", "m-1-20", 101),
        ("a", "m-1-2026-x", 102),
        ("a", "n-20261101", 103),  # a compact date reads as a dashed one
        ("a", "n-20", None),
        ("a", "", None),
        ("a", "zzz", None),
        ("b", "a", None),
        ("d", "m", None),
    ],
)
def test_exact_names_win_then_the_longest_beginning(provider: str, model: str, found: int | None) -> None:
    row = find(TABLE, provider, model)
    assert (row.input_pico if row is not None else None) == found


@given(st.text("ab-", max_size=6), st.sets(st.text("ab-", min_size=1, max_size=5), max_size=12))
def test_the_longest_beginning_is_found_among_any(name: str, starts: set[str]) -> None:
    table = PriceTable(version="v", prefixes=tuple(PriceRow(provider="p", model=s, prefix=True) for s in sorted(starts)))
    row = find(table, "p", name)
    assert (row.model if row is not None else None) == max((s for s in starts if name.startswith(s)), key=len, default=None)


_tokens = st.integers(0, 300_000)


@given(_tokens, _tokens, st.floats(0, 1), st.floats(0, 1), st.integers(0, 1000), st.integers(0, 1000))
def test_no_call_costs_more_than_its_reservation(
    upper: int, out: int, cached: float, written: float, less: int, less_out: int
) -> None:
    used = max(0, upper - less)
    read = int(used * cached)
    wrote = int((used - read) * written)
    usage = Usage(
        input_tokens=used,
        output_tokens=max(0, out - less_out),
        cached_tokens=read,
        cache_write_tokens=wrote,
        cache_write_1h_tokens=wrote // 2,
    )
    bill, bound = cost(usage, ROW), reservation(ROW, upper, out)
    assert bill.nano_usd is not None
    assert bound is not None
    assert bill.nano_usd <= bound


def test_reservations_are_rounded_up_and_unknown_without_a_price() -> None:
    assert reservation(PriceRow(provider="p", model="x", input_pico=1, output_pico=1), 1, 0) == 1
    assert reservation(PLAIN, 10, 10) == 7_500
    assert reservation(ROW, 200_000, 0) == 1_200_000_000, "all of it may be written for an hour"
    assert reservation(ROW, 200_001, 1) == 1_200_028_500, "the larger of both tiers"
    assert reservation(EMBEDDING, 10, 4_096) == 200
    assert reservation(None, 1, 1) is None
    assert reservation(PriceRow(provider="p", model="x", output_pico=1), 1, 1) is None


def test_a_tier_starts_above_its_size() -> None:
    assert tier_for(ROW, 200_000) is ROW
    assert tier_for(ROW, 200_001) is ROW.tiers[0]


def test_the_table_travels_over_the_link() -> None:
    assert TableOfTheLink is PriceTable
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(TABLE), type=PriceTable) == TABLE
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(ROW), type=PriceRow) == ROW
