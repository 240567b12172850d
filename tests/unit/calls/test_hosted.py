"""What hosted endpoints let through, against providers of a few lines: buckets that fill, windows that begin anew, and ones that say nothing."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.calls.admission.hosted import HostedCapacity
from headway.calls.admission.hosted_headers import Told, read, retry_after_s, span_s
from headway.calls.admission.model import Capacity
from headway.kernel.instants import NS_PER_S, MonoNs

START = MonoNs(50 * NS_PER_S)
AT_ONCE = 40
Headers = tuple[tuple[str, str], ...]


def at(seconds: float) -> MonoNs:
    return MonoNs(START + int(seconds * NS_PER_S))


@dataclass
class Provider:
    """Allows ``limit`` tokens a minute, as a bucket or in windows; other users of the key take ``others`` a second."""

    limit: float
    window: bool = False
    tells: bool = True
    others: float = 0.0
    left: float = field(init=False)
    now_s: float = 0.0
    served: float = 0.0
    refused: int = 0

    def __post_init__(self) -> None:
        self.left = self.limit

    def move(self, to_s: float) -> None:
        if self.window:
            if int(to_s // 60) > int(self.now_s // 60):
                self.left = self.limit
        else:
            self.left = min(self.limit, self.left + (to_s - self.now_s) * self.limit / 60)
        self.left = max(0.0, self.left - self.others * (to_s - self.now_s))
        self.now_s = to_s

    def ask(self, tokens: float, to_s: float) -> tuple[int, Headers]:
        self.move(to_s)
        fits = tokens <= self.left
        if fits:
            self.left -= tokens
            self.served += tokens
        else:
            self.refused += 1
        return (200 if fits else 429), self.headers(tokens)

    def headers(self, tokens: float) -> Headers:
        reset_s = 60 - self.now_s % 60 if self.window else 60 * (self.limit - self.left) / self.limit
        if not self.tells:
            short_s = reset_s if self.window else 60 * max(0.0, tokens - self.left) / self.limit
            return (("retry-after", str(max(1, round(short_s)))),) if tokens > self.left else ()
        return (
            ("x-ratelimit-limit-tokens", str(int(self.limit))),
            ("x-ratelimit-remaining-tokens", str(int(self.left))),
            ("x-ratelimit-reset-tokens", f"{reset_s:.3f}s"),
        )


def drive(hosted: HostedCapacity, provider: Provider, tokens: float, for_s: float, latency_s: float = 0.1) -> float:
    """Somebody who always has more to ask. Answers come ``latency_s`` later. Tokens served."""
    now_s, served = 0.0, provider.served
    coming: list[tuple[float, int, Headers]] = []
    while now_s < for_s:
        next_s = (hosted.next_at(tokens, at(now_s)) - START) / NS_PER_S
        if coming and (coming[0][0] <= max(next_s, now_s) or len(coming) >= AT_ONCE):
            due_s, status, headers = coming.pop(0)
            now_s = max(now_s, due_s)
            hosted.head(status, headers, at(now_s))
            hosted.settle(tokens, None if status == 200 else 0.0, at(now_s))
            continue
        now_s = max(now_s, next_s)
        if now_s >= for_s:
            break
        hosted.take(tokens, at(now_s))
        status, headers = provider.ask(tokens, now_s)
        coming.append((now_s + latency_s, status, headers))
    return provider.served - served


@pytest.mark.parametrize("latency_s", [0.1, 2.0])
@pytest.mark.parametrize("window", [False, True])
def test_told_limits_are_used_up_without_a_single_429(window: bool, latency_s: float) -> None:
    hosted, provider = HostedCapacity(Capacity(hosted=True)), Provider(60_000, window=window)
    hosted.take(500, START)
    hosted.head(*provider.ask(500, 0.0), START)
    hosted.settle(500, None, START)
    served = drive(hosted, provider, 500, 600, latency_s)
    allowed = 10 * 60_000 + (0 if window else 60_000)
    assert provider.refused == 0
    assert served >= 0.95 * allowed


@pytest.mark.parametrize("window", [False, True])
def test_untold_limits_are_found(window: bool) -> None:
    hosted, provider = HostedCapacity(Capacity(hosted=True)), Provider(60_000, window=window, tells=False)
    drive(hosted, provider, 500, 300, 0.05)
    refused = provider.refused
    served = drive(HostedCapacity(Capacity(hosted=True)), Provider(60_000, window=window, tells=False), 500, 1_800, 0.05)
    assert refused >= 1
    assert served >= 0.7 * 30 * 60_000
    assert refused < 120


def test_others_on_the_same_key_are_left_their_part() -> None:
    hosted, provider = HostedCapacity(Capacity(hosted=True)), Provider(60_000, others=400)
    hosted.take(500, START)
    hosted.head(*provider.ask(500, 0.0), START)
    served = drive(hosted, provider, 500, 600, 0.2)
    assert served >= 0.9 * 10 * (60_000 - 400 * 60)
    assert provider.refused <= 3


def test_the_operators_own_limit_holds_below_what_is_told() -> None:
    hosted = HostedCapacity(Capacity(hosted=True, tokens_per_minute=6_000))
    hosted.head(200, Provider(60_000).headers(0), START)
    assert hosted.tokens.limit == 6_000
    served = drive(hosted, Provider(60_000), 100, 300)
    assert served <= 6_000 * 6


@pytest.mark.parametrize("value", ["-1", "0", "", "many", "nan", "inf"])
def test_values_that_say_nothing_change_nothing(value: str) -> None:
    hosted = HostedCapacity(Capacity(hosted=True))
    headers = [(f"x-ratelimit-{part}-{what}", value) for part in ("limit", "remaining", "reset") for what in ("requests", "tokens")]
    hosted.head(200, headers, START)
    assert hosted.tokens.limit is None
    assert hosted.requests.limit is None
    assert hosted.room(1e9, START)
    partly = [("x-ratelimit-limit-tokens", "1000"), ("x-ratelimit-remaining-tokens", value if value == "0" else "-1")]
    hosted.head(200, partly, START)
    assert hosted.room(900, START)


def test_retry_after_is_honoured() -> None:
    hosted = HostedCapacity(Capacity(hosted=True))
    hosted.take(10, START)
    hosted.head(429, [("retry-after", "7")], START)
    assert not hosted.room(10, at(6.9))
    assert hosted.next_at(10, START) >= at(7)
    hosted.head(529, [("retry-after-ms", "9500")], at(0))
    assert hosted.next_at(10, START) >= at(9.5)


def test_429s_of_calls_sent_together_cut_once() -> None:
    hosted = HostedCapacity(Capacity(hosted=True))
    for _ in range(100):
        hosted.take(100, START)
    for _ in range(5):
        hosted.head(429, [], at(60))
    assert hosted.refusals == 5
    assert hosted.tokens.limit == pytest.approx(10_000 * 60 / 60 * 0.8, rel=0.06)
    before = hosted.tokens.limit
    hosted.tokens.left(at(120))
    assert before is not None
    assert hosted.tokens.limit == pytest.approx(before * 1.05, rel=0.02)
    hosted.head(429, [], at(121))
    after = hosted.tokens.limit
    assert after is not None
    assert after < before


def test_a_429_soon_after_the_start_does_not_pass_for_a_minutes_worth() -> None:
    hosted = HostedCapacity(Capacity(hosted=True))
    for tenth in range(20):
        hosted.take(100, at(tenth / 10))
    hosted.head(429, [], at(2))
    assert hosted.requests.limit == pytest.approx(480, rel=0.01)


def test_the_flow_is_slowed_in_steps_as_less_is_left() -> None:
    hosted = HostedCapacity(Capacity(hosted=True, tokens_per_minute=60_000))
    waits: list[float] = []
    now = START
    for _ in range(70):
        then = hosted.next_at(1_000, now)
        waits.append((then - now) / NS_PER_S)
        now = then
        hosted.take(1_000, now)
    assert max(waits[:30]) == 0
    assert all(wait > 0 for wait in waits[32:])
    assert waits[40] < waits[55] < waits[69]
    assert waits[69] == pytest.approx(1.0, rel=0.05)


def test_more_than_a_whole_limit_waits_for_a_whole_one() -> None:
    hosted = HostedCapacity(Capacity(hosted=True, tokens_per_minute=1_000))
    assert hosted.room(5_000, START)
    hosted.take(5_000, START)
    assert hosted.next_at(5_000, START) > at(240)


def test_what_was_not_used_comes_back() -> None:
    hosted = HostedCapacity(Capacity(hosted=True, tokens_per_minute=10_000))
    hosted.take(9_000, START)
    assert not hosted.room(5_000, START)
    hosted.settle(9_000, 1_000, START)
    assert hosted.tokens.left(START) == 9_000
    hosted.settle(0, -50, START)
    assert hosted.tokens.left(START) == 9_000


def test_anthropics_headers() -> None:
    headers = {
        "date": "Mon, 23 Nov 2026 10:00:00 GMT",
        "anthropic-ratelimit-requests-limit": "50",
        "anthropic-ratelimit-requests-remaining": "49",
        "anthropic-ratelimit-requests-reset": "2026-11-23T10:00:02Z",
        "anthropic-ratelimit-input-tokens-limit": "40000",
        "anthropic-ratelimit-input-tokens-remaining": "39000",
        "anthropic-ratelimit-input-tokens-reset": "2026-11-23T10:00:30Z",
        "anthropic-ratelimit-output-tokens-limit": "8000",
        "anthropic-ratelimit-output-tokens-remaining": "8000",
        "anthropic-ratelimit-output-tokens-reset": "2026-11-23T10:00:00Z",
    }
    assert read(headers) == (Told(50, 49, 2), Told(48_000, 47_000, 30))
    assert read(headers | {"date": "yesterday"}).requests == Told(50, 49, None)
    assert read(headers | {"anthropic-ratelimit-tokens-limit": "9000"}).tokens == Told(9_000, None, None)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("6m0s", 360), ("12ms", 0.012), ("1h2m3.5s", 3723.5), ("20", 20), ("1.5s", 1.5), ("", None), ("soon", None)],
)
def test_spans(text: str, seconds: float | None) -> None:
    assert span_s(text) == (pytest.approx(seconds) if seconds is not None else None)


def test_a_retry_after_that_is_none() -> None:
    assert retry_after_s({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}) is None
    assert retry_after_s({"retry-after": "-3"}) is None
    assert retry_after_s({"retry-after": "3", "retry-after-ms": "250"}) == 0.25


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["take", "head", "settle"]),
            st.floats(0, 20_000),
            st.sampled_from([200, 429, 503, 529]),
            st.sampled_from(["", "-1", "0", "5", "10000", "1e9", "x", "1m"]),
            st.floats(0, 30),
        ),
        max_size=60,
    ),
    st.sampled_from([None, 1, 1_000, 100_000]),
)
def test_nothing_that_is_told_stops_it_for_good(events: list[tuple[str, float, int, str, float]], limit: int | None) -> None:
    hosted = HostedCapacity(Capacity(hosted=True, tokens_per_minute=limit, requests_per_minute=limit))
    now_s = 0.0
    for kind, tokens, status, value, wait_s in events:
        now_s += wait_s
        now = at(now_s)
        if kind == "take":
            hosted.take(tokens, now)
        elif kind == "settle":
            hosted.settle(tokens, tokens / 2, now)
        else:
            parts = [f"x-ratelimit-{part}-{what}" for part in ("limit", "remaining", "reset") for what in ("requests", "tokens")]
            hosted.head(status, [*((name, value) for name in parts), ("retry-after", value)], now)
    assert hosted.next_at(100, at(now_s)) >= at(now_s)
    now = at(now_s)
    for _ in range(200):
        then = hosted.next_at(100, now)
        if then <= now:
            break
        now = then
    assert hosted.room(100, now)
