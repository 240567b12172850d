"""Rows as a gateway writes them become what phases see: attempts, back-off, throttling, the tool before, and tokens that mean something."""

import pytest

from headway.calls.phases.split import split
from headway.calls.phases.usage_facts import remaining_share, tokens
from headway.facts.measured import measured
from headway.facts.model import AttemptFact, CallFact
from headway.facts.seen import seen_of, tool_wait_ms
from headway.facts.token_times import encode
from headway.kernel.instants import MonoNs


def call(**facts: object) -> CallFact:
    return CallFact(**{"call": "c", "started_wall_ms": 1_000, "duration_ms": 1_000.0, "gateway": "g", **facts})  # type: ignore[arg-type]


def attempt(number: int = 1, **facts: object) -> AttemptFact:
    return AttemptFact(**{"call": "c", "attempt": number, "started_wall_ms": 1_000, "gateway": "g", **facts})  # type: ignore[arg-type]


def times(*ms: float) -> bytes:
    return encode(MonoNs(0), [int(each * 1e6) for each in ms])


def parts(seen_call: CallFact, *attempts: AttemptFact, **context: object) -> dict[str, float]:
    found = split(seen_of(seen_call, attempts, **context))  # type: ignore[arg-type]
    assert sum(found.parts_ms.values()) == found.duration_ms
    return {name: round(ms, 2) for name, ms in found.parts_ms.items() if ms}


def test_one_attempt() -> None:
    row = attempt(
        start_ms=2.0,
        queue_ms=100.0,
        connect_ms=140.0,
        sent_ms=141.0,
        first_token_ms=400.0,
        last_token_ms=900.0,
        token_times=times(400.0, 500.0, 600.0, 700.0, 800.0, 900.0),
        status=200,
    )
    found = parts(call(first_token_ms=402.0, queue_ms=100.0), row)
    assert found == {"queue": 103.0, "connect": 40.0, "provider": 259.0, "decode": 500.0, "close": 98.0}


def test_a_throttled_attempt_and_its_back_off() -> None:
    refused = attempt(1, start_ms=1.0, sent_ms=1.0, status=429, outcome="upstream_error", duration_ms=50.0, retry_after_ms=400)
    broken = attempt(2, start_ms=451.0, queue_ms=5.0, sent_ms=6.0, status=500, outcome="upstream_error", duration_ms=40.0)
    good = attempt(3, start_ms=520.0, sent_ms=1.0, status=200, first_token_ms=100.0, last_token_ms=480.0)
    row = call(first_token_ms=620.0, queue_ms=5.0, attempts=3)
    seen = seen_of(row, [good, refused, broken])
    assert (seen.attempts, seen.attempts_ms, seen.throttled_ms) == (3, 514.0, 450.0)
    assert seen.sent_ms == 521.0
    assert parts(row, refused, broken, good) == {"attempts": 514.0, "queue": 7.0, "provider": 99.0, "decode": 380.0}


def test_a_call_that_was_never_sent_is_ours_and_one_that_never_connected_is_the_connections() -> None:
    assert parts(call(outcome="refused")) == {"queue": 1_000.0}
    lost = attempt(start_ms=0.0, queue_ms=10.0, duration_ms=990.0, outcome="timeout", error_code="connect_timeout")
    assert parts(call(outcome="timeout", queue_ms=10.0), lost) == {"queue": 20.0, "connect": 980.0}


def test_blocked_writes_arrive_with_their_times() -> None:
    row = attempt(
        start_ms=0.0,
        sent_ms=0.0,
        first_token_ms=100.0,
        last_token_ms=900.0,
        token_times=times(100.0, 110.0, 120.0, 820.0, 830.0, 900.0),
        blocked_times=times(120.0, 820.0),
        status=200,
    )
    assert parts(call(first_token_ms=100.0, blocked_ms=700.0), row) == {
        "provider": 100.0,
        "decode": 100.0,
        "reader": 700.0,
        "close": 100.0,
    }


