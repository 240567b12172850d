"""A hosted provider whose minute is almost used up: nobody sees its 429, nothing of the minute is lost, and both tenants get their part."""

import asyncio

from gateway_bench import JSON, FakeExchange, whole
from gateway_engine import Engine, SharedBench, shared_settings

from headway.config.model import Admission, Provider, Settings, Tenant
from headway.gateway.upstream.port import UpstreamRequest


class Provided(Engine):
    """A bucket of ``limit`` requests a minute, told in headers as OpenAI tells it."""

    def __init__(self, limit: float, left: float, tells: bool = True) -> None:
        super().__init__()
        self.limit, self.left, self.tells = limit, left, tells
        self.at = asyncio.get_running_loop().time()
        self.began = self.at
        self.answered = self.refused = 0
        self.order: list[bytes] = []

    async def exchange(self, request: UpstreamRequest) -> FakeExchange:
        now = asyncio.get_running_loop().time()
        self.left, self.at = min(self.limit, self.left + (now - self.at) * self.limit / 60), now
        fits = self.left >= 1
        self.left -= fits
        headers = [*JSON]
        if self.tells:
            headers += [
                ("x-ratelimit-limit-requests", f"{self.limit:.0f}"),
                ("x-ratelimit-remaining-requests", f"{int(self.left)}"),
                ("x-ratelimit-reset-requests", f"{60 * (self.limit - self.left) / self.limit:.3f}s"),
            ]
        if not fits:
            self.refused += 1
            return FakeExchange(429, [*headers, ("retry-after-ms", "200")], [b'{"error":{"message":"slow down"}}'])
        self.answered += 1
        self.order.append(request.body)
        await asyncio.sleep(0.01)
        return FakeExchange(200, headers, [whole()])


def hosted(base: Settings, retries_max: int = 0) -> Settings:
    one = Provider(preset="openai", base_url="http://api.test", models=("m",), retries_max=retries_max, admission=Admission())
    return Settings(providers={**base.providers, "engine": one}, features=base.features, tenants=base.tenants)


async def test_the_flow_slows_before_the_first_429_and_is_shared() -> None:
    provider = Provided(limit=600, left=13)
    b = SharedBench(provider, hosted(shared_settings(Admission(), acme=Tenant(), globex=Tenant())))
    assert (await b.ask("globex", "first")).status == 200
    flood = [b.start("acme", f"acme {n}") for n in range(24)]
    await asyncio.sleep(0.05)
    light = [b.start("globex", f"globex {n}") for n in range(6)]
    replies = await asyncio.gather(*flood, *light)
    took_s = asyncio.get_running_loop().time() - provider.began
    assert provider.refused == 0
    assert all(reply.status == 200 for reply in replies)
    # One in a hundred of the limit is never asked for, and the minute comes back ten a second.
    assert took_s < (31 - 13 + 6 + 3) / 10 + 0.5
    last = max(n for n, body in enumerate(provider.order) if b"globex" in body)
    assert last < 28, "the flood does not go before the light tenant"


async def test_where_nothing_is_told_a_429_teaches_and_costs_no_caller_its_answer() -> None:
    provider = Provided(limit=600, left=5, tells=False)
    b = SharedBench(provider, hosted(shared_settings(Admission()), retries_max=4))
    replies = []
    for n in range(14):
        replies.append(await b.ask("acme", f"call {n}"))
    assert all(reply.status == 200 for reply in replies)
    assert 1 <= provider.refused <= 3
