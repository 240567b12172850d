"""A hosted endpoint under its cap: one tenant asks for twice what the provider lets through, others for little."""

import random
from collections.abc import Callable
from typing import Final

import msgspec

from headway.calls.model import CallPolicy
from headway.kernel.instants import NS_PER_S
from headway.lab.worlds.agenda import Agenda
from headway.lab.worlds.driver import Clients, Outcomes, turn
from headway.lab.worlds.gate import Gate, Log
from headway.lab.worlds.model import Ask
from headway.lab.worlds.provider import HostedProvider, ProviderSettings

BULK: Final = "bulk"
OTHER: Final = "other"


class HostedWorld(msgspec.Struct, frozen=True, kw_only=True):
    """The cap is judged from ``judged_from_s`` on, when what the provider had saved up is spent, to the end of the load."""

    provider: ProviderSettings = ProviderSettings(requests_per_minute=600, tokens_per_minute=600_000)
    bulk_per_s: float = 16.0
    other_per_s: float = 0.8
    """Each of ``others``."""
    others: int = 5
    load_s: float = 240.0
    judged_from_s: float = 90.0
    bulk_deadline_ms: float = 60_000.0
    bulk_comes_again: int = 1

    def asks(self, seed: int) -> list[Ask]:
        asks = list(self._of(BULK, BULK, self.bulk_per_s, seed))
        for number in range(1, self.others + 1):
            asks += self._of(f"{OTHER}-{number}", OTHER, self.other_per_s, seed)
        return sorted(asks, key=lambda ask: (ask.at, ask.call))

    def _of(self, tenant: str, band: str, per_s: float, seed: int) -> list[Ask]:
        rng = random.Random(f"hosted:{tenant}:{seed}")
        asks: list[Ask] = []
        at_s = rng.expovariate(per_s)
        while at_s < self.load_s:
            bulk = band == BULK
            asks.append(
                Ask(
                    call=f"{tenant}-{len(asks):05d}",
                    at=int(at_s * NS_PER_S),
                    tenant=tenant,
                    band=band,
                    prompt_tokens=rng.randint(200, 900),
                    output_tokens=rng.randint(40, 300),
                    output_tokens_max=300,
                    deadline_ms=self.bulk_deadline_ms if bulk else None,
                    retries_max=self.bulk_comes_again if bulk else 0,
                )
            )
            at_s += rng.expovariate(per_s)
        return asks


class HostedOutcomes(msgspec.Struct, frozen=True, kw_only=True):
    """``cap_used`` is of the tighter of the two quotas while judged."""

    outcomes: Outcomes
    others_429: int
    """Refusals that tenants other than the one that asks too much have seen, the provider's and ours."""
    bulk_429: int
    provider_429: int
    cap_used: float


def drive_hosted(
    world: HostedWorld,
    seed: int,
    policy: CallPolicy | None,
    *,
    endpoint: str = "lab",
    log: Log | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> HostedOutcomes:
    """Without a policy calls go to the provider as they come, and its 429s to whoever asked."""
    agenda = Agenda()
    clients = Clients(agenda, world.asks(seed))
    gate = Gate(agenda, policy, clients.closed, endpoint=endpoint, log=log)
    provider = HostedProvider(agenda, world.provider, seed, answer=gate.head, deliver=gate.events)
    gate.upstream, clients.gate = provider, gate
    turn(agenda, progress, lambda: sum(m.done for m in clients.made), len(clients.made))
    return _judged(world, provider, Outcomes(made=clients.made, ended_at=agenda.now))


def _judged(world: HostedWorld, provider: HostedProvider, outcomes: Outcomes) -> HostedOutcomes:
    start, end = world.judged_from_s * NS_PER_S, world.load_s * NS_PER_S
    taken = [tokens for at, tokens in provider.accepted if start <= at < end]
    minutes = (world.load_s - world.judged_from_s) / 60
    used = max(
        len(taken) / (world.provider.requests_per_minute * minutes),
        sum(taken) / (world.provider.tokens_per_minute * minutes),
    )
    told = {BULK: 0, OTHER: 0}
    for made in outcomes.made:
        told[made.ask.band] += sum(1 for each in made.tries if each.status == 429 or each.refusal is not None)
    return HostedOutcomes(
        outcomes=outcomes, others_429=told[OTHER], bulk_429=told[BULK], provider_429=provider.refused, cap_used=used
    )
