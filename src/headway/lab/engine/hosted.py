"""The black-box grade: a hosted model as its caller sees it. No batch, no queue of ours: each request by itself.

Time to first token = wait + base + per uncached token; then a pace drawn from measured quantiles by the request's id and a seed.
"""

import hashlib
import heapq
from collections.abc import Sequence
from typing import Final

import msgspec

from headway.kernel.instants import NS_PER_MS
from headway.lab.engine.blocks import BlockPool, chain_keys
from headway.lab.engine.grids import Curve
from headway.lab.engine.model import EngineEvent, EngineRequest
from headway.lab.engine.settings import EngineRefusal

QUANTUM_NS: Final = 5 * NS_PER_MS
"""The longest that a step lasts: what arrives meanwhile is seen after it."""


class HostedTime(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds. ``pace_ms`` are (percent, time per token) in rising order of percent, from 0 to 100."""

    wait_ms: float
    base_ms: float
    token_ms: float
    pace_ms: tuple[tuple[int, float], ...]

    def ttft_ms(self, uncached_tokens: int) -> float:
        return self.wait_ms + self.base_ms + self.token_ms * uncached_tokens

    def tpot_ms(self, share: float) -> float:
        """Time per token that ``share`` of requests do not exceed."""
        return Curve(self.pace_ms).at(100 * share)


class HostedEngine:
    """A hosted model in the engine's form. ``first`` and ``finished`` only; nothing waits and nobody is preempted."""

    def __init__(self, time: HostedTime, seed: int, *, block_tokens: int = 16) -> None:
        if [percent for percent, _ in time.pace_ms] != sorted({percent for percent, _ in time.pace_ms}) or not time.pace_ms:
            raise EngineRefusal("pace_ms needs quantiles in rising order of percent")
        self.time = time
        self.waiting = 0
        self._seed = seed
        self._block = block_tokens
        self._cache = BlockPool(None)
        self._open: dict[str, EngineRequest] = {}
        self._due: list[tuple[int, int, EngineEvent]] = []
        self._order = 0

    @property
    def busy(self) -> bool:
        return bool(self._open)

    @property
    def running(self) -> int:
        return len(self._open)

    def submit(self, request: EngineRequest, now: int) -> None:
        """EngineRefusal when the id is open already, or a length is below 1."""
        if request.id in self._open or request.prompt_tokens < 1 or request.output_tokens < 1:
            raise EngineRefusal(f"request {request.id} is open already, or has no tokens")
        keys = chain_keys(request.blocks[: request.prompt_tokens // self._block])
        found = self._cache.match(keys, (request.prompt_tokens - 1) // self._block)
        self._remember(keys, found)
        cached = found * self._block
        first = now + round(self.time.ttft_ms(request.prompt_tokens - cached) * NS_PER_MS)
        pace = self.time.tpot_ms(_share(f"{self._seed}/{request.id}"))
        last = first + round((request.output_tokens - 1) * pace * NS_PER_MS)
        self._open[request.id] = request
        self._push(EngineEvent(at=first, id=request.id, kind="first", cached_tokens=cached, output_tokens=1))
        self._push(EngineEvent(at=last, id=request.id, kind="finished", output_tokens=request.output_tokens))

    def abort(self, request_id: str) -> None:
        if self._open.pop(request_id, None) is not None:
            self._due = [entry for entry in self._due if entry[2].id != request_id]
            heapq.heapify(self._due)

    def step(self, now: int) -> tuple[int, list[EngineEvent]]:
        """Up to the next event, at most ``QUANTUM_NS``."""
        if not self._due:
            return now, []
        ended_at = min(max(self._due[0][0], now + 1), now + QUANTUM_NS)
        events: list[EngineEvent] = []
        while self._due and self._due[0][0] <= ended_at:
            event = heapq.heappop(self._due)[2]
            if event.kind == "finished":
                del self._open[event.id]
            events.append(event)
        return ended_at, events

    def _push(self, event: EngineEvent) -> None:
        self._order += 1
        heapq.heappush(self._due, (event.at, self._order, event))

    def _remember(self, keys: Sequence[int], found: int) -> None:
        held = list(keys[:found])
        self._cache.hold(held)
        self._cache.take(len(keys) - found)
        for key in keys[found:]:
            if self._cache.publish(key):
                held.append(key)
            else:
                self._cache.give(1)
        self._cache.release(held)


def _share(text: str) -> float:
    """A number in [0, 1) that depends on ``text`` alone."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") / 2**64
