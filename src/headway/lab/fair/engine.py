"""The engine of the measured runs (S-LoRA on one A10G) as the lab has it: it asks a scheduler who is next when it is about to make a batch.

It differs from ``lab/engine`` where the measured figures hang on it, and the values are the launch script's or can be read off the runs:

- A batch is prefilled whole, without decodes. It is looked for when nothing runs, or after ``DECODES_BETWEEN`` decode steps; where nobody
  fits, again after each step. Four of five first tokens of a light tenant wait for this alone.
- Nothing is ever preempted: a request is taken only if the KV pool holds everybody at every later step, answers at their full length.
- Each tenant has an adapter of its own in the same pool while it is in the batch.

So requests that were taken together end together, places come free in bunches (11, 7, 1, 1 every 11.7 s in ``FCFS.overload``), and a light
tenant waits for the next bunch: no fairness makes that shorter.
"""

from bisect import insort
from collections.abc import Callable
from typing import Final, NamedTuple

from headway.kernel.instants import NS_PER_MS
from headway.lab.fair.steptime import BatchStepTime

POOL_TOKENS: Final = 10_000
"""KV tokens: the launch script's default. What the FCFS runs took and left waiting bounds it within 40 tokens, adapters counted."""
ADAPTER_TOKENS: Final = 32
"""Pool that an adapter of rank 8 takes: two tenants leave 9,936 tokens to requests, three 9,904."""
PREFILL_TOKENS_MAX: Final = 3_071
"""Of one batch: eleven prompts of 256 are seen in the runs, twelve never, however many wait."""
DECODES_BETWEEN: Final = 10


class Asked(NamedTuple):
    """One request. ``at`` is when it came, in nanoseconds from the start of the run."""

    number: int
    client: int
    at: int
    prompt: int
    output: int


class Step(NamedTuple):
    """One step's end, whose first tokens and whose last ones came with it."""

    ended_at: int
    first: tuple[Asked, ...]
    finished: tuple[Asked, ...]


class _Place(NamedTuple):
    """One request in the batch. Sorted, those with most left to produce come first.

    ``key`` is minus the number of the decode step that brings its last token; ``base`` is its prompt less the step at which it began, so
    that its context at step s is base + s + 1.
    """

    key: int
    base: int
    number: int
    asked: Asked


class BatchEngine:
    """``take(now)`` names the next request, None when nobody waits. ``typical`` is the (prompt, output) that must fit before it is asked."""

    def __init__(
        self,
        time: BatchStepTime,
        take: Callable[[int], Asked | None],
        typical: tuple[int, int],
        *,
        pace: Callable[[], float] | None = None,
        pool_tokens: int = POOL_TOKENS,
    ) -> None:
        self.time = time
        self.steps = self.prefills = 0
        self.pool_tokens = pool_tokens
        self.head: Asked | None = None
        """Named, and did not fit: it waits here, and nobody passes it."""
        self._take, self._typical, self._pace = take, typical, pace
        self._places: list[_Place] = []
        self._base_sum = 0
        self._clients: dict[int, int] = {}
        self._since = 0

    @property
    def running(self) -> int:
        return len(self._places)

    @property
    def context(self) -> int:
        """KV tokens of the batch."""
        return self._base_sum + len(self._places) * (self.steps + 1)

    def produced(self) -> list[tuple[Asked, int]]:
        """All that run, with their output tokens so far."""
        return [(place.asked, place.base - place.asked.prompt + self.steps + 1) for place in self._places]

    def step(self, now: int) -> Step | None:
        """A prefill or a decode from ``now``. None: there is nothing to do."""
        if not self._places or self._since >= DECODES_BETWEEN:
            batch = self._batch(now)
            if batch:
                return self._prefill(batch, now)
        return self._decode(now) if self._places else None

    def _prefill(self, batch: list[Asked], now: int) -> Step:
        ended = now + self._ns(self.time.prefill_step_ms(sum(asked.prompt for asked in batch)))
        self._since = 0
        self.prefills += 1
        for asked in batch:
            if asked.output > 1:
                self._enter(asked)
        return Step(ended, tuple(batch), tuple(asked for asked in batch if asked.output == 1))

    def _decode(self, now: int) -> Step:
        ended = now + self._ns(self.time.decode_step_ms(self.context))
        self.steps += 1
        self._since += 1
        finished: list[Asked] = []
        while self._places and self._places[-1].key == -self.steps:
            place = self._places.pop()
            self._base_sum -= place.base
            self._leave(place.asked.client)
            finished.append(place.asked)
        return Step(ended, (), tuple(finished))

    def _enter(self, asked: Asked) -> None:
        place = self._place(asked, self.steps + asked.output - 1)
        insort(self._places, place)
        self._base_sum += place.base
        self._clients[asked.client] = self._clients.get(asked.client, 0) + 1

    def _leave(self, client: int) -> None:
        self._clients[client] -= 1
        if not self._clients[client]:
            del self._clients[client]

    def _place(self, asked: Asked, ends: int) -> _Place:
        return _Place(-ends, asked.prompt - self.steps, asked.number, asked)

    def _batch(self, now: int) -> list[Asked]:
        """Whom the next prefill takes."""
        batch: list[Asked] = []
        places = self._places.copy()
        clients = set(self._clients)
        tokens = 0
        while True:
            if self.head is None:
                if not self._typical_fits(places, clients):
                    break
                self.head = self._take(now)
            asked = self.head
            if asked is None or tokens + asked.prompt > PREFILL_TOKENS_MAX:
                break
            trial = places.copy()
            insort(trial, self._place(asked, self.steps + asked.output))
            if places and not self._holds(trial, len(clients | {asked.client})):
                break
            self.head = None
            places = trial
            clients.add(asked.client)
            tokens += asked.prompt
            batch.append(asked)
        return batch

    def _typical_fits(self, places: list[_Place], clients: set[int]) -> bool:
        if not places:
            return True
        prompt, output = self._typical
        trial = places.copy()
        insort(trial, self._place(Asked(-1, -1, 0, prompt, output), self.steps + output))
        return self._holds(trial, max(1, len(clients)))

    def _holds(self, places: list[_Place], adapters: int) -> bool:
        """Whether the pool holds everybody at every later step: when the i-th from the end of their answers is done, i + 1 still grow."""
        pool = self.pool_tokens - ADAPTER_TOKENS * adapters
        steps = self.steps + 1
        held = 0
        for count, place in enumerate(places, 1):
            held += place.base + steps
            left = -place.key - steps
            if held + (left if left > 1 else 1) * count >= pool:
                return False
        return True

    def _ns(self, ms: float) -> int:
        return round((ms if self._pace is None else ms * self._pace()) * NS_PER_MS)
