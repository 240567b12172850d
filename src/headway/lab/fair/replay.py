"""One workload replayed: exact arrivals, prompts and answers of the measured run, the product's own scheduler, the engine of that run.

The scheduler stands where VTC stood, in the engine's waiting queue: it is asked whenever the engine makes a batch, so that room is the engine's
business and order is the scheduler's. Nothing of it is set for the occasion but the policy's name: prices 1 and 2 are the product's
defaults and VTC's.
"""

from collections.abc import Callable
from typing import Final

import msgspec
import numpy as np

from headway.calls.admission.model import EndpointAdmission
from headway.calls.admission.scheduler import Refused, Scheduler, Used
from headway.calls.conversation import DialectName
from headway.calls.model import Arrived
from headway.kernel.instants import NS_PER_S, MonoNs
from headway.lab.fair.engine import DECODES_BETWEEN, Asked, BatchEngine
from headway.lab.fair.measured import Floats, Run
from headway.lab.fair.steptime import BatchStepTime

SEND_DELAY_MS: Final = 20.0
"""Jitter of a client's sending: its event loop had hundreds of streams to read."""
PACE_SIGMA: Final = 0.003
"""Jitter of one step's time, relative."""


class Jitter(msgspec.Struct, frozen=True, kw_only=True):
    """Small disturbances drawn from (``seed``, ``number``), the same for every policy."""

    seed: int
    number: int

    def paces(self, count: int = 4_096) -> Floats:
        rng = np.random.default_rng([self.seed, self.number, 1])
        return np.exp(rng.normal(0.0, PACE_SIGMA, count))

    def delays_ns(self, count: int) -> list[int]:
        rng = np.random.default_rng([self.seed, self.number, 2])
        return [int(value) for value in rng.uniform(0.0, SEND_DELAY_MS * 1e6, count)]


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """What became of each request, in the order of the run. Seconds from the start of the run."""

    policy: str
    first_s: Floats
    end_s: Floats
    ttft_s: Floats
    decode_steps: int
    prefills: int


def replay(run: Run, time: BatchStepTime, policy: str, jitter: Jitter | None = None) -> Replayed:
    """Without jitter the same to the nanosecond each time."""
    return _Replay(run, time, policy, jitter).whole()


class _Replay:
    def __init__(self, run: Run, time: BatchStepTime, policy: str, jitter: Jitter | None) -> None:
        self.run, self.policy = run, policy
        self.scheduler = Scheduler(EndpointAdmission(policy=policy))
        self.engine = BatchEngine(time, self._next, _typical(run), pace=None if jitter is None else _cycle(jitter.paces()))
        self.asks = _asks(run, jitter)
        self.coming = 0
        self.told: dict[int, int] = {}
        self.first = np.zeros(len(run))
        self.end = np.zeros(len(run))

    def whole(self) -> Replayed:
        now = 0
        while True:
            self._arrivals(now)
            step = self.engine.step(now)
            if step is None:
                if self.coming == len(self.asks):
                    break
                now = self.asks[self.coming].at
                continue
            now = step.ended_at
            self._arrivals(now)
            for asked in step.first:
                self.first[asked.number] = now / NS_PER_S
                self.scheduler.read(str(asked.number), MonoNs(now))
                self._produced(asked.number, 1, now)
            for asked in step.finished:
                self._finished(asked, now)
            if self.engine.steps % DECODES_BETWEEN == 0:
                self._tell(now)
        return Replayed(
            policy=self.policy,
            first_s=self.first,
            end_s=self.end,
            ttft_s=self.first - self.run.arrival_s,
            decode_steps=self.engine.steps,
            prefills=self.engine.prefills,
        )

    def _arrivals(self, now: int) -> None:
        while self.coming < len(self.asks) and self.asks[self.coming].at <= now:
            asked = self.asks[self.coming]
            self.coming += 1
            answer = self.scheduler.arrive(_arrived(asked), MonoNs(asked.at))
            if answer is None or isinstance(answer, Refused):
                raise RuntimeError(
                    f"request {asked.number} of {self.run.name} was refused at {asked.at / NS_PER_S:.1f} s: {answer}"
                )

    def _next(self, now: int) -> Asked | None:
        if not self.scheduler.queued:
            return None
        self._tell(now)
        call = self.scheduler.pick(MonoNs(now))
        return None if call is None else self._by_number[int(call.id)]

    @property
    def _by_number(self) -> list[Asked]:
        return self.asks

    def _tell(self, now: int) -> None:
        """How far answers have come, since it is paid for as it comes."""
        for number, tokens in self.engine.produced():
            self._produced(number, tokens, now)

    def _produced(self, number: int, tokens: int, now: int) -> None:
        new = tokens - self.told.get(number, 0)
        if new > 0:
            self.told[number] = tokens
            self.scheduler.produced(str(number), new, MonoNs(now))

    def _finished(self, asked: Asked, now: int) -> None:
        self._produced(asked.number, asked.output, now)
        del self.told[asked.number]
        self.end[asked.number] = now / NS_PER_S
        used = Used(input_tokens=asked.prompt, output_tokens=asked.output, cached_tokens=0)
        self.scheduler.close(str(asked.number), MonoNs(now), used)


def _arrived(asked: Asked) -> Arrived:
    """The runs' clients named the length of each answer as max_tokens."""
    return Arrived(
        call=str(asked.number),
        endpoint="a10g",
        tenant=str(asked.client),
        klass="interactive",
        feature="",
        dialect=DialectName.OPENAI_CHAT,
        prompt_tokens_estimate=asked.prompt,
        prompt_tokens_error=0.0,
        output_tokens_max=asked.output,
        deadline_remaining_ms=None,
        stream=True,
    )


def _asks(run: Run, jitter: Jitter | None) -> list[Asked]:
    delays = [0] * len(run) if jitter is None else jitter.delays_ns(len(run))
    return [
        Asked(number, int(client), round(at * NS_PER_S) + delay, int(prompt), int(output))
        for number, (client, at, delay, prompt, output) in enumerate(
            zip(run.client, run.arrival_s, delays, run.prompt, run.output, strict=True)
        )
    ]


def _typical(run: Run) -> tuple[int, int]:
    return int(np.median(run.prompt)), int(np.median(run.output))


def _cycle(values: Floats) -> Callable[[], float]:
    at = -1
    listed = [float(value) for value in values]

    def following() -> float:
        nonlocal at
        at = (at + 1) % len(listed)
        return listed[at]

    return following
