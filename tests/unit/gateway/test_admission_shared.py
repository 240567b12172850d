"""Gateways that share counters through a real Redis: fair together, exactly once, and each by itself while the store is away."""

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest

from headway.calls.admission.model import Capacity, EndpointAdmission, Share
from headway.calls.admission.others import Others
from headway.calls.admission.policy import AdmissionPolicy
from headway.calls.conversation import DialectName, Usage
from headway.calls.model import Admit, Arrived, Closed, Effect, Outcome
from headway.gateway.admission.shared import PROBLEM, SharedAdmission
from headway.gateway.admission.shared_counters import Exchange, RedisStore, StoreAway, Told
from headway.kernel.instants import MonoNs, mono_ns, wall_ms

pytestmark = pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")
PLACES, CALL_S = 8, 0.01


class Redis:
    def __init__(self, folder: Path) -> None:
        self.folder, self.socket = folder, folder / "s"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    async def start(self) -> None:
        words = ["redis-server", "--port", "0", "--unixsocket", str(self.socket), "--save", "", "--dir", str(self.folder)]
        self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
        while not self.socket.exists():
            await asyncio.sleep(0.01)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.socket.unlink(missing_ok=True)
            self.process = None


@pytest.fixture
async def redis(tmp_path_factory):
    server = Redis(tmp_path_factory.mktemp("r"))
    await server.start()
    yield server
    server.kill()


class Gateway:
    """A policy whose calls take CALL_S, and tenants that always have ``backlog`` calls waiting here."""

    def __init__(self, name: str, url: str, shares: dict[str, Share], policy: str = "lanes") -> None:
        self.problems: dict[str, str] = {}
        self.shared = SharedAdmission(RedisStore(url, name, prefix="t:"), first_number=wall_ms(), problems=self.problems)
        settings = EndpointAdmission(policy=policy, capacity=Capacity(requests_max=PLACES))
        self.policy = AdmissionPolicy({"e": settings}, shares, default=settings, counters=self.shared.counters_for)
        self.name, self.sent, self.running, self.refused = name, dict.fromkeys(shares, 0), 0, 0
        self.calls: dict[str, str] = {}
        self.busiest = 0
        self.job = asyncio.create_task(self.shared.run(self))

    def own(self, endpoint: str, now: MonoNs) -> Others:
        return self.policy.own(endpoint, now)

    def others_told(self, endpoint: str, others: Others, now: MonoNs) -> None:
        self.do(self.policy.others_told(endpoint, others, now))

    def arrive(self, tenant: str) -> None:
        call = f"{self.name}{len(self.calls)}"
        self.calls[call] = tenant
        event = Arrived(
            call=call, endpoint="e", tenant=tenant, klass="interactive", feature="f", dialect=DialectName.OPENAI_CHAT,
            prompt_tokens_estimate=100, prompt_tokens_error=0.1, output_tokens_max=50, deadline_remaining_ms=None,
        )  # fmt: skip
        self.do(self.policy.receive(event, mono_ns()))

    def do(self, effects: "list[Effect] | tuple[Effect, ...]") -> None:
        for effect in effects:
            if type(effect) is Admit:
                self.running += 1
                self.busiest = max(self.busiest, self.running)
                asyncio.get_running_loop().call_later(CALL_S, self.end, effect.call)

    def end(self, call: str) -> None:
        tenant = self.calls[call]
        self.running -= 1
        self.sent[tenant] += 1
        usage = Usage(input_tokens=100, output_tokens=50)
        self.do(self.policy.receive(Closed(call=call, endpoint="e", outcome=Outcome.DONE, usage=usage), mono_ns()))

    async def close(self) -> None:
        self.job.cancel()
        await asyncio.gather(self.job, return_exceptions=True)
        await self.shared.close()


async def flood(*pairs: tuple[Gateway, str], calls: int = 1_900) -> None:
    for gateway, tenant in pairs:
        for _ in range(calls):
            gateway.arrive(tenant)


