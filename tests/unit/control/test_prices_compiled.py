"""The compiled price table: bills of real models worked out by hand, and ``genai-prices``' own arithmetic as second opinion."""

import random
from datetime import UTC, datetime
from decimal import Decimal

import genai_prices
import pytest
from genai_prices.data_snapshot import find_provider_by_id, get_snapshot

from headway.calls.conversation import Usage
from headway.calls.pricing import PriceTable, cost, find
from headway.config.model import Feature, Provider, Settings
from headway.config.presets import price_provider
from headway.control.prices import compile_prices, data_date
from headway.kernel.instants import WallMs
from headway.kernel.money import NANO_PER_USD

NOW = WallMs(1_795_521_600_000)  # 2026-11-24 12:00 UTC
WHEN = datetime.fromtimestamp(NOW / 1000, UTC)
PRESETS = ("openai", "azure", "anthropic", "openrouter", "mistral", "gemini", "bedrock")
SETTINGS = Settings(
    providers={
        **{name: Provider(preset=name) for name in PRESETS},
        "deepseek": Provider(preset="openai", price_as="deepseek"),
        "perplexity": Provider(preset="openai", price_as="perplexity"),
        "own": Provider(preset="llama.cpp"),
        "named": Provider(preset="gemini", models=("gemini-2.5-pro-exp-07-07",)),
    },
    features={"f": Feature(targets=("bedrock/eu.anthropic.claude-sonnet-4-6-v1:0", "own/x"))},
)


@pytest.fixture(scope="module")
def table() -> PriceTable:
    return compile_prices(SETTINGS, NOW)


def used(
    i: int,
    o: int | None = 0,
    *,
    read: int | None = None,
    write: int | None = None,
    hour: int | None = None,
    think: int | None = None,
) -> Usage:
    return Usage(
        input_tokens=i,
        output_tokens=o,
        cached_tokens=read,
        cache_write_tokens=write,
        cache_write_1h_tokens=hour,
        reasoning_tokens=think,
    )


