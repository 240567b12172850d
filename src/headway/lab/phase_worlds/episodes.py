"""Causes that are more than one call's: a cache gone cold, another route for a while, neighbours."""

import random
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from headway.calls.phases.model import Cause
from headway.lab.phase_worlds import hosted, own
from headway.lab.phase_worlds.model import Asked
from headway.lab.phase_worlds.places import USUAL, Place
from headway.lab.phase_worlds.plan import TARGETS, Plan
from headway.lab.phase_worlds.traffic import Tenant, call

TOGETHER: Final = frozenset({Cause.COLD_CACHE, Cause.ROUTE_CHANGE, Cause.NEIGHBOUR})
ROUTE_CALLS: Final = 13
"""So long another route is taken each time."""
NEIGHBOUR_CALLS: Final = 17
"""So many calls a hosted provider lets wait each time."""
WAIT_SIGMA: Final = 0.15
WARM_CALLS: Final = 36
"""Of each tenant that goes away later."""
ROUNDS: Final = 5
"""They go away and come back so often."""
AWAY_MS: Final = 720_000.0
PREFIX_TOKENS_MIN: Final = 1_024
AGGRESSOR_TOKENS: Final = 7_000
AGGRESSOR_OUTPUT_TOKENS: Final = 2
BULK: Final = "bulk"


def stretches(first: int, count: int, length: int, wanted: int) -> list[range]:
    """Places of ``wanted`` calls in all, ``length`` in a row each time, evenly spread over ``first`` to ``count``."""
    many = -(-wanted // length)
    apart = (count - first) // many
    return [range(first + number * apart, first + number * apart + length) for number in range(many)]


def take_routes(
    slower: float, asked: list[Asked], targets: Sequence[int], ms: Mapping[int, float], only_far: bool
) -> dict[int, Place]:
    """Stretches of ROUTE_CALLS go to a place each, by turns one that is further away and one that is ``slower`` at everything; or all are only further
    away."""
    places = {0: USUAL}
    for number, n in enumerate(targets):
        route = 1 + number // ROUTE_CALLS
        far = only_far or route % 2 == 1
        places[route] = Place(name=f"place-{route}", slower=1.0 if far else slower)
        asked[n] = msgspec.structs.replace(asked[n], route=route, waits_ms=ms[n] if far else 0.0)
    return places


def sleepers(plan: Plan, ms: float, rng: random.Random, like: Tenant) -> tuple[list[Asked], list[Tenant]]:
    """(calls that warm their prompts, who they are): tenants with a prefix that costs ``ms`` to read."""
    prefix = hosted.tokens_for(plan.family, ms) if plan.hosted else own.tokens_for(plan.family, ms, 0)
    who = [Tenant(f"sleeper-{n + 1}", max(PREFIX_TOKENS_MIN, prefix), like.tail, like.output) for n in range(TARGETS // ROUNDS)]
    apart_ms = 1_000 / plan.per_s
    begun_ms = len(who) * (2 * ms + apart_ms)  # each reads its prompt the first time before they all go on
    at = [
        (
            each,
            k,
            (n + rng.random() / 4) * (2 * ms + apart_ms) if k == 0 else begun_ms + (k * len(who) + n + rng.random()) * apart_ms,
        )
        for n, each in enumerate(who)
        for k in range(WARM_CALLS)
    ]
    warm = [call(plan.family.shape, each, rng, f"warm-{each.name}-{k}", at_ms) for each, k, at_ms in at]
    return sorted(warm, key=lambda each: each.at_ms), who


def burst(plan: Plan, target: Asked, ms: float, number: int) -> list[Asked]:
    """Prompts that keep the engine busy from before its load was asked last until ``ms`` after ``target`` came. Every other time they are of
    callers that our gateway never sees."""
    early_ms = plan.family.scrape_ms * 1.1
    tokens = _work(plan, early_ms + ms)
    many = max(1, round(tokens / AGGRESSOR_TOKENS))
    return [
        Asked(
            call=f"bulk-{number:03d}-{k:02d}",
            at_ms=max(0.0, target.at_ms - early_ms) + k * 0.01,
            tenant=BULK,
            prefix=f"bulk-{number}-{k}",
            prefix_tokens=0,
            tail_tokens=max(1, tokens // many),
            output_tokens=AGGRESSOR_OUTPUT_TOKENS,
            ours=number % 2 == 0,
        )
        for k in range(many)
    ]


def _work(plan: Plan, ms: float) -> int:
    """Tokens in prompts of AGGRESSOR_TOKENS that take about ``ms``."""
    machine, step = plan.family.machine, plan.family.engine.step_tokens_max
    each = machine.token_ms + machine.base_ms / step + machine.pair_ms * AGGRESSOR_TOKENS / 2
    return max(1, round(ms / each))


def wait_all(asked: list[Asked], targets: Sequence[int], ms: Mapping[int, float], rng: random.Random) -> None:
    """At a hosted provider everybody waits for a while."""
    for n in targets:
        asked[n] = msgspec.structs.replace(asked[n], waits_ms=ms[n] * rng.lognormvariate(0.0, WAIT_SIGMA))