@pytest.mark.parametrize(("weights", "ratio"), [((1.0, 1.0), 1.0), ((3.0, 1.0), 3.0)])
async def test_two_gateways_serve_tenants_by_weight_though_each_sees_one_of_them(redis, weights, ratio):
    shares = {"a": Share(weight=weights[0]), "b": Share(weight=weights[1])}
    one, two = Gateway("one", redis.url, shares), Gateway("two", redis.url, shares)
    one.shared.counters_for("e")
    two.shared.counters_for("e")
    await asyncio.sleep(0.2)
    await flood((one, "a"), (two, "b"))
    await asyncio.sleep(0.5)  # both know of each other
    before = one.sent["a"], two.sent["b"]
    await asyncio.sleep(1.5)
    a, b = one.sent["a"] - before[0], two.sent["b"] - before[1]
    assert a > 50
    assert b > 30
    assert ratio / 1.5 < a / b < ratio * 1.5, (a, b)
    await one.close()
    await two.close()


async def test_together_they_keep_to_the_places_there_are(redis):
    shares = {"a": Share(), "b": Share()}
    one, two = Gateway("one", redis.url, shares), Gateway("two", redis.url, shares)
    await flood((one, "a"), (two, "b"))
    await asyncio.sleep(0.5)
    seen = []
    for _ in range(40):
        await asyncio.sleep(0.02)
        seen.append(one.running + two.running)
    assert sorted(seen)[len(seen) // 2] <= PLACES + 1, seen
    await one.close()
    await two.close()


async def test_a_store_that_dies_fails_no_call_is_told_within_a_second_and_heals(redis):
    shares = {"a": Share(), "b": Share()}
    one, two = Gateway("one", redis.url, shares), Gateway("two", redis.url, shares)
    await flood((one, "a"), (two, "b"), calls=1_900)
    await asyncio.sleep(0.4)
    assert one.policy.view("e", mono_ns()).shared == "shared"
    redis.kill()
    await asyncio.sleep(1.0)
    assert one.problems[PROBLEM]
    view = one.policy.view("e", mono_ns())
    assert view.shared == "degraded"
    assert view.requests_max == PLACES // 2, "each keeps to its part"
    before = one.sent["a"], two.sent["b"]
    await asyncio.sleep(0.4)
    assert one.sent["a"] > before[0]
    assert two.sent["b"] > before[1]
    assert view.refused == view.evicted == 0
    await redis.start()
    await asyncio.sleep(0.8)
    assert PROBLEM not in one.problems
    assert one.policy.view("e", mono_ns()).shared == "shared"
    await one.close()
    await two.close()


async def test_an_exchange_sent_again_counts_once(redis):
    store = RedisStore(redis.url, "one", prefix="t:")
    told = {"a": Told(base=0.0, least=None, delta=7.5)}
    exchange = Exchange(5, Others(), told)
    _, first = await store.exchange("e", exchange)
    _, again = await store.exchange("e", exchange)
    _, other = await store.exchange("e", Exchange(6, Others(), {"a": Told(0.0, 100.25, 2.0)}))
    assert (first["a"], again["a"], other["a"]) == (7.5, 7.5, 102.25)
    await store.close()


async def test_a_store_that_lost_everything_goes_on_from_what_gateways_last_saw(redis):
    store = RedisStore(redis.url, "one", prefix="t:")
    _, values = await store.exchange("e", Exchange(1, Others(), {"a": Told(base=41.5, least=None, delta=1.0)}))
    assert values["a"] == 42.5
    await store.close()


async def test_others_are_summed_and_forgotten_when_they_are_silent(redis, monkeypatch):
    monkeypatch.setattr("headway.gateway.admission.shared_counters.SHARED_GATEWAY_ALIVE_MS", 150)
    one, two = (RedisStore(redis.url, name, prefix="t:") for name in ("one", "two"))
    await two.exchange("e", Exchange(1, Others(requests=3, tokens=1234.5, long=1, queued=9, weight=2.5, least=17.25), {}))
    others, _ = await one.exchange("e", Exchange(1, Others(), {}))
    assert others == Others(gateways=1, requests=3, tokens=1234.5, long=1, queued=9, weight=2.5, least=17.25)
    await asyncio.sleep(0.2)
    others, _ = await one.exchange("e", Exchange(2, Others(), {}))
    assert others == Others()
    await one.close()
    await two.close()


async def test_another_program_on_the_same_keys_is_a_store_that_is_away_not_a_crash(redis):
    from redis import asyncio as client

    strange = client.Redis.from_url(redis.url)
    await strange.set("t:{e}:counters", "a string")
    await strange.aclose()
    store = RedisStore(redis.url, "one", prefix="t:")
    with pytest.raises(StoreAway):
        await store.exchange("e", Exchange(1, Others(), {"a": Told(0.0, None, 1.0)}))
    await store.close()
