"""One workload replayed: exact arrivals, prompts and answers of the measured run, on the engine of that run, in a policy's order.

The scheduler stands where VTC stood, in the engine's waiting queue: it is asked whenever the engine makes a batch, so that room is the engine's
business and order is the scheduler's.
"""

from collections.abc import Callable
from typing import Final

import msgspec
import numpy as np

from headway.kernel.instants import NS_PER_S
from headway.lab.fair.engine import DECODES_BETWEEN, Asked, BatchEngine, Step
from headway.lab.fair.measured import Floats, Run
from headway.lab.fair.orders import order_named
from headway.lab.fair.steptime import BatchStepTime

SEND_DELAY_MS: Final = 20.0
"""Jitter of a client's sending: its event loop had hundreds of streams to read."""
PACE_SIGMA: Final = 0.003
"""Jitter of one step's time, relative."""
PACES: Final = 4_096


class Jitter(msgspec.Struct, frozen=True, kw_only=True):
    """Small disturbances drawn from (``seed``, ``number``), the same for every policy."""

    seed: int
    number: int

    def paces(self) -> list[float]:
        """Factors of step times, to be used over and over."""
        rng = np.random.default_rng([self.seed, self.number, 1])
        return [float(value) for value in np.exp(rng.normal(0.0, PACE_SIGMA, PACES))]

    def delays_ns(self, count: int) -> list[int]:
        rng = np.random.default_rng([self.seed, self.number, 2])
        return [int(value) for value in rng.uniform(0.0, SEND_DELAY_MS * 1e6, count)]


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """What became of each request, in the order of the run. Seconds from the start of the run."""

    policy: str
    first_s: Floats
    end_s: Floats
    decode_steps: int
    prefills: int


def replay(run: Run, time: BatchStepTime, policy: str, jitter: Jitter | None = None) -> Replayed:
    """Without jitter the same to the nanosecond each time. ``policy`` is the product's, or ``orders.PUBLISHED``."""
    return _Replay(run, time, policy, jitter).whole()


class _Replay:
    def __init__(self, run: Run, time: BatchStepTime, policy: str, jitter: Jitter | None) -> None:
        self._policy = policy
        self._order = order_named(policy)
        self._engine = BatchEngine(time, self._next, _typical(run), pace=None if jitter is None else _around(jitter.paces()))
        self._asked = _asked(run, jitter)
        self._coming = sorted(self._asked, key=lambda asked: (asked.at, asked.number), reverse=True)
        self._waiting = 0
        self._told: dict[int, int] = {}
        self._first = np.zeros(len(run))
        self._end = np.zeros(len(run))

    def whole(self) -> Replayed:
        now = 0
        while True:
            self._arrivals(now)
            step = self._engine.step(now)
            if step is None:
                if not self._coming:
                    break
                now = self._coming[-1].at
                continue
            now = step.ended_at
            self._arrivals(now)
            self._came(step)
        return Replayed(
            policy=self._policy,
            first_s=self._first,
            end_s=self._end,
            decode_steps=self._engine.steps,
            prefills=self._engine.prefills,
        )

    def _arrivals(self, now: int) -> None:
        coming = self._coming
        while coming and coming[-1].at <= now:
            self._order.arrive(coming.pop())
            self._waiting += 1

    def _next(self, now: int) -> Asked | None:
        if not self._waiting:
            return None
        self._tell(now)
        number = self._order.next(now)
        if number is None:
            return None
        self._waiting -= 1
        return self._asked[number]

    def _came(self, step: Step) -> None:
        now = step.ended_at
        for asked in step.first:
            self._first[asked.number] = now / NS_PER_S
            self._told[asked.number] = 0
            self._order.read(asked, now)
            self._produced(asked, 1, now)
        for asked in step.finished:
            self._produced(asked, asked.output, now)
            del self._told[asked.number]
            self._end[asked.number] = now / NS_PER_S
            self._order.finished(asked, now)
        if self._engine.steps % DECODES_BETWEEN == 0:
            self._tell(now)

    def _tell(self, now: int) -> None:
        """How far answers have come, since it is paid for as it comes. Told before each pick, and now and then: not with each token."""
        for asked, tokens in self._engine.produced():
            self._produced(asked, tokens, now)

    def _produced(self, asked: Asked, tokens: int, now: int) -> None:
        new = tokens - self._told[asked.number]
        if new > 0:
            self._told[asked.number] = tokens
            self._order.produced(asked, new, now)


def _asked(run: Run, jitter: Jitter | None) -> list[Asked]:
    """By number."""
    delays = [0] * len(run) if jitter is None else jitter.delays_ns(len(run))
    return [
        Asked(number, int(client), round(at * NS_PER_S) + delay, int(prompt), int(output))
        for number, (client, at, delay, prompt, output) in enumerate(
            zip(run.client, run.arrival_s, delays, run.prompt, run.output, strict=True)
        )
    ]


def _typical(run: Run) -> tuple[int, int]:
    return int(np.median(run.prompt)), int(np.median(run.output))


def _around(values: list[float]) -> Callable[[], float]:
    at = -1

    def following() -> float:
        nonlocal at
        at = (at + 1) % len(values)
        return values[at]

    return following
