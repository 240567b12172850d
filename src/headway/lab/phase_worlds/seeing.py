"""What a gateway would have stored of a world's calls, as ``Seen``. Truth goes no further than beside it."""

import random
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from headway.calls.phases.model import Seen
from headway.lab.phase_worlds.families import Noise
from headway.lab.phase_worlds.model import EPOCH_MS, Asked, Row, Timed
from headway.lab.phase_worlds.places import Place

CLOSE_MS_MAX: Final = 4.0
BLOCK_BEGINS: Final = (0.6, 0.95)
"""A caller stops reading at such a share of its answer."""


class Sight(msgspec.Struct, frozen=True, kw_only=True):
    """What the provider lets see. ``regions`` False: its answers do not say where they come from."""

    hosted: bool
    regions: bool = True


def rows(
    asked: Sequence[Asked], timed: Mapping[str, Timed], places: Mapping[int, Place], sight: Sight, noise: Noise, seed: str
) -> list[Row]:
    """Of the calls that our gateway carried, in order of arrival."""
    ours = sorted((each for each in asked if each.ours), key=lambda each: each.at_ms)
    beside = _beside(ours, timed)
    last_of_tenant: dict[str, float] = {}
    last_of_prefix: dict[str, float] = {}
    made: list[Row] = []
    for each in ours:
        tenant_before, prefix_before = last_of_tenant.get(each.tenant), last_of_prefix.get(each.prefix)
        last_of_tenant[each.tenant] = last_of_prefix[each.prefix] = each.at_ms
        rng = random.Random(f"seen:{seed}:{each.call}")
        seen = _seen(each, timed[each.call], places[each.route], sight, noise, rng)
        seen = msgspec.structs.replace(
            seen,
            prefix_seen_before_ms=None if prefix_before is None else each.at_ms - prefix_before,
            idle_ms=None if tenant_before is None else each.at_ms - tenant_before,
            beside_tokens=None if sight.hosted else beside[each.call][0],
            beside_decode_tokens=None if sight.hosted else beside[each.call][1],
        )
        made.append(Row(seen, each.truth))
    return made


def _seen(each: Asked, timed: Timed, place: Place, sight: Sight, noise: Noise, rng: random.Random) -> Seen:
    reads = _reads(each, timed, noise, rng)
    last = reads[-1]
    close = rng.random() * CLOSE_MS_MAX
    blocked: tuple[tuple[float, float], ...] = ()
    if each.blocked_ms:
        begin = reads[0] + (last - reads[0]) * rng.uniform(*BLOCK_BEGINS)
        until = last + each.blocked_ms  # what came meanwhile lies in the socket and is read at once
        reads = [at if at < begin else until for at in reads]
        blocked, last = ((begin, until),), until
    spent = sum(ms for _, ms in each.tries)
    sent = timed.sent_ms - each.at_ms
    return Seen(
        call=each.call,
        at_ms=EPOCH_MS + round(each.at_ms),
        tenant=each.tenant,
        provider="hosted" if sight.hosted else "own",
        model="lab-1",
        region=place.name if sight.hosted and sight.regions else "",
        tier="default" if sight.hosted else "",
        address="" if sight.hosted else f"{place.name}.example:8000",
        duration_ms=last + close,
        queue_ms=sent - spent,
        sent_ms=sent,
        first_token_ms=reads[0],
        last_token_ms=last,
        token_ms=tuple(reads),
        blocked_ms=sum(until - begin for begin, until in blocked),
        blocked_at_ms=blocked,
        tool_ms=each.tool_ms,
        attempts=1 + len(each.tries),
        attempts_ms=spent,
        throttled_ms=sum(ms for status, ms in each.tries if status in (429, 529)),
        ratelimit_remaining_share=timed.remaining_share,
        input_tokens=each.prompt_tokens,
        cached_tokens=timed.cached_tokens,
        output_tokens=each.output_tokens,
        engine_waiting=timed.waiting,
        engine_running=timed.running,
        hosted=sight.hosted,
    )


def _reads(each: Asked, timed: Timed, noise: Noise, rng: random.Random) -> list[float]:
    """Instants of the tokens from the call's arrival: with the network, with a pause that some calls meet, at the pace that was given."""
    net = noise.net_ms * rng.lognormvariate(0.0, noise.net_sigma)
    pause = rng.random() * noise.hiccup_ms if rng.random() < noise.hiccup else 0.0
    pauses_at = rng.randrange(len(timed.token_ms))
    first = timed.token_ms[0]
    return [
        first + (at - first) * each.pace - each.at_ms + net + (pause if number >= pauses_at else 0.0)
        for number, at in enumerate(timed.token_ms)
    ]


def _beside(ours: Sequence[Asked], timed: Mapping[str, Timed]) -> dict[str, tuple[int, int]]:
    """Uncached prompt tokens of our other calls on the same route that were in prefill at some time while this one was, and while it decoded."""
    reading = dict.fromkeys((each.call for each in ours), 0)
    answering = dict(reading)
    still: dict[int, list[tuple[str, Timed, int]]] = {}
    for each in sorted(ours, key=lambda one: timed[one.call].sent_ms):
        mine = timed[each.call]
        tokens = each.prompt_tokens - mine.cached_tokens
        others = [other for other in still.get(each.route, []) if other[1].token_ms[-1] > mine.sent_ms]
        for name, other, others_tokens in others:
            if other.token_ms[0] > mine.sent_ms:
                reading[each.call] += others_tokens
                reading[name] += tokens
            if other.token_ms[0] > mine.token_ms[0]:
                answering[each.call] += others_tokens
            if mine.token_ms[0] > other.token_ms[0]:
                answering[name] += tokens
        still[each.route] = [*others, (each.call, mine, tokens)]
    return {name: (tokens, answering[name]) for name, tokens in reading.items()}