# Nano-dollars, worked out from the providers' dollars for a million tokens in the comment: input / output, then cached, written, an hour.
BY_HAND = [
    ("openai", "gpt-4o", used(1, 0), 2_500),  # 2.50 / 10, cached 1.25
    ("openai", "gpt-4o", used(1_000, 500), 7_500_000),
    ("openai", "gpt-4o", used(1_000, 500, read=400), 7_000_000),
    ("openai", "gpt-4o", used(1_234, 567, read=1_024), 7_475_000),
    ("openai", "gpt-4o-2024-08-06", used(1_000, 500), 7_500_000),
    ("openai", "gpt-4o-2024-05-13", used(1_000, 500), 12_500_000),  # 5 / 15, the dated one is dearer
    ("openai", "gpt-4o-2024-05-13", used(1_000, 0, read=1_000), 5_000_000),  # and has no cached price
    ("openai", "gpt-4o-mini", used(3, 1), 1_050),  # 0.15 / 0.60, cached 0.075
    ("openai", "gpt-4o-mini", used(1, 0, read=1), 75),
    ("openai", "gpt-5", used(10_000, 2_000, read=9_000, think=1_500), 22_375_000),  # 1.25 / 10, cached 0.125
    ("openai", "gpt-5-mini", used(777, 33), 260_250),  # 0.25 / 2
    ("openai", "gpt-5-nano", used(13, 7, read=5), 3_225),  # 0.05 / 0.40, cached 0.005
    ("openai", "GPT-5-Nano", used(13, 7, read=5), 3_225),
    ("openai", "o3", used(100, 100, think=80), 1_000_000),  # 2 / 8
    ("openai", "gpt-3.5-turbo", used(1_001, 999), 1_999_000),  # 0.50 / 1.50
    ("openai", "text-embedding-3-small", used(8_191, None), 163_820),  # 0.02
    ("openai", "gpt-6-sol", used(272_000, 0), 544_000_000),  # 2 / 10; over 272,000 4 / 15
    ("openai", "gpt-6-sol", used(272_001, 10), 1_088_154_000),
    ("openai", "gpt-6-sol", used(1_000, 0, write=1_000), 2_500_000),
    ("openai", "gpt-6-sol-2026-10-01", used(1_000, 1_000), 12_000_000),
    ("anthropic", "claude-sonnet-4-5", used(1_000, 100), 4_500_000),  # 3 / 15, 0.30, 3.75, 6
    ("anthropic", "claude-sonnet-4-5", used(10_000, 0, read=10_000), 3_000_000),
    ("anthropic", "claude-sonnet-4-5", used(10_000, 0, write=10_000), 37_500_000),
    ("anthropic", "claude-sonnet-4-5", used(10_000, 0, write=10_000, hour=10_000), 60_000_000),
    ("anthropic", "claude-sonnet-4-5", used(10_000, 77, read=5_000, write=3_000, hour=1_000), 22_155_000),
    ("anthropic", "claude-sonnet-4-5", used(200_000, 1), 600_015_000),
    ("anthropic", "claude-sonnet-4-5", used(200_001, 1), 1_200_028_500),  # over 200,000: 6 / 22.50
    ("anthropic", "claude-sonnet-4-5", used(250_000, 0, read=250_000), 150_000_000),
    ("anthropic", "claude-sonnet-4-5-20250929", used(1_000, 100), 4_500_000),
    ("anthropic", "claude-haiku-4-5", used(9, 9), 54_000),  # 1 / 5
    ("anthropic", "claude-opus-4-6", used(321, 123, read=300), 3_330_000),  # 5 / 25, 0.50
    ("anthropic", "claude-haiku-5-5", used(100_000, 0), 10_000_000),  # 0.10 / 0.50
    ("anthropic", "claude-haiku-5-5", used(100_001, 0), 50_000_500),  # over 100,000: 0.50 / 2.50
    ("google", "gemini-2.5-pro", used(200_000, 10), 250_100_000),  # 1.25 / 10
    ("google", "gemini-2.5-pro", used(200_001, 10), 500_152_500),  # over 200,000: 2.50 / 15
    ("google", "gemini-2.5-pro", used(200_001, 0, read=200_001), 50_000_250),
    ("google", "gemini-2.5-flash", used(7, 3), 9_600),  # 0.30 / 2.50
    ("mistral", "mistral-small-latest", used(11, 5, read=1), 4_515),  # 0.15 / 0.60, 0.015
    ("mistral", "mistral-large-latest", used(5, 5), 40_000),  # 2 / 6
    ("azure", "gpt-4o", used(1_000, 500, read=400), 7_000_000),
    ("openrouter", "openai/gpt-oss-20b:free", used(1_000_000, 1_000_000), 0),
    ("openrouter", "anthropic/claude-sonnet-4.5", used(200_001, 1), 1_200_028_500),
    ("aws", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", used(1_000, 100), 4_950_000),  # 3.30 / 16.50
    ("aws", "amazon.nova-lite-v1:0", used(100, 100), 30_000),  # 0.06 / 0.24
    ("perplexity", "sonar", used(1_000, 1_000), 14_000_000),  # 1 / 1 and 12 for a thousand requests
    ("perplexity", "sonar-deep-research", used(1_000, 500, think=200), 5_000_000),  # 2 / 8, reasoning 3
]


def opinion(provider: str, model: str, usage: Usage) -> Decimal:
    """What ``genai-prices`` makes of it, in nano-dollars, unrounded."""
    counts = {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cached_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "cache_write_1h_tokens": usage.cache_write_1h_tokens,
        "output_reasoning_tokens": usage.reasoning_tokens,
    }
    given = genai_prices.Usage(**{name: count for name, count in counts.items() if count is not None})
    return genai_prices.calc_price(given, model, provider_id=provider, genai_request_timestamp=WHEN).total_price * NANO_PER_USD


@pytest.mark.parametrize(("provider", "model", "usage", "nano_usd"), BY_HAND)
def test_bills_worked_out_by_hand(table: PriceTable, provider: str, model: str, usage: Usage, nano_usd: int) -> None:
    assert cost(usage, find(table, provider, model)) == (nano_usd, "table")
    assert abs(opinion(provider, model, usage) - nano_usd) <= Decimal("0.5")


def test_there_are_enough_of_them() -> None:
    assert len(BY_HAND) >= 40
    assert {provider for provider, _, _, _ in BY_HAND} >= {price_provider(SETTINGS.providers[name]) for name in PRESETS}


def test_every_exact_row_bills_as_the_package_does(table: PriceTable) -> None:
    draw = random.Random(3)
    compared = 0
    for row in draw.sample(table.rows, 600):
        total = draw.choice([1, 999, 150_000, 210_000, 500_000])
        read = draw.randint(0, total)
        usage = used(total, draw.randint(0, 9_999), read=read, write=draw.randint(0, total - read))
        bill = cost(usage, row)
        if bill.nano_usd is None:
            continue
        exact = opinion(row.provider, row.model, usage)
        # A price that is no whole number of pico-dollars (a third of a cent) is off by less than half of one a token.
        assert abs(exact - bill.nano_usd) <= Decimal("0.5") + Decimal("0.0005") * (total + 9_999), row
        compared += 1
    assert compared > 400


def test_a_name_never_gets_another_models_price(table: PriceTable) -> None:
    """Dated and continued names: the package's own matcher agrees, or one of the two says unknown."""
    everyone = get_snapshot().providers
    draw = random.Random(5)
    agreed = 0
    for row in draw.sample(table.rows + table.prefixes, 500):
        provider = find_provider_by_id(everyone, row.provider)
        assert provider is not None
        for tail in ("", "-20260101", "-2026-01-01", "-latest", "-v1:0", "x", "-tts"):
            ours = find(table, row.provider, row.model + tail)
            theirs = provider.find_model(row.model + tail, all_providers=everyone)
            if ours is not None and theirs is not None:
                usage = used(1_000, 1_000 if ours.output_pico is not None else 0)
                bill = cost(usage, ours).nano_usd
                if bill is not None:
                    assert abs(opinion(row.provider, row.model + tail, usage) - bill) <= 1, row.model + tail
                    agreed += 1
    assert agreed > 800


def test_models_that_the_settings_name_are_found_whatever_rule_they_match_by(table: PriceTable) -> None:
    assert find(table, "google", "gemini-2.5-pro-exp-07-07") is not None
    assert find(table, "aws", "eu.anthropic.claude-sonnet-4-6-v1:0") is not None


def test_what_is_not_in_the_table_is_unknown(table: PriceTable) -> None:
    assert find(table, "openai", "gpt-nobody") is None
    assert find(table, "anthropic", "gpt-4o") is None
    assert find(table, "groq", "openai/gpt-oss-20b") is None, "a provider that no setting uses is not compiled"
    unpriced = find(table, "azure", "mai-ds-r1:free")
    assert unpriced is None or cost(used(1, 1), unpriced).nano_usd == 0
    moderation = find(table, "openai", "omni-moderation-latest")
    assert moderation is None or cost(used(1, 1), moderation).nano_usd is None, "the data names no price: that is not nothing"


def test_nothing_is_compiled_for_engines_of_your_own() -> None:
    empty = compile_prices(
        Settings(providers={"own": Provider(preset="ollama"), "odd": Provider(preset="openai", price_as="nobody")}), NOW
    )
    assert (empty.rows, empty.prefixes, empty.valid_until_wall_ms) == ((), (), None)


def test_the_table_is_dated_and_says_when_it_changes() -> None:
    table = compile_prices(Settings(providers={"d": Provider(preset="openai", price_as="deepseek")}), NOW)
    assert table.version == f"genai-prices {genai_prices.__version__}, data of {data_date(NOW).isoformat()}"
    assert data_date(NOW) <= WHEN.date()
    assert data_date(WallMs(1_735_689_600_000)).year <= 2025
    assert table.valid_until_wall_ms is not None
    until = WallMs(table.valid_until_wall_ms)
    assert NOW < until <= NOW + 86_400_000, "deepseek has hours of its own"
    before, after = (
        compile_prices(Settings(providers={"d": Provider(price_as="deepseek")}), at) for at in (WallMs(until - 1), until)
    )
    assert before.rows != after.rows


def test_rows_are_in_order_for_the_search(table: PriceTable) -> None:
    for rows in (table.rows, table.prefixes):
        names = [(row.provider, row.model) for row in rows]
        assert names == sorted(set(names))
    assert all(not row.prefix for row in table.rows)
    assert all(row.prefix for row in table.prefixes)
