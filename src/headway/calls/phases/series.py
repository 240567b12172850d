"""What a quantity usually is, over rolling data that what is unusual does not bend."""

from bisect import bisect_left, bisect_right
from collections import deque
from statistics import NormalDist

from headway.calls.phases.medians import Usual, usual_of
from headway.calls.phases.settings import Settings

_RECOUNT_EVERY = 8
_ORDINARY_PER_ODD = 4
_NORMAL = NormalDist()


class Series:
    """The last ``calls_kept`` ordinary values. Unusual ones are set aside, so that fifty slow calls in a row do not become the usual; once
    they have been the rule for ``settle_ms`` and ``settle_calls``, they do."""

    __slots__ = ("_floor", "_odd", "_ordered", "_ordinary_since", "_settings", "_unread", "_usual", "values")

    def __init__(self, settings: Settings, floor: float) -> None:
        """``floor`` is the least scale: what differs by less is the same."""
        self._settings, self._floor = settings, floor
        self.values: deque[float] = deque(maxlen=settings.calls_kept)
        self._odd: deque[tuple[int, float]] = deque(maxlen=settings.calls_kept)
        self._ordinary_since = 0
        self._usual: Usual | None = None
        self._ordered: list[float] = []
        self._unread = 0

    def __len__(self) -> int:
        return len(self.values)

    @property
    def usual(self) -> Usual | None:
        """None before the first value. Counted anew after every eighth value."""
        if self.values and (self._usual is None or self._unread >= min(_RECOUNT_EVERY, self._usual.n)):
            self._ordered = sorted(self.values)
            self._usual, self._unread = usual_of(self._ordered), 0
        return self._usual

    def median(self, otherwise: float = 0.0) -> float:
        usual = self.usual
        return otherwise if usual is None else usual.median

    def units(self, value: float) -> float:
        """How far ``value`` lies above the usual; 0 while nothing is usual."""
        usual = self.usual
        return 0.0 if usual is None else usual.units(value, self._floor)

    def score(self, value: float) -> float:
        """The normal deviate of its rank among the usual ones (van der Waerden): of ordinary values standard normal, however skewed they are."""
        usual = self.usual
        if usual is None:
            return 0.0
        ordered = self._ordered
        rank = (bisect_left(ordered, value) + bisect_right(ordered, value)) / 2
        return _NORMAL.inv_cdf((rank + 0.5) / (len(ordered) + 1))

    def odd(self, value: float) -> bool:
        """More than is usual, once enough is known."""
        enough = len(self.values) >= self._settings.baseline_calls_min
        return enough and self.units(value) > self._settings.unusual_units

    def over_p90(self, value: float) -> bool:
        """Above nine in ten of the ordinary ones."""
        usual = self.usual
        return usual is not None and value > usual.p90

    def add(self, at_ms: int, value: float) -> None:
        """One value, in order of time."""
        if abs(self.units(value)) > self._settings.unusual_units and len(self.values) >= self._settings.baseline_calls_min:
            self._set_aside(at_ms, value)
            return
        self.values.append(value)
        self._unread += 1
        self._ordinary_since += 1
        if self._odd and self._ordinary_since > _ORDINARY_PER_ODD * len(self._odd):
            self._odd.clear()

    def _set_aside(self, at_ms: int, value: float) -> None:
        if not self._odd:
            self._ordinary_since = 0
        self._odd.append((at_ms, value))
        lasted = at_ms - self._odd[0][0] >= self._settings.settle_ms and len(self._odd) >= self._settings.settle_calls
        if lasted and len(self._odd) > self._ordinary_since:
            self.values = deque((each for _, each in self._odd), maxlen=self._settings.calls_kept)
            self._odd.clear()
            self._usual, self._unread = None, 0
