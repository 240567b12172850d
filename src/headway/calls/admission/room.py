"""Whether one more request fits an endpoint now: requests at once, KV tokens in flight, prompts in the long lane, a provider's minute.

What nobody told is learnt from what the engine says of itself: its slots and KV pool bound where they are smaller than what was configured; a
preemption means that more was in flight than fits.
"""

from typing import Protocol

from headway.calls.admission.model import Capacity, EndpointAdmission, EngineLoad
from headway.calls.admission.others import ALONE, Others
from headway.kernel.instants import MonoNs

PREEMPTED_CUT = 0.9
REGAIN = 1.02
KV_FULL_SHARE = 0.95
AHEAD_PART = 0.5
"""Of its part a gateway takes so much while those who wait elsewhere are behind: enough to even it out, and it never stops altogether."""


class Hosted(Protocol):
    """A provider's allowance of this minute (``hosted.py``)."""

    def next_at(self, tokens: float, now: MonoNs) -> MonoNs: ...

    def take(self, tokens: float, now: MonoNs) -> None: ...

    def settle(self, taken: float, actual: float | None, now: MonoNs) -> None: ...


class Room:
    """``requests_max`` and ``tokens_max`` are what holds now; ``tokens`` and ``requests`` what is in flight from here.

    Other gateways' requests take room too. Where somebody waits on both sides each side has the part that its weights give it, and less while it is
    ahead: taking only what is free would leave everything to whoever has it. While nothing is known of the others each keeps to an equal part.
    """

    __slots__ = ("_capacity", "_learnt", "_long_max", "_part", "_preemptions", "_slots", "hosted", "long_max", "long_running", "others", "requests",
                 "requests_max", "tokens", "tokens_max", "wakes_at")  # fmt: skip

    def __init__(self, settings: EndpointAdmission, hosted: Hosted | None) -> None:
        self.requests = self.long_running = 0
        self.tokens = 0
        self._learnt: float | None = None
        self._slots: int | None = None
        self._preemptions: int | None = None
        self.hosted = hosted
        self.others: Others = ALONE
        self._part: float | None = None
        self.wakes_at: MonoNs | None = None
        """When the provider's allowance has room for the next of those that were looked at last."""
        self.settle(settings)

    def settle(self, settings: EndpointAdmission) -> None:
        """Take new settings; what is in flight stays."""
        self._capacity: Capacity = settings.capacity
        self._long_max = settings.long.requests_max
        self._bound()

    def others_told(self, others: Others, weight: float, *, ahead: bool) -> None:
        """What the other gateways have here, or that it cannot be known. ``weight`` is what waits here, in the measure of ``others.weight``;
        ``ahead``: whoever is next here has been served more than who is next there."""
        self.others = others
        if others.away:
            self._part = 1.0 / (others.gateways + 1)
        elif others.queued:
            self._part = weight / (weight + others.weight) * (AHEAD_PART if ahead else 1.0)
        else:
            self._part = None
        self._bound()

    def _bound(self) -> None:
        capacity, others, part = self._capacity, self.others, self._part
        most = capacity.requests_max if self._slots is None else min(capacity.requests_max, self._slots)
        known = [float(t) for t in (capacity.tokens_max, self._learnt) if t is not None]
        tokens = min(known) if known else None
        if part is None:  # nobody waits elsewhere: what is not taken there is free here
            self.requests_max = max(0, most - others.requests)
            self.tokens_max: float | None = None if tokens is None else max(0.0, tokens - others.tokens)
            self.long_max = max(0, self._long_max - others.long)
            return
        theirs = most * (1.0 - part)
        if not others.away:
            theirs = min(theirs, others.requests + others.queued)
        self.requests_max = max(1, round(most - theirs))
        self.tokens_max = None if tokens is None else tokens * part
        self.long_max = max(0 if others.long else 1, round(self._long_max * part) if others.away else self._long_max - others.long)

    @property
    def full(self) -> bool:
        return self.requests >= self.requests_max

    @property
    def lane_open(self) -> bool:
        return self.long_running < self.long_max

    def fits(self, need_tokens: int, now: MonoNs) -> bool:
        """A request larger than everything fits when nothing else is in flight: the engine will say whether it can."""
        if self.requests >= self.requests_max:
            return False
        if self.tokens_max is not None and self.tokens + need_tokens > self.tokens_max and self._in_use:
            return False
        if self.hosted is None or (at := self.hosted.next_at(need_tokens, now)) <= now:
            return True
        self.wakes_at = at if self.wakes_at is None else min(self.wakes_at, at)
        return False

    @property
    def free_tokens(self) -> float:
        """What a request may need to fit, as far as KV tokens go."""
        return float("inf") if self.tokens_max is None or not self._in_use else self.tokens_max - self.tokens

    @property
    def _in_use(self) -> bool:
        return self.requests > 0 or self.others.requests > 0

    def heard(self, load: EngineLoad) -> None:
        """What the engine said of itself."""
        if load.slots is not None and load.slots > 0:
            self._slots = load.slots
        if load.kv_tokens is not None and load.kv_tokens > 0:
            self._learnt = float(load.kv_tokens) if self._learnt is None else min(self._learnt * REGAIN, float(load.kv_tokens))
        preempted = load.preemptions is not None and self._preemptions is not None and load.preemptions > self._preemptions
        if load.preemptions is not None:
            self._preemptions = load.preemptions
        if preempted and self.tokens:
            limit = self.tokens_max if self.tokens_max is not None else float(self.tokens)
            self._learnt = max(1.0, min(limit, float(self.tokens)) * PREEMPTED_CUT)
        elif self._learnt is not None and load.kv_tokens is None and (load.kv_used_share or 0.0) < KV_FULL_SHARE:
            self._learnt *= REGAIN
        self._bound()
