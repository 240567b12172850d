"""How long a call will wait: cost ahead over the rate at which cost is sent, put right by how wrong that was of late.

The interval is of 80 %: the 10th to the 90th percentile of (wait that came true / wait that was forecast) over the last calls, widened until
four in five come true in it; short and long waits and long prompts apart. Before there are any, 0.7 to 2 times.
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
CALLS_UNTIL_SURE = 3.0
"""When all slots have just been taken nobody is sent until the first calls end, later than calls did before: that is no standstill."""
CALL_SHARE = 0.05
PACE_SHARE = 0.2
PACE_NS = NS_PER_S // 4
SLOTS_USELESS = 16.0
"""So many times slower calls become, at worst, when every slot is taken."""
ERRORS_KEPT = 256
ERRORS_MIN = 8
FIRST_LOW, FIRST_HIGH = 0.7, 2.0
RATIO_MIN, RATIO_MAX = 0.2, 5.0
OUT, STRETCH_MAX = 1.05, 2.0
BACK = OUT ** (-1 / 9)
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

    A crowd that takes every place at once leaves none to come free for as long as its calls take: that time is not counted. Meanwhile, and
    before anybody has waited for long, the rate is what all slots do at the pace of the calls under way. Where no pace is known, it is
    taken to lie midway (by ratio) between the rate at which calls ended without anybody waiting, which it is not under, and what the slots
    would do were each call as quick as now, which it is not over.
    """

    __slots__ = (
        "_at", "_busy_s", "_busy_tokens", "_call_output", "_call_s", "_call_tokens", "_idle_s", "_idle_tokens", "_known", "_pace_at",
        "_pace_tokens", "_produced_per_s", "_read_s", "_since", "_turn_s", "_waiting",
    )  # fmt: skip

    def __init__(self, known_tokens_per_s: float | None = None) -> None:
        self._known = known_tokens_per_s
        self._at: MonoNs | None = None
        self._busy_s = self._busy_tokens = self._idle_s = self._idle_tokens = 0.0
        self._call_s = self._call_tokens = self._call_output = self._read_s = 0.0
        self._waiting = False
        self._since = self._pace_at = MonoNs(0)
        self._pace_tokens = 0
        self._turn_s = 0.0
        """How long calls take while all slots are taken: until then none comes free of those that a crowd took at once."""
        self._produced_per_s = 0.0
        """Output tokens of all calls together, while somebody waits: that is, while all slots are taken."""

    def sent(self, tokens: float, now: MonoNs, *, waiting: bool) -> None:
        """``tokens`` (0: nothing) were sent now; ``waiting`` says whether somebody still waits."""
        if self._at is not None:
            span_s = max(0.0, (now - self._at) / NS_PER_S)
            kept = 1.0 - span_s / RATE_MEMORY_S if span_s < 0.1 else math.exp(-span_s / RATE_MEMORY_S)
            if not self._waiting:
                self._idle_s, self._idle_tokens = self._idle_s * kept + span_s, self._idle_tokens * kept
            elif (now - self._since) / NS_PER_S >= self._turn_s:
                self._busy_s, self._busy_tokens = self._busy_s * kept + span_s, self._busy_tokens * kept + tokens
        if waiting and not self._waiting:
            self._since = self._pace_at = now
            self._pace_tokens = 0
        self._at, self._waiting = now, waiting

    def read(self, took_ms: float) -> None:
        """A prompt of ordinary length had its first token so long after it was sent."""
        self._read_s += (took_ms / 1000.0 - self._read_s) * (CALL_SHARE if self._read_s else 1.0)

    def produced(self, tokens: int, now: MonoNs) -> None:
        """Output tokens of some call."""
        if not self._waiting:
            return
        self._pace_tokens += tokens
        span_ns = now - self._pace_at
        if span_ns >= PACE_NS:
            seen = self._pace_tokens * NS_PER_S / span_ns
            self._produced_per_s += (seen - self._produced_per_s) * (PACE_SHARE if self._produced_per_s else 1.0)
            self._pace_at, self._pace_tokens = now, 0

    def ended(self, tokens: float, took_ms: float, output_tokens: int = 0) -> None:
        """A call of this cost was over after so long; ``output_tokens`` 0: nobody counted them."""
        if not self._waiting:
            self._idle_tokens += tokens
        share = CALL_SHARE if self._call_s else 1.0
        self._turn_s = max(self._turn_s, self._call_s)
        self._call_s += (took_ms / 1000.0 - self._call_s) * share
        self._call_tokens += (tokens - self._call_tokens) * share
        if output_tokens:
            self._call_output += (output_tokens - self._call_output) * (CALL_SHARE if self._call_output else 1.0)

    def tokens_per_s(self, slots: int) -> float:
        sure_s = CALLS_UNTIL_SURE * self._call_s or UNKNOWN_CALL_S
        return max(RATE_MIN, (self._busy_tokens + self._guess(slots) * sure_s) / (self._busy_s + sure_s))

    def _guess(self, slots: int) -> float:
        if self._known is not None:
            return self._known
        if self._produced_per_s and self._call_output:
            self._turn_s = self._read_s + self._call_output * slots / self._produced_per_s
            return slots * self._call_tokens / self._turn_s
        seen = self._idle_tokens / self._idle_s if self._idle_s > 1.0 else 0.0
        if not self._call_s:
            return max(seen, UNKNOWN_TOKENS_PER_S)
        most = slots * self._call_tokens / self._call_s
        return math.sqrt(max(seen, most / SLOTS_USELESS) * most)


