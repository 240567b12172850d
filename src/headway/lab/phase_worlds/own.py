"""An engine of one's own under a world's calls: the simulated engine, a second one for each other route, and what it says of its load."""

import random
from collections.abc import Mapping, Sequence
from typing import Final

from headway.kernel.instants import NS_PER_MS
from headway.lab.engine.engine import ContinuousEngine
from headway.lab.engine.fit import FitStepTime
from headway.lab.engine.model import EngineEvent, EngineRequest, StepWork
from headway.lab.phase_worlds.families import Family
from headway.lab.phase_worlds.model import Asked, Timed
from headway.lab.phase_worlds.places import Place
from headway.lab.worlds.agenda import Agenda
from headway.lab.worlds.engines import EngineOnAgenda

BLOCK: Final = 16
HOP_MS: Final = 0.5
OUR_MS_MAX: Final = 1.5
"""What our gateway takes before it sends."""


class NoisySteps:
    """A machine whose steps vary, and which is so many times slower."""

    name = "noisy"

    def __init__(self, machine: FitStepTime, rng: random.Random, sigma: float, slower: float = 1.0) -> None:
        self._machine, self._rng, self._sigma, self._slower = machine, rng, sigma, slower

    def step_ms(self, work: StepWork) -> float:
        return self._machine.step_ms(work) * self._slower * max(0.5, 1 + self._rng.gauss(0.0, self._sigma))


class _Open:
    __slots__ = ("cached", "running", "sent_ms", "tokens", "waiting")

    def __init__(self, sent_ms: float, waiting: int, running: int) -> None:
        self.sent_ms, self.waiting, self.running = sent_ms, waiting, running
        self.cached = 0
        self.tokens: list[float] = []


class OwnEngine:
    """One world's engines on one clock. ``run`` once."""

    def __init__(self, family: Family, places: Mapping[int, Place], seed: str) -> None:
        self._agenda = Agenda()
        self._family = family
        self._rng = random.Random(f"own:{seed}")
        self._engines: dict[int, EngineOnAgenda] = {}
        self._loads: dict[int, tuple[int, int]] = {}
        self._open: dict[str, _Open] = {}
        self._places = places
        for number, place in places.items():
            steps = NoisySteps(family.machine, self._rng, family.noise.step_sigma, place.slower)
            engine = ContinuousEngine(family.engine, steps, token_events=True)
            self._engines[number] = EngineOnAgenda(self._agenda, engine, self._heard, hop_ms=HOP_MS)
            self._loads[number] = (0, 0)

    def run(self, asked: Sequence[Asked]) -> dict[str, Timed]:
        """All of ``asked``, whoever's they are; told are ours and theirs alike."""
        self._warm(asked)
        last_ms = 0.0
        for each in asked:
            sends_ms = each.at_ms + each.hold_ms + sum(ms for _, ms in each.tries) + self._rng.random() * OUR_MS_MAX
            last_ms = max(last_ms, sends_ms)
            self._agenda.at(int(sends_ms * NS_PER_MS), self._send, each)
        for number in range(int(last_ms / self._family.scrape_ms) + 1):
            self._agenda.at(int(number * self._family.scrape_ms * NS_PER_MS), self._scrape)
        while self._agenda.turn():
            pass
        return {
            name: Timed(
                sent_ms=seen.sent_ms,
                token_ms=tuple(seen.tokens),
                cached_tokens=seen.cached,
                waiting=seen.waiting,
                running=seen.running,
            )
            for name, seen in self._open.items()
        }

    def _warm(self, asked: Sequence[Asked]) -> None:
        """Engines of other routes have served the same prompts before."""
        prefixes = {each.prefix: each for each in asked}
        for number, engine in self._engines.items():
            if number:
                for name, each in prefixes.items():
                    engine.send(_request(f"warm-{number}-{name}", each, each.prefix_tokens + 1, 1))

    def _scrape(self) -> None:
        for number, place in self._engines.items():
            self._loads[number] = (place.engine.waiting, place.engine.running)

    def _send(self, each: Asked) -> None:
        self._open[each.call] = _Open(self._agenda.now / NS_PER_MS, *self._loads[each.route])
        request = _request(each.call, each, each.prompt_tokens, each.output_tokens)
        self._agenda.at(self._agenda.now + int(each.waits_ms * NS_PER_MS), self._engines[each.route].send, request)

    def _heard(self, events: Sequence[EngineEvent]) -> None:
        now_ms = self._agenda.now / NS_PER_MS
        for event in events:
            seen = self._open.get(event.id)
            if seen is None or event.kind not in ("first", "token"):
                continue
            seen.tokens.append(now_ms)
            if event.kind == "first":
                seen.cached = event.cached_tokens


def _request(name: str, each: Asked, prompt_tokens: int, output_tokens: int) -> EngineRequest:
    salt = each.call if each.evicted else each.prefix
    blocks = tuple(hash((salt, number)) for number in range(each.prefix_tokens // BLOCK))
    return EngineRequest(id=name, prompt_tokens=prompt_tokens, output_tokens=output_tokens, blocks=blocks)


def tokens_for(family: Family, ms: float, before_tokens: int) -> int:
    """How many more prompt tokens cost about ``ms`` of prefill after ``before_tokens``."""
    machine, step = family.machine, family.engine.step_tokens_max
    linear = machine.token_ms + machine.base_ms / step + machine.pair_ms * before_tokens
    half = machine.pair_ms / 2
    root: float = (linear * linear + 4 * half * ms) ** 0.5
    return max(1, round((root - linear) / (2 * half)))
