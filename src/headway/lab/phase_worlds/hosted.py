"""A hosted provider under a world's calls: each call by itself, behind waits that nobody sees."""

import math
import random
from collections.abc import Mapping, Sequence
from typing import Final

from headway.lab.phase_worlds.families import Family
from headway.lab.phase_worlds.model import Asked, Timed
from headway.lab.phase_worlds.places import Place

CACHE_TTL_MS: Final = 360_000.0
CACHE_TOKENS_MIN: Final = 512
GAP_SIGMA: Final = 0.2
OUR_MS_MAX: Final = 1.5


class HostedPlace:
    """One world's provider. ``run`` once, calls in order of time."""

    def __init__(self, family: Family, places: Mapping[int, Place], seed: str) -> None:
        self._family, self._places = family, places
        self._seed = seed
        self._swing = random.Random(f"hosted:{seed}").random() * 2 * math.pi
        self._used_ms: dict[str, float] = {}

    def run(self, asked: Sequence[Asked]) -> dict[str, Timed]:
        return {each.call: self._serve(each) for each in sorted(asked, key=lambda one: one.at_ms)}

    def _serve(self, each: Asked) -> Timed:
        rng = random.Random(
            f"hosted:{self._seed}:{each.call}"
        )  # its own, so that nothing done to one call changes another's chance
        noise, hosted = self._family.noise, self._family.hosted
        place = self._places[each.route]
        sent = each.at_ms + each.hold_ms + sum(ms for _, ms in each.tries) + rng.random() * OUR_MS_MAX
        cached = self._cached(each, sent)
        swing = 1 + noise.drift * math.sin(self._swing + 2 * math.pi * sent / noise.drift_period_ms)
        usual = hosted.ttft_ms(each.prompt_tokens - cached) * swing * rng.lognormvariate(0.0, noise.first_sigma)
        at = sent + usual * place.slower + each.waits_ms
        pace = hosted.tpot_ms(rng.random()) * place.slower * rng.lognormvariate(0.0, noise.pace_sigma)
        tokens = [at]
        for _ in range(each.output_tokens - 1):
            at += pace * max(0.1, 1 + rng.gauss(0.0, GAP_SIGMA))
            tokens.append(at)
        return Timed(
            sent_ms=sent,
            token_ms=tuple(tokens),
            cached_tokens=cached,
            remaining_share=0.02 if _near(each) else rng.uniform(0.3, 0.9),
        )

    def _cached(self, each: Asked, now_ms: float) -> int:
        last, self._used_ms[each.prefix] = self._used_ms.get(each.prefix), now_ms
        grain = self._family.cache_grain_tokens
        warm = last is not None and now_ms - last <= CACHE_TTL_MS and not each.evicted and each.prefix_tokens >= CACHE_TOKENS_MIN
        return each.prefix_tokens // grain * grain if warm else 0


def _near(each: Asked) -> bool:
    return any(status == 429 for status, _ in each.tries)


def tokens_for(family: Family, ms: float) -> int:
    return max(1, round(ms / family.hosted.token_ms))
