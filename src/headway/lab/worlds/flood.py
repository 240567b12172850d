"""One tenant floods: a batch job opens everything at once while others chat. Who is refused is told when to come again, and comes then."""

import random
from typing import Final

import msgspec

from headway.kernel.instants import NS_PER_S
from headway.lab.worlds.model import Ask, Made

FLOOD: Final = "flood"
CHAT: Final = "chat"


class FloodWorld(msgspec.Struct, frozen=True, kw_only=True):
    """``deadline_ms`` is when each call must have been let in at the latest, counted from each of its tries."""

    calls: int = 1_500
    opens_over_s: float = 10.0
    flood_at_s: float = 10.0
    chat_per_s: float = 5.0
    chat_tenants: int = 5
    load_s: float = 90.0
    deadline_ms: float = 20_000.0
    comes_again: int = 8
    block_tokens: int = 16

    def asks(self, seed: int) -> list[Ask]:
        rng = random.Random(f"flood:{seed}")
        asks = [
            self._ask(rng, f"flood-{number:05d}", FLOOD, FLOOD, self.flood_at_s + rng.random() * self.opens_over_s)
            for number in range(self.calls)
        ]
        at_s = rng.expovariate(self.chat_per_s)
        while at_s < self.load_s:
            tenant = f"chat-{rng.randrange(self.chat_tenants) + 1}"
            asks.append(self._ask(rng, f"chat-{len(asks):05d}", tenant, CHAT, at_s))
            at_s += rng.expovariate(self.chat_per_s)
        return sorted(asks, key=lambda ask: (ask.at, ask.call))

    def _ask(self, rng: random.Random, call: str, tenant: str, band: str, at_s: float) -> Ask:
        prompt = rng.randint(200, 1_200) if band == FLOOD else rng.randint(100, 400)
        return Ask(
            call=call,
            at=int(at_s * NS_PER_S),
            tenant=tenant,
            band=band,
            prompt_tokens=prompt,
            output_tokens=rng.randint(60, 200),
            output_tokens_max=256,
            blocks=tuple(rng.getrandbits(62) for _ in range(prompt // self.block_tokens)),
            estimate_tokens=max(1, round(prompt * rng.lognormvariate(0.0, 0.1))),
            deadline_ms=self.deadline_ms,
            retries_max=self.comes_again,
        )


class Returns(msgspec.Struct, frozen=True, kw_only=True):
    """Tries that came at the time they had been told, and how many of them were let in within their deadline."""

    came: int
    admitted: int
    refused_first: int
    """Calls refused at their first try."""

    @property
    def share(self) -> float:
        return self.admitted / self.came if self.came else 0.0


def returns(made: list[Made], deadline_ms: float) -> Returns:
    came = admitted = refused = 0
    for call in made:
        refused += call.tries[0].refusal is not None
        for before, after in zip(call.tries, call.tries[1:], strict=False):
            if before.refusal is None or before.refusal.retry_after_ms is None:
                continue
            came += 1
            admitted += after.admitted is not None and (after.admitted - after.started) / 1e6 <= deadline_ms
    return Returns(came=came, admitted=admitted, refused_first=refused)


def lost(made: list[Made]) -> int:
    """Calls that nobody answered and nobody refused."""
    return sum(1 for call in made if not call.tries or call.last.outcome is None)
