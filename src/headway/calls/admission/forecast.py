"""How long a call will wait: cost ahead over the rate at which cost is sent, put right by how wrong that was of late.

The interval is of 80 %: the 10th to the 90th percentile of (wait that came true / wait that was forecast) over the last calls, short and long
ones apart. Before there are any, half to twice.
"""

import math
from bisect import bisect_left, insort
from collections import deque
from typing import NamedTuple

from headway.kernel.instants import NS_PER_S, MonoNs

UNKNOWN_TOKENS_PER_S = 500.0
"""Until the endpoint's rate is known: rather too slow, so that who is told when to come again does not come too early."""
RATE_MEMORY_S = 20.0
RATE_SURE_S = 0.25
ERRORS_KEPT = 64
ERRORS_MIN = 8
FIRST_LOW, FIRST_HIGH = 0.5, 2.0
RATIO_MIN, RATIO_MAX = 0.05, 20.0


class Wait(NamedTuple):
    """Milliseconds. ``raw`` is before correction: what later errors are measured against."""

    raw: float
    low: float
    middle: float
    high: float


NONE = Wait(0.0, 0.0, 0.0, 0.0)


class ServiceRate:
    """Virtual tokens a second sent while somebody waited. Time when nobody did says nothing about how fast it could go."""

    __slots__ = ("_at", "_busy_s", "_known", "_tokens", "_waiting")

    def __init__(self, known_tokens_per_s: float | None = None) -> None:
        self._known = known_tokens_per_s
        self._at: MonoNs | None = None
        self._busy_s = self._tokens = 0.0
        self._waiting = False

    def saw(self, sent_tokens: float, now: MonoNs, *, waiting: bool) -> None:
        """``sent_tokens`` were sent now; ``waiting`` says whether somebody still waits."""
        if self._waiting and self._at is not None:
            span_s = max(0.0, (now - self._at) / NS_PER_S)
            kept = math.exp(-span_s / RATE_MEMORY_S)
            self._busy_s = self._busy_s * kept + span_s
            self._tokens = self._tokens * kept + sent_tokens
        self._at, self._waiting = now, waiting

    @property
    def tokens_per_s(self) -> float:
        known = self._known if self._known is not None else UNKNOWN_TOKENS_PER_S
        if self._busy_s <= 0.0:
            return known
        seen = self._tokens / self._busy_s
        sure = min(1.0, self._busy_s / RATE_SURE_S)
        return max(1e-3, sure * seen + (1.0 - sure) * known)


class _Errors:
    __slots__ = ("by_age", "by_size")

    def __init__(self) -> None:
        self.by_age: deque[float] = deque()
        self.by_size: list[float] = []

    def saw(self, ratio: float) -> None:
        if len(self.by_age) == ERRORS_KEPT:
            del self.by_size[bisect_left(self.by_size, self.by_age.popleft())]
        self.by_age.append(ratio)
        insort(self.by_size, ratio)

    def at(self, share: float, first: float) -> float:
        size = self.by_size
        return size[round(share * (len(size) - 1))] if len(size) >= ERRORS_MIN else first


class Forecast:
    __slots__ = ("_errors", "rate")

    def __init__(self, known_tokens_per_s: float | None = None) -> None:
        self.rate = ServiceRate(known_tokens_per_s)
        self._errors = (_Errors(), _Errors())

    def wait(self, ahead_tokens: float, *, long: bool) -> Wait:
        raw = ahead_tokens / self.rate.tokens_per_s * 1000.0
        errors = self._errors[long]
        middle = errors.at(0.5, 1.0)
        return Wait(raw, raw * errors.at(0.1, FIRST_LOW), raw * middle, raw * errors.at(0.9, FIRST_HIGH))

    def came_true(self, raw_ms: float, waited_ms: float, *, long: bool) -> None:
        if raw_ms > 0.0:
            self._errors[long].saw(min(RATIO_MAX, max(RATIO_MIN, waited_ms / raw_ms)))
