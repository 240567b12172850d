"""An endpoint that several share, small enough to compute by hand: one engine reads prompts in the order in which they come, one at a time, and
decodes nothing while it reads. Facts come out as a gateway writes them, with the truth of who stalled whom beside them.
"""

import random
from dataclasses import dataclass, field

from headway.calls.admission.model import EndpointView, TenantView
from headway.facts.model import AttemptFact, CallFact, Fact
from headway.facts.token_times import encode
from headway.kernel.ids import new_id
from headway.kernel.instants import MonoNs, WallMs

FLOOR_MS = 20.0
MS_PER_TOKEN = 0.1
DECODE_MS = 15.0
GIANT_TOKENS = 28_000
NS = 1_000_000


@dataclass
class Wish:
    """A call that wants to run: ``queue_ms`` is what our own gate holds it back."""

    at_ms: float
    tenant: str
    klass: str
    tokens: int
    output: int
    queue_ms: float = 0.0
    endpoint: str = "vllm-0"


@dataclass
class World:
    facts: list[Fact] = field(default_factory=list)
    calls: list[CallFact] = field(default_factory=list)
    stalled_ms: dict[tuple[str, str], float] = field(default_factory=dict)
    """(victim, aggressor) before the first token: exactly what the engine spent on the other's prompt while one waited for one's own."""


def small(rng: random.Random, at_ms: float, tenants: list[str]) -> Wish:
    return Wish(at_ms, rng.choice(tenants), "interactive", rng.randint(100, 400), rng.randint(10, 60))


def wishes(seed: int, minutes: float, a_second: float, giants_at_s: list[float], tenants: list[str]) -> list[Wish]:
    """Small calls as they come by chance, giants of tenant ``reports`` at given seconds."""
    rng, at, made = random.Random(seed), 0.0, []
    while at < minutes * 60_000:
        at += rng.expovariate(a_second / 1000)
        made.append(small(rng, at, tenants))
    made += [Wish(s * 1000, "reports", "batch", GIANT_TOKENS, 300) for s in giants_at_s]
    return sorted(made, key=lambda wish: wish.at_ms)


def played(found: list[Wish], began_wall_ms: int) -> World:
    """Run the wishes through the engine."""
    world, free, reading = World(), {}, {}
    for wish in found:
        admitted = wish.at_ms + wish.queue_ms
        start = max(admitted, free.get(wish.endpoint, 0.0))
        cost = MS_PER_TOKEN * wish.tokens
        first = start + cost + FLOOR_MS
        free[wish.endpoint] = start + cost
        for tenant, begin, end in reading.setdefault(wish.endpoint, []):
            lost = min(end, start) - max(begin, admitted)
            if lost > 0:
                key = (wish.tenant, tenant)
                world.stalled_ms[key] = world.stalled_ms.get(key, 0.0) + lost
        reading[wish.endpoint].append((wish.tenant, start, start + cost))
        reading[wish.endpoint] = reading[wish.endpoint][-50:]
        reads = [first + i * DECODE_MS for i in range(wish.output)]
        _add(world, wish, began_wall_ms, first, reads)
    return world


def _add(world: World, wish: Wish, began: int, first: float, reads: list[float]) -> None:
    started = began + int(wish.at_ms)
    from_start = [read - wish.at_ms for read in reads]
    call = CallFact(
        call=new_id("call", WallMs(started)),
        started_wall_ms=started,
        duration_ms=from_start[-1] + 1,
        gateway="gw-1",
        tenant=wish.tenant,
        klass=wish.klass,
        feature="reports" if wish.klass == "batch" else "search",
        requested="search",
        routed="vllm/qwen3-32b",
        answered="qwen3-32b",
        dialect="openai-chat",
        stream=True,
        status=200,
        attempts=1,
        committed=True,
        first_token_ms=first - wish.at_ms,
        queue_ms=wish.queue_ms,
        input_tokens=wish.tokens,
        cached_tokens=0,
        output_tokens=wish.output,
        usage_source="reported",
        cost_nano_usd=0,
        cost_source="free",
    )
    attempt = AttemptFact(
        call=call.call,
        attempt=1,
        started_wall_ms=started,
        gateway="gw-1",
        provider="vllm",
        endpoint=wish.endpoint,
        upstream_model="qwen3-32b",
        answered="qwen3-32b",
        status=200,
        queue_ms=wish.queue_ms,
        head_ms=wish.queue_ms + 2,
        first_token_ms=first - wish.at_ms,
        last_token_ms=from_start[-1],
        duration_ms=from_start[-1] + 1,
        input_tokens=wish.tokens,
        output_tokens=wish.output,
        cached_tokens=0,
        chunks=len(reads),
        token_times=encode(MonoNs(0), [int(read * NS) for read in from_start]),
    )
    world.calls.append(call)
    world.facts += [call, attempt]


def view(endpoint: str = "vllm-0", *, served: float = 0.0, queued: int = 7, degraded: bool = False) -> EndpointView:
    """An endpoint under load, as a gateway tells it."""
    tenants = (
        TenantView(
            tenant="acme",
            weight=2.0,
            queued=0,
            running=9,
            outstanding_tokens=4_100,
            served_tokens=served * 2,
            counter_tokens=900,
            oldest_wait_ms=0.0,
        ),
        TenantView(
            tenant="globex",
            weight=1.0,
            queued=2,
            running=3,
            outstanding_tokens=1_950,
            served_tokens=served,
            counter_tokens=950,
            oldest_wait_ms=140.0,
        ),
        TenantView(
            tenant="reports",
            weight=1.0,
            queued=queued - 2,
            running=1,
            outstanding_tokens=31_000,
            served_tokens=served * 1.5,
            counter_tokens=1_400,
            oldest_wait_ms=8_400.0,
            demoted=True,
        ),
    )
    return EndpointView(
        endpoint=endpoint,
        policy="lanes",
        submitted=5_240 + queued + 13,
        queued=queued,
        running=13,
        done=5_200,
        refused=37,
        evicted=3,
        in_flight_tokens=37_050,
        tokens_max=41_408,
        requests_max=128,
        long_queued=queued - 2,
        long_running=1,
        paced_pieces=1,
        pacing="on",
        wait_forecast_ms=310.0,
        wait_forecast_low_ms=120.0,
        wait_forecast_high_ms=900.0,
        shared="degraded" if degraded else "local",
        tenants=tenants,
    )
