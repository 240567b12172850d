"""Giants among many small: the worlds no_giant, one_giant and five_giants.

12 small requests a second (100 to 400 prompt tokens, 60 to 200 answered) for 60 s, exponential gaps; giants of 28,000 prompt tokens with 1,500
answered, all at once 20 s into the load. Small requests are judged that arrive within the window after the first giant.
"""

import random

import msgspec

from headway.kernel.instants import NS_PER_S
from headway.lab.worlds.model import Ask

GIANTS_AT_S = 20.0
SMALL, GIANT = "small", "giant"


class GiantsWorld(msgspec.Struct, frozen=True, kw_only=True):
    """``window_s`` after the first giant small arrivals are judged."""

    giants: int
    window_s: float = 10.0
    load_s: float = 60.0
    small_per_s: float = 12.0
    small_tenants: int = 8
    giant_tokens: int = 28_000
    giant_output_tokens: int = 1_500
    giants_at_s: float = GIANTS_AT_S
    block_tokens: int = 16
    estimate_sigma: float = 0.1
    """One sigma of the gateway's error about prompt tokens (log-normal)."""

    def asks(self, seed: int) -> list[Ask]:
        """The small ones are the same for any number of giants, so that arms and worlds of one seed are pairs."""
        return sorted([*self._small(seed), *self._giants(seed)], key=lambda ask: (ask.at, ask.call))

    def judged(self, ask: Ask) -> bool:
        start = self.giants_at_s * NS_PER_S
        return ask.band == SMALL and start <= ask.at < start + self.window_s * NS_PER_S

    def _small(self, seed: int) -> list[Ask]:
        rng = random.Random(f"small:{seed}")
        asks: list[Ask] = []
        at_s = rng.expovariate(self.small_per_s)
        while at_s < self.load_s:
            prompt, output = rng.randint(100, 400), rng.randint(60, 200)
            asks.append(
                self._ask(
                    rng,
                    call=f"small-{len(asks):05d}",
                    at=int(at_s * NS_PER_S),
                    tenant=f"chat-{rng.randrange(self.small_tenants) + 1}",
                    band=SMALL,
                    prompt_tokens=prompt,
                    output_tokens=output,
                    output_tokens_max=256,
                )
            )
            at_s += rng.expovariate(self.small_per_s)
        return asks

    def _giants(self, seed: int) -> list[Ask]:
        rng = random.Random(f"giants:{seed}")
        return [
            self._ask(
                rng,
                call=f"giant-{number}",
                at=int(self.giants_at_s * NS_PER_S),
                tenant=f"papers-{number}",
                band=GIANT,
                prompt_tokens=self.giant_tokens,
                output_tokens=self.giant_output_tokens,
                output_tokens_max=2_000,
            )
            for number in range(1, self.giants + 1)
        ]

    def _ask(self, rng: random.Random, *, prompt_tokens: int, **fields: object) -> Ask:
        blocks = tuple(rng.getrandbits(62) for _ in range(prompt_tokens // self.block_tokens))
        believed = max(1, round(prompt_tokens * rng.lognormvariate(0.0, self.estimate_sigma)))
        return Ask(prompt_tokens=prompt_tokens, blocks=blocks, estimate_tokens=believed, **fields)  # type: ignore[arg-type]


WORLDS = {
    "no_giant": GiantsWorld(giants=0),
    "one_giant": GiantsWorld(giants=1, window_s=2.0),
    "five_giants": GiantsWorld(giants=5),
}
