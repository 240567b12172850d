"""What is left of a call goes to an upstream that was configured to be told, in our number; a caller's own header goes nowhere."""

import pytest
from gateway_bench import JSON, Bench, FakeExchange, chat, settings, whole

from headway.config.model import Feature, Provider, Settings, Timeouts
from headway.gateway.deadlines import told_deadline
from headway.gateway.upstream.port import UpstreamRequest

NAME = "x-request-timeout-ms"


def answer(request: UpstreamRequest) -> FakeExchange:
    return FakeExchange(200, JSON, [whole()])


def configured(header: str, deadline_ms: int | None = None, total_ms: int = 600_000) -> Settings:
    base = settings(chat=Feature(targets=("one/m1",), deadline_ms=deadline_ms))
    one = Provider(
        preset="vllm", base_url="http://one.test", models=("m1",), deadline_header=header, timeouts=Timeouts(total_ms=total_ms)
    )
    return Settings(providers={**base.providers, "one": one}, features=base.features, tenants=base.tenants)


async def sent(config: Settings, **headers: str) -> UpstreamRequest:
    bench = Bench(answer, config=config)
    await bench.call(chat(), **headers)
    return bench.upstream.requests[0]


async def test_the_time_left_is_told_and_holds() -> None:
    request = await sent(configured("X-Request-Timeout-Ms", deadline_ms=5_000))
    told = int(dict(request.headers)[NAME])
    assert request.remaining_ms is not None
    assert 4_000 < told <= request.remaining_ms <= 5_000


async def test_a_callers_deadline_counts_in_our_number() -> None:
    request = await sent(configured(NAME, deadline_ms=5_000), x_headway_deadline_ms="700", x_request_timeout_ms="999999")
    assert 0 < int(dict(request.headers)[NAME]) <= 700
    assert not any(name.startswith("x-headway") for name, _ in request.headers)


async def test_without_a_deadline_the_timeout_is_what_is_left() -> None:
    request = await sent(configured(NAME, total_ms=45_000))
    assert dict(request.headers)[NAME] == "45000"


async def test_nobody_is_told_who_was_not_configured() -> None:
    request = await sent(configured("", deadline_ms=5_000), x_headway_deadline_ms="700", x_request_timeout_ms="1")
    assert not {name for name, _ in request.headers} & {NAME, "x-headway-deadline-ms"}
    assert request.remaining_ms is not None
    assert request.remaining_ms <= 700


@pytest.mark.parametrize(("remaining", "told"), [(0.2, "1"), (-5.0, "1"), (899.9, "899"), (10_000_000.0, "1000"), (None, "1000")])
def test_whole_milliseconds_within_the_timeout(remaining: float | None, told: str) -> None:
    provider = Provider(deadline_header=NAME, timeouts=Timeouts(total_ms=1_000))
    assert told_deadline(provider, remaining) == ((NAME, told),)