class _Errors:
    """Of waits of one kind: how wrong the last ones were, and how wide the interval must be for 80 % of them to come true in it.

    Errors that follow one another are alike, so quantiles of the last ones alone give intervals that are too narrow: each end is moved out
    by a step for every wait beyond it and in by a ninth of that for every other one, which rests where one in ten lies beyond.
    """

    __slots__ = ("_by_age", "_by_size", "_stretch_high", "_stretch_low", "high", "low", "middle")

    def __init__(self) -> None:
        self._by_age: deque[float] = deque()
        self._by_size: list[float] = []
        self._stretch_low = self._stretch_high = 1.0
        self.low, self.middle, self.high = FIRST_LOW, 1.0, FIRST_HIGH

    def saw(self, wait: Wait, waited_ms: float) -> None:
        by_age, by_size = self._by_age, self._by_size
        self._stretch_low = _moved(self._stretch_low, beyond=waited_ms < wait.low)
        self._stretch_high = _moved(self._stretch_high, beyond=waited_ms > wait.high)
        if len(by_age) == ERRORS_KEPT:
            del by_size[bisect_left(by_size, by_age.popleft())]
        ratio = min(RATIO_MAX, max(RATIO_MIN, waited_ms / wait.raw))
        by_age.append(ratio)
        insort(by_size, ratio)
        last = len(by_size) - 1
        if last >= ERRORS_MIN:
            self.middle = by_size[last // 2]
            self.low = by_size[last // 10] / self._stretch_low
            self.high = by_size[last - last // 10] * self._stretch_high


def _moved(stretch: float, *, beyond: bool) -> float:
    return min(STRETCH_MAX, stretch * OUT) if beyond else max(1.0, stretch * BACK)


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
        return Wait(raw_ms, raw_ms * errors.low, raw_ms * errors.middle, raw_ms * errors.high)

    def came_true(self, wait: Wait, waited_ms: float, *, long: bool) -> None:
        if wait.raw >= LEARNT_MS_MIN:
            self._of(wait.raw, long=long).saw(wait, waited_ms)

    def _of(self, raw_ms: float, *, long: bool) -> _Errors:
        return self._errors[-1 if long else bisect_left(BANDS_MS, raw_ms)]
