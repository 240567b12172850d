"""What providers say of tokens and limits, in one form."""

import pytest

from headway.calls.phases.usage_facts import remaining_share, tokens


@pytest.mark.parametrize(
    ("told", "reports_cache", "cached", "uncached"),
    [
        ((100, 60), True, 60, 40),
        ((100, 0), True, 0, 100),
        ((100, 0), False, None, 100),
        ((100, 60), False, 60, 40),
        ((100, None), True, None, 100),
        ((100, 130), True, 100, 0),
        ((None, 60), True, 60, None),
        ((-1, -1), True, None, None),
    ],
)
def test_zero_cached_is_not_reported_until_the_route_has_reported_some(
    told: tuple[int | None, int | None], reports_cache: bool, cached: int | None, uncached: int | None
) -> None:
    found = tokens(*told, reports_cache=reports_cache)
    assert (found.cached_tokens, found.uncached_tokens) == (cached, uncached)


def test_reasoning_is_no_visible_output() -> None:
    assert tokens(1, 0, 50, 30, reports_cache=True).visible_tokens == 20
    assert tokens(1, 0, 50, None, reports_cache=True).visible_tokens == 50
    assert tokens(1, 0, 50, 80, reports_cache=True).visible_tokens == 0
    assert tokens(1, 0, None, 80, reports_cache=True).visible_tokens is None


@pytest.mark.parametrize(
    ("ratelimit", "share"),
    [
        ("", None),
        ("x-ratelimit-limit-requests=100;x-ratelimit-remaining-requests=25", 0.25),
        (
            "x-ratelimit-limit-requests=100;x-ratelimit-remaining-requests=25;x-ratelimit-limit-tokens=1000;x-ratelimit-remaining-tokens=10",
            0.01,
        ),
        ("anthropic-ratelimit-input-tokens-limit=1000;anthropic-ratelimit-input-tokens-remaining=0", 0.0),
        ("x-ratelimit-limit-tokens=-1;x-ratelimit-remaining-tokens=0", None),
        ("x-ratelimit-limit-tokens=0;x-ratelimit-remaining-tokens=0", None),
        ("x-ratelimit-limit-tokens=10;x-ratelimit-remaining-tokens=-1", None),
        ("x-ratelimit-limit-tokens=10;x-ratelimit-remaining-tokens=soon", None),
        ("x-ratelimit-limit-tokens=10;x-ratelimit-remaining-tokens=inf", None),
        ("x-ratelimit-limit-tokens=10;x-ratelimit-remaining-tokens=20", 1.0),
    ],
)
def test_the_least_share_that_is_left_counts_and_what_is_no_limit_does_not(ratelimit: str, share: float | None) -> None:
    assert remaining_share(ratelimit) == share
