"""Two tenants' calls of a day at two models, and an hour in which some are slow, each for a known reason; four of them take 2,340 ms."""

import random

import msgspec

from headway.facts.model import AttemptFact, CallFact, Fact
from headway.facts.token_times import encode
from headway.kernel.ids import new_id
from headway.kernel.instants import MonoNs, WallMs

GATEWAY = "gw-1"
HOUR_MS = 3_600_000
TWIN_MS = 2_340.0
MODELS = (("openai", "gpt-5-mini", "eu-west"), ("anthropic", "claude-sonnet-4-5", "eu-central"))
PREFIX_MS, TOKEN_MS, PACE_MS = 140.0, 0.12, 9.0


class Shape(msgspec.Struct, kw_only=True):
    """What a call is made of; milliseconds."""

    tenant: str
    feature: str
    place: int = 0
    input_tokens: int = 1_500
    cached_tokens: int = 1_100
    output_tokens: int = 70
    queue_ms: float = 0.0
    refused_ms: float = 0.0
    """A 429 with its wait before the attempt that answered."""
    late_ms: float = 0.0
    """Nobody says why."""
    pace_ms: float = PACE_MS
    blocked_ms: float = 0.0
    region: str = ""
    why: str = ""


def facts_of(shape: Shape, started: int, rng: random.Random) -> list[Fact]:
    """The call and its attempts."""
    call = new_id("call", WallMs(started))
    provider, model, region = MODELS[shape.place]
    lead = shape.queue_ms + shape.refused_ms
    uncached = shape.input_tokens - shape.cached_tokens
    first = PREFIX_MS + TOKEN_MS * uncached + shape.late_ms + abs(rng.gauss(0, 6))
    reads = [first]
    for _ in range(shape.output_tokens - 1):
        reads.append(reads[-1] + shape.pace_ms * rng.uniform(0.93, 1.07))
    blocked = (reads[-1] - 5, reads[-1] - 5 + shape.blocked_ms) if shape.blocked_ms else ()
    last = reads[-1] + shape.blocked_ms
    took = last + rng.uniform(1, 4)
    attempts: list[Fact] = []
    if shape.refused_ms:
        attempts.append(
            AttemptFact(
                call=call,
                attempt=1,
                started_wall_ms=started,
                gateway=GATEWAY,
                provider=provider,
                endpoint=provider,
                upstream_model=model,
                status=429,
                outcome="upstream_error",
                error_detail="429: rate limit reached",
                start_ms=0.0,
                sent_ms=1.0,
                duration_ms=60.0,
                retry_after_ms=int(shape.refused_ms),
            )
        )
    number = len(attempts) + 1
    begin = shape.refused_ms
    attempts.append(
        AttemptFact(
            call=call,
            attempt=number,
            started_wall_ms=started + int(begin),
            gateway=GATEWAY,
            provider=provider,
            endpoint=provider,
            upstream_model=model,
            answered=model,
            region=shape.region or region,
            status=200,
            queue_ms=shape.queue_ms,
            start_ms=begin,
            sent_ms=shape.queue_ms + 1.0,
            head_ms=shape.queue_ms + first * 0.9,
            first_token_ms=shape.queue_ms + first,
            last_token_ms=shape.queue_ms + last,
            duration_ms=shape.queue_ms + took,
            input_tokens=shape.input_tokens,
            output_tokens=shape.output_tokens,
            cached_tokens=shape.cached_tokens,
            chunks=len(reads),
            token_times=_encoded(
                [int((shape.queue_ms + at) * 1_000) for at in reads[:-1]] + [int((shape.queue_ms + last) * 1_000)]
            ),
            blocked_times=_encoded([int((shape.queue_ms + at) * 1_000) for at in blocked]) if blocked else b"",
        )
    )
    fact = CallFact(
        call=call,
        started_wall_ms=started,
        duration_ms=lead + took,
        gateway=GATEWAY,
        tenant=shape.tenant,
        feature=shape.feature,
        klass="interactive",
        requested=shape.feature,
        dialect="openai-chat",
        path="/v1/chat/completions",
        stream=True,
        routed=f"{provider}/{model}",
        answered=model,
        region=shape.region or region,
        status=200,
        stop="end",
        attempts=number,
        committed=True,
        first_token_ms=lead + first,
        queue_ms=shape.queue_ms,
        input_tokens=shape.input_tokens,
        output_tokens=shape.output_tokens,
        cached_tokens=shape.cached_tokens,
        usage_source="reported",
        cost_nano_usd=1_200_000,
        blocked_ms=shape.blocked_ms,
    )
    return [fact, *attempts]


def _encoded(instants_us: list[int]) -> bytes:
    """Instants in nanoseconds of a clock that stood at 0 when the attempt began."""
    return encode(MonoNs(0), [at * 1_000 for at in instants_us])


def usual(rng: random.Random) -> Shape:
    place = 0 if rng.random() < 0.7 else 1
    tokens = rng.randint(1_200, 1_900)
    return Shape(
        tenant=rng.choice(("acme", "globex")),
        feature="search" if place == 0 else "summaries",
        place=place,
        input_tokens=tokens,
        cached_tokens=1_100,
        output_tokens=rng.randint(55, 90),
    )


def slow_kinds(rng: random.Random) -> list[Shape]:
    """One of each reason, near TWIN_MS."""
    base = PREFIX_MS + TOKEN_MS * 400 + 69 * PACE_MS
    over = TWIN_MS - base
    kinds = [
        Shape(tenant="acme", feature="search", queue_ms=over, why="own_queue"),
        Shape(tenant="acme", feature="search", refused_ms=over, why="throttling"),
        Shape(tenant="globex", feature="search", input_tokens=1_500 + int(over / TOKEN_MS), why="long_prompt"),
        Shape(tenant="globex", feature="search", output_tokens=70 + int(over / PACE_MS), why="longer_output"),
        Shape(tenant="acme", feature="search", blocked_ms=over, why="slow_reader"),
        Shape(tenant="acme", feature="search", pace_ms=PACE_MS + over / 69, why="slow_decode"),
        Shape(tenant="globex", feature="search", late_ms=over, why="cannot_tell"),
    ]
    return [msgspec.structs.replace(kind, output_tokens=kind.output_tokens + rng.randint(0, 1)) for kind in kinds]


def hour(seed: int, now: int, calls: int = 900, each: int = 4) -> list[list[Fact]]:
    """``calls`` over the last 20 hours, ``each`` of every reason in the last 50 minutes, and a slower region from 25 minutes ago on."""
    rng = random.Random(seed)
    found: list[tuple[int, Shape]] = [(now - int(20 * HOUR_MS * rng.random() ** 1.6) - 60_000, usual(rng)) for _ in range(calls)]
    for _ in range(each):
        found += [(now - rng.randint(2, 50) * 60_000, kind) for kind in slow_kinds(rng)]
    for minute in range(25, 2, -1):
        moved = msgspec.structs.replace(
            usual(rng), place=1, feature="summaries", region="us-east", late_ms=700 + rng.uniform(-60, 60), why="route_change"
        )
        found.append((now - minute * 60_000 + rng.randint(0, 20_000), moved))
    return [facts_of(shape, at, rng) for at, shape in sorted(found, key=lambda pair: pair[0])]
