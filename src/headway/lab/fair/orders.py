"""Who is next in the engine's queue: the product's scheduler under a policy's name, and VTC as its authors published it, to compare."""

from collections import deque
from typing import Protocol

from headway.calls.admission.model import EndpointAdmission
from headway.calls.admission.scheduler import Refused, Scheduler, Used
from headway.calls.conversation import DialectName
from headway.calls.model import Arrived
from headway.kernel.instants import NS_PER_S, MonoNs
from headway.lab.fair.engine import Asked

PROMPT_PRICE = 1.0
OUTPUT_PRICE = 2.0
PUBLISHED = "vtc as published"


class Order(Protocol):
    """Told what happens in the order in which it happens; asked for the number of the request that goes next."""

    def arrive(self, asked: Asked) -> None: ...

    def next(self, now: int) -> int | None: ...

    def read(self, asked: Asked, now: int) -> None: ...

    def produced(self, asked: Asked, tokens: int, now: int) -> None:
        """``tokens`` more of its answer."""
        ...

    def finished(self, asked: Asked, now: int) -> None: ...


def order_named(policy: str) -> Order:
    return PublishedVtc() if policy == PUBLISHED else ProductOrder(policy)


class ProductOrder:
    """The scheduler that the gateway uses. Nothing is set for the occasion but the policy: prices 1 and 2 are its defaults and VTC's.

    How many run at once is the engine's business here, and no run comes near the 128 that the product allows by default.
    """

    def __init__(self, policy: str) -> None:
        self.scheduler = Scheduler(EndpointAdmission(policy=policy))

    def arrive(self, asked: Asked) -> None:
        answer = self.scheduler.arrive(_arrived(asked), MonoNs(asked.at))
        if answer is None or isinstance(answer, Refused):
            raise RuntimeError(f"request {asked.number} was refused at {asked.at / NS_PER_S:.1f} s: {answer}")

    def next(self, now: int) -> int | None:
        call = self.scheduler.pick(MonoNs(now))
        return None if call is None else int(call.id)

    def read(self, asked: Asked, now: int) -> None:
        self.scheduler.read(str(asked.number), MonoNs(now))

    def produced(self, asked: Asked, tokens: int, now: int) -> None:
        self.scheduler.produced(str(asked.number), tokens, MonoNs(now))

    def finished(self, asked: Asked, now: int) -> None:
        used = Used(input_tokens=asked.prompt, output_tokens=asked.output, cached_tokens=0)
        self.scheduler.close(str(asked.number), MonoNs(now), used)


class PublishedVtc:
    """VTC of the paper (OSDI 2024, algorithm 2): a prompt is paid for when it is taken, an answer as it comes, and nothing is estimated.

    Our orders charge an estimate when a call is sent, since a gateway does not see the tokens of every answer as they come. This one is what
    that costs is seen by.
    """

    def __init__(self) -> None:
        self._queues: dict[int, deque[int]] = {}
        self._prompts: dict[int, int] = {}
        self._counters: dict[int, float] = {}

    def arrive(self, asked: Asked) -> None:
        queue = self._queues.setdefault(asked.client, deque())
        mine = self._counters.get(asked.client, 0.0)
        if not queue:
            others = [self._counters[client] for client, waiting in self._queues.items() if waiting]
            mine = max(mine, min(others)) if others else mine
        self._counters[asked.client] = mine
        queue.append(asked.number)
        self._prompts[asked.number] = asked.prompt

    def next(self, now: int) -> int | None:
        waiting = [client for client, queue in self._queues.items() if queue]
        if not waiting:
            return None
        client = min(waiting, key=lambda one: (self._counters[one], one))
        number = self._queues[client].popleft()
        self._counters[client] += PROMPT_PRICE * self._prompts.pop(number)
        return number

    def read(self, asked: Asked, now: int) -> None:
        """Its prompt was paid for when it was taken."""

    def produced(self, asked: Asked, tokens: int, now: int) -> None:
        self._counters[asked.client] += OUTPUT_PRICE * tokens

    def finished(self, asked: Asked, now: int) -> None:
        """All of it is paid for."""


def _arrived(asked: Asked) -> Arrived:
    """The runs' clients named the length of each answer as max_tokens, and the engine reserved by it."""
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
