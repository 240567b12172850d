"""Two-sided CUSUM with a date: when did the level change? (Page 1954.)

In: residuals in units of their own spread. Both sums forget ``k`` a call; the one that passes ``h`` is an alarm, stamped where that sum was last 0.
With k 0.5 and h 5 a false alarm comes about once in 465 normal calls, with h 8 about once in 20,000.
"""

from collections import deque

import msgspec

from headway.calls.phases.settings import Settings

_RATE_CALLS = 50


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """``rose`` or fell. ``stamp`` is the first call after the sum was last 0: the change lies there. ``index`` counts calls of the stream."""

    rose: bool
    stamp_ms: int
    stamp_index: int
    at_ms: int
    index: int


class Cusum:
    """One stream of residuals; restarts after an alarm. Keeps the change it is in until that goes back or has become the usual.

    It goes back when residuals lie on the old side of the middle between the two levels for long enough: a third sum says so, which is quicker than
    to wait for the opposite alarm, and soon ends an alarm that was none.
    """

    __slots__ = ("_back", "_down", "_down_from", "_middle", "_settings", "_times", "_up", "_up_from", "episode", "index")

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._up = self._down = 0.0
        self._up_from = self._down_from = (0, 0)
        self._back = self._middle = 0.0
        self._times: deque[int] = deque(maxlen=_RATE_CALLS)
        self.index = 0
        self.episode: Alarm | None = None
        """The first alarm of the change that lasts: its stamp is when it began."""

    def receive(self, units: float, at_ms: int) -> Alarm | None:
        """One residual, in order of time."""
        settings = self._settings
        self.index += 1
        self._times.append(at_ms)
        if self.episode is not None and at_ms - self.episode.stamp_ms >= settings.settle_ms:
            self.episode = None
        z = min(max(units, -settings.clip), settings.clip)
        self._return(z)
        here = (at_ms, self.index)
        if self._up == 0:
            self._up_from = here
        if self._down == 0:
            self._down_from = here
        self._up = max(0.0, self._up + z - settings.cusum_k)
        self._down = max(0.0, self._down - z - settings.cusum_k)
        bound = settings.cusum_h_busy if self._busy() else settings.cusum_h
        if max(self._up, self._down) <= bound:
            return None
        rose = self._up >= self._down
        stamp = self._up_from if rose else self._down_from
        level = max(self._up, self._down) / (self.index - stamp[1] + 1) + settings.cusum_k
        self._up = self._down = 0.0
        alarm = Alarm(rose=rose, stamp_ms=stamp[0], stamp_index=stamp[1], at_ms=at_ms, index=self.index)
        self._note(alarm, level)
        return alarm

    def _return(self, z: float) -> None:
        """Whether residuals are as they were before the change."""
        if self.episode is None:
            return
        away = z if self.episode.rose else -z
        self._back = max(0.0, self._back + self._middle - away)
        if self._back > self._settings.cusum_h:
            self.episode = None

    def _note(self, alarm: Alarm, level: float) -> None:
        """The other way ends a change. A fall that follows no rise is a change itself: the level is better than it was."""
        if self.episode is None:
            self.episode = alarm
            self._back, self._middle = 0.0, level / 2
        elif self.episode.rose != alarm.rose:
            self.episode = None

    def _busy(self) -> bool:
        times = self._times
        if len(times) < 2:
            return False
        return (len(times) - 1) * 1000 > self._settings.busy_per_s * max(times[-1] - times[0], 1)
