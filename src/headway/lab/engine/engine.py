"""Engines: a scheduler and what its steps cost. One replica, or data parallel ranks that step together."""

from headway.kernel.instants import NS_PER_MS
from headway.lab.engine.model import EngineEvent, EngineRequest, EngineSettings, RanksStepTime, StepTime, StepWork
from headway.lab.engine.scheduler import StepScheduler


class ContinuousEngine:
    """One replica of continuous batching on its caller's clock: no clock and no chance inside.

    Events are ``first``, ``preempted`` and ``finished``; ``token`` for every further token only where ``token_events`` asks, since
    they are what a step costs most. ``produced`` tells the tokens of one request at any time.
    """

    def __init__(self, settings: EngineSettings, time: StepTime, *, token_events: bool = False) -> None:
        self.scheduler = StepScheduler(settings, token_events=token_events)
        self.time = time
        self.steps = 0
        self.last_work = StepWork(chunks=(), decodes=0, decode_context=0, sequences=0)

    @property
    def busy(self) -> bool:
        return self.scheduler.busy

    @property
    def waiting(self) -> int:
        return self.scheduler.waiting

    @property
    def running(self) -> int:
        return self.scheduler.running

    @property
    def preemptions(self) -> int:
        return self.scheduler.preemptions

    @property
    def kv_usage(self) -> float:
        """Share of KV blocks held by requests; 0 where memory has no bound."""
        pool = self.scheduler.pool
        return pool.used / pool.capacity if self.scheduler.settings.kv_blocks else 0.0

    def produced(self, request_id: str) -> int:
        """Output tokens so far of a request that is in the engine; KeyError for others."""
        return self.scheduler.produced(request_id)

    def submit(self, request: EngineRequest, now: int) -> None:
        """EngineRefusal for a request that can never run, or whose id is in the engine."""
        self.scheduler.submit(request, late=self.scheduler.settings.plan_ahead and self.busy)

    def abort(self, request_id: str) -> None:
        self.scheduler.abort(request_id)

    def step(self, now: int) -> tuple[int, list[EngineEvent]]:
        """One iteration from ``now``: when it ended and what it produced. An idle engine stands still."""
        if not self.scheduler.busy:
            return now, []
        work = self.scheduler.plan()
        ended_at = now + round(self.time.step_ms(work) * NS_PER_MS)
        self.steps += 1
        self.last_work = work
        return ended_at, self.scheduler.complete(ended_at)


class ParallelEngine:
    """Data parallel ranks whose experts are shared, so that they step together; a request goes to the rank with the least load."""

    def __init__(self, settings: EngineSettings, time: RanksStepTime, ranks: int, *, token_events: bool = False) -> None:
        self.ranks = tuple(StepScheduler(settings, token_events=token_events) for _ in range(ranks))
        self.time = time
        self.steps = 0
        self._rank_of: dict[str, StepScheduler] = {}

    @property
    def busy(self) -> bool:
        return bool(self._rank_of)

    @property
    def waiting(self) -> int:
        return sum(rank.waiting for rank in self.ranks)

    @property
    def running(self) -> int:
        return sum(rank.running for rank in self.ranks)

    @property
    def preemptions(self) -> int:
        return sum(rank.preemptions for rank in self.ranks)

    def submit(self, request: EngineRequest, now: int) -> None:
        """vLLM's balance: a waiting request weighs four times a running one; ties go to the first rank."""
        rank = min(self.ranks, key=lambda one: 4 * one.waiting + one.running)
        rank.submit(request, late=rank.settings.plan_ahead and self.busy)
        self._rank_of[request.id] = rank

    def abort(self, request_id: str) -> None:
        rank = self._rank_of.pop(request_id, None)
        if rank is not None:
            rank.abort(request_id)

    def step(self, now: int) -> tuple[int, list[EngineEvent]]:
        if not self._rank_of:
            return now, []
        ended_at = now + round(self.time.ranks_ms([rank.plan() for rank in self.ranks]) * NS_PER_MS)
        self.steps += 1
        events = [event for rank in self.ranks for event in rank.complete(ended_at)]
        for event in events:
            if event.kind == "finished":
                del self._rank_of[event.id]
        return ended_at, events