def test_the_tool_of_a_run() -> None:
    asked = call(call="b", started_wall_ms=0, duration_ms=400.5, run="r", stop="tool_use", tenant="t")
    row = call(run="r", tenant="t")
    assert tool_wait_ms(row, asked) == 599.5
    assert parts(row, attempt(start_ms=0.0, sent_ms=0.0, status=200), before=asked)["tool"] == 599.5
    for other in ({"run": "s"}, {"stop": "end"}, {"tenant": "u"}, {"started_wall_ms": 900}):
        assert (
            tool_wait_ms(
                row,
                call(
                    **{
                        "call": "b",
                        "duration_ms": 400.5,
                        "run": "r",
                        "stop": "tool_use",
                        "tenant": "t",
                        "started_wall_ms": 0,
                        **other,
                    }
                ),
            )
            == 0.0
        )
    assert tool_wait_ms(call(tenant="t"), asked) == 0.0


def test_rows_of_an_older_gateway_are_read_by_their_wall_clocks() -> None:
    first = attempt(1, started_wall_ms=1_001, status=503, duration_ms=20.0)
    second = attempt(2, started_wall_ms=1_101, connect_ms=8.0, status=200, first_token_ms=200.0, last_token_ms=600.0)
    found = parts(call(first_token_ms=301.0, attempts=2), first, second)
    assert found == {"attempts": 100.0, "queue": 1.0, "connect": 8.0, "provider": 192.0, "decode": 400.0, "close": 299.0}


def test_zero_cached_means_nothing_until_the_route_has_reported_some() -> None:
    row = call(input_tokens=100, cached_tokens=0)
    assert seen_of(row, [attempt()]).cached_tokens is None
    assert seen_of(row, [attempt()], reports_cache=True).cached_tokens == 0
    found = tokens(100, 40, 50, 20, reports_cache=False)
    assert (found.cached_tokens, found.uncached_tokens, found.visible_tokens) == (40, 60, 30)
    assert tokens(100, None, reports_cache=True).uncached_tokens == 100
    assert tokens(100, 500, reports_cache=True).uncached_tokens == 0
    assert tokens(-1, -1, -1, -1, reports_cache=True) == tokens(None, None, reports_cache=True)


@pytest.mark.parametrize(
    ("headers", "share"),
    [
        ("x-ratelimit-limit-requests=10000;x-ratelimit-remaining-requests=9998;x-ratelimit-limit-tokens=200;x-ratelimit-remaining-tokens=50", 0.25),
        ("anthropic-ratelimit-requests-limit=50;anthropic-ratelimit-requests-remaining=49;anthropic-ratelimit-input-tokens-limit=1000;anthropic-ratelimit-input-tokens-remaining=0;retry-after=7", 0.0),
        ("x-ratelimit-limit-tokens=-1;x-ratelimit-remaining-tokens=-1", None),
        ("x-ratelimit-limit-tokens=0;x-ratelimit-remaining-tokens=0", None),
        ("x-ratelimit-limit-tokens=100;x-ratelimit-remaining-tokens=-1", None),
        ("x-ratelimit-remaining-tokens=0", None),
        ("x-ratelimit-limit-tokens=nan;x-ratelimit-remaining-tokens=1", None),
        ("", None),
    ],
)  # fmt: skip
def test_what_is_left_of_a_rate_limit(headers: str, share: float | None) -> None:
    assert remaining_share(headers) == share


def test_control_works_out_the_gaps_of_an_answer() -> None:
    reads = [100.0 + 20.0 * i for i in range(50)] + [1_600.0, 1_620.0]
    row = measured(attempt(first_token_ms=100.0, last_token_ms=1_620.0, token_times=times(*reads)))
    assert isinstance(row, AttemptFact)
    assert (row.gap_p50_ms, row.gap_longest_ms, row.gaps_over_5_medians, row.stalls, row.stalled_ms) == (20.0, 520.0, 1, 1, 500.0)
    assert measured(call()) == call()
    for odd in (b"\x07junk", b"", times(1.0)):
        plain = attempt(first_token_ms=1.0, last_token_ms=2.0, token_times=odd)
        assert measured(plain) == plain
