"""Seeded facts for the contract: every type, nulls, empty lists, text beyond ASCII, retried calls, one file from before some columns."""

import random
from pathlib import Path

import pyarrow.parquet as pq
from engine_cases import HOUR_MS, T0_WALL_MS

from headway.facts.model import AttemptFact, CallFact, RecordingFact, SpanFact
from headway.facts.parquet import arrow_table

CALLS = 3_000
FILES, SPANS = 3, 2_000
TABLES = ("call", "attempt", "span", "recording")
ENDPOINTS = ("gpu-1", "gpu-2")
OUTCOMES = ("done",) * 12 + ("refused", "upstream_error", "timeout", "client_gone", "evicted")


def write(folder: Path, seed: int) -> None:
    rng = random.Random(seed)
    pairs = [_call(number, rng) for number in range(CALLS)]
    for table in TABLES:
        (folder / table).mkdir(parents=True)
    pq.write_table(arrow_table("span", [_span(number, rng) for number in range(SPANS)]), folder / "span" / "0.parquet")
    pq.write_table(arrow_table("recording", [_recording(number, rng) for number in range(100)]), folder / "recording" / "0.parquet")
    size = -(-CALLS // FILES)
    for number in range(FILES):
        part = pairs[number * size : (number + 1) * size]
        pq.write_table(arrow_table("call", [call for call, _ in part]), folder / "call" / f"{number}.parquet")
        pq.write_table(
            arrow_table("attempt", [each for _, tries in part for each in tries]), folder / "attempt" / f"{number}.parquet"
        )


def _call(number: int, rng: random.Random) -> tuple[CallFact, list[AttemptFact]]:
    name, started = f"call_{number:06d}", T0_WALL_MS + rng.randrange(6 * HOUR_MS)
    outcome = rng.choice(OUTCOMES)
    first = round(rng.lognormvariate(6, 1), 3) if outcome == "done" or rng.random() < 0.3 else None
    prompt = rng.choice((40, 300, 2_500, 20_000, 60_000))
    tries = rng.choice((1, 1, 1, 2)) if outcome != "refused" else 0
    leases = tuple(f"lease-{rng.randrange(9)}" for _ in range(rng.randrange(3)))
    call = CallFact(
        call=name,
        started_wall_ms=started,
        duration_ms=round((first or 200.0) * rng.uniform(1, 5), 3),
        gateway="g",
        origin=rng.choice(("client", "client", "client", "probe", "piece")),
        tenant=rng.choice(("tenant-0", "tenant-1", "größe", "")),
        klass=rng.choice(("interactive", "batch", "")),
        feature=rng.choice(("search", "chat", "суп")),
        requested="search",
        routed=f"prov/model-{rng.randrange(3)}",
        answered=f"Model-{rng.randrange(3)}",
        outcome=outcome,
        first_token_ms=first,
        queue_ms=round(rng.expovariate(1 / 50), 3),
        attempts=tries,
        input_tokens=prompt if rng.random() < 0.9 else None,
        output_tokens=rng.randrange(400) if first else None,
        cached_tokens=rng.choice((None, 0, prompt // 2)),
        prompt_tokens_estimate=prompt,
        cost_nano_usd=rng.randrange(10**9) if rng.random() < 0.8 else None,
        leases=leases,
        lease_charges=tuple(rng.randrange(10**6) for _ in leases),
        prefix_hashes=tuple(rng.randrange(2**62) for _ in range(rng.randrange(4))),
        config_generation=1 + number // 500,
        stream=rng.random() < 0.5,
    )
    return call, [_attempt(name, at + 1, started, first, rng) for at in range(tries)]


def _attempt(call: str, attempt: int, started: int, first: float | None, rng: random.Random) -> AttemptFact:
    return AttemptFact(
        call=call,
        attempt=attempt,
        started_wall_ms=started + attempt,
        gateway="g",
        endpoint=rng.choice(ENDPOINTS),
        provider=f"prov-{rng.randrange(3)}",
        cached_tokens=rng.choice((None, 0, 100)),
        engine_waiting=rng.choice((None, None, 3)),
        upstream_model=f"model-{rng.randrange(3)}",
        status=rng.choice((200, 200, 429, 0)),
        queue_ms=round(rng.expovariate(1 / 20), 3),
        first_token_ms=first,
        duration_ms=round((first or 100.0) * 2, 3),
        token_times=bytes(rng.randrange(128) for _ in range(rng.randrange(5))),
        chunks=rng.randrange(40),
    )


def _span(number: int, rng: random.Random) -> SpanFact:
    start = (T0_WALL_MS + rng.randrange(6 * HOUR_MS)) * 1000
    return SpanFact(
        trace=f"{number // 8:032x}",
        span=f"{number:016x}",
        parent=f"{number - 1:016x}" if number % 8 else "",
        name=rng.choice(("auth", "поиск")),
        kind="server",
        start_wall_us=start,
        at_wall_us=start,
        duration_us=rng.randrange(1, 10**6),
        tenant=rng.choice(("tenant-1", "tenant-2")),
        awaited=rng.random() < 0.8,
        input_tokens=rng.choice((None, 7)),
        inputs=("a", "b")[: rng.randrange(3)],
    )


def _recording(number: int, rng: random.Random) -> RecordingFact:
    at = T0_WALL_MS + rng.randrange(6 * HOUR_MS)
    prompt = rng.choice(("größer als ein Wort", "short", "日本語のとても長い文章です。続きます", ""))
    return RecordingFact(
        call=f"call_{number:06d}", feature="f", tenant="t", at_wall_ms=at, keep_until_wall_ms=at + 1, prompt=prompt
    )
