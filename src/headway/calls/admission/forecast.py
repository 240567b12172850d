"""How long a call will wait: cost ahead over the rate at which cost is sent, put right by how wrong that was of late.

The interval is of 80 %: the 10th to the 90th percentile of (wait that came true / wait that was forecast) over the last calls, those
with short and with long waits and those with long prompts apart. Before there are any, half to twice.
"""

import math
from bisect import bisect_left, insort
from collections import deque
from typing import NamedTuple

from headway.kernel.instants import NS_PER_S, MonoNs

UNKNOWN_TOKENS_PER_S = 500.0
"""Until the endpoint's rate is known: rather too slow, so that who is told when to come again does not come too early."""
RATE_MEMORY_S = 20.0
RATE_MIN = 1e-3
UNKNOWN_CALL_S = 2.0
CALL_SHARE = 0.05
SLOTS_USELESS = 16.0
"""So many times slower calls become, at worst, when every slot is taken."""
ERRORS_KEPT = 64
ERRORS_MIN = 8
FIRST_LOW, FIRST_HIGH = 0.5, 2.0
RATIO_MIN, RATIO_MAX = 0.2, 5.0
BANDS_MS = (1_000.0, 10_000.0)
LEARNT_MS_MIN = 200.0
"""Of shorter forecasts the error says only when the next place happened to be free."""


class Wait(NamedTuple):
    """Milliseconds. ``raw`` is before correction: what later errors are measured against."""

    raw: float
    low: float
    middle: float
    high: float


NONE = Wait(0.0, 0.0, 0.0, 0.0)


class ServiceRate:
    """Virtual tokens a second that are sent while somebody waits.

    Before anybody has waited for long, it is taken to lie midway (by ratio) between the rate at which calls ended without anybody waiting,
    which it is not under, and what the slots would do were each call as quick as now, which it is not over.
    """

    __slots__ = ("_at", "_busy_s", "_busy_tokens", "_call_s", "_call_tokens", "_idle_s", "_idle_tokens", "_known", "_waiting")

    def __init__(self, known_tokens_per_s: float | None = None) -> None:
        self._known = known_tokens_per_s
        self._at: MonoNs | None = None
        self._busy_s = self._busy_tokens = self._idle_s = self._idle_tokens = 0.0
        self._call_s = self._call_tokens = 0.0
        self._waiting = False

    def sent(self, tokens: float, now: MonoNs, *, waiting: bool) -> None:
        """``tokens`` (0: nothing) were sent now; ``waiting`` says whether somebody still waits."""
        if self._at is not None:
            span_s = max(0.0, (now - self._at) / NS_PER_S)
            kept = math.exp(-span_s / RATE_MEMORY_S)
            if self._waiting:
                self._busy_s, self._busy_tokens = self._busy_s * kept + span_s, self._busy_tokens * kept + tokens
            else:
                self._idle_s, self._idle_tokens = self._idle_s * kept + span_s, self._idle_tokens * kept
        self._at, self._waiting = now, waiting

    def ended(self, tokens: float, took_ms: float) -> None:
        """A call of this cost was over after so long."""
        if not self._waiting:
            self._idle_tokens += tokens
        first = not self._call_s
        self._call_s += (took_ms / 1000.0 - self._call_s) * (1.0 if first else CALL_SHARE)
        self._call_tokens += (tokens - self._call_tokens) * (1.0 if first else CALL_SHARE)

    def tokens_per_s(self, slots: int) -> float:
        sure_s = self._call_s or UNKNOWN_CALL_S
        return max(RATE_MIN, (self._busy_tokens + self._guess(slots) * sure_s) / (self._busy_s + sure_s))

    def _guess(self, slots: int) -> float:
        if self._known is not None:
            return self._known
        seen = self._idle_tokens / self._idle_s if self._idle_s > 1.0 else 0.0
        if not self._call_s:
            return max(seen, UNKNOWN_TOKENS_PER_S)
        most = slots * self._call_tokens / self._call_s
        return math.sqrt(max(seen, most / SLOTS_USELESS) * most)


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
        self._errors = tuple(_Errors() for _ in range(len(BANDS_MS) + 2))

    def raw_ms(self, ahead_tokens: float, slots: int) -> float:
        """As far as cost and rate tell."""
        return ahead_tokens / self.rate.tokens_per_s(slots) * 1000.0

    def interval(self, raw_ms: float, *, long: bool) -> Wait:
        errors = self._of(raw_ms, long=long)
        return Wait(
            raw_ms, raw_ms * errors.at(0.1, FIRST_LOW), raw_ms * errors.at(0.5, 1.0), raw_ms * errors.at(0.9, FIRST_HIGH)
        )

    def came_true(self, raw_ms: float, waited_ms: float, *, long: bool) -> None:
        if raw_ms >= LEARNT_MS_MIN:
            self._of(raw_ms, long=long).saw(min(RATIO_MAX, max(RATIO_MIN, waited_ms / raw_ms)))

    def _of(self, raw_ms: float, *, long: bool) -> _Errors:
        return self._errors[-1 if long else bisect_left(BANDS_MS, raw_ms)]
