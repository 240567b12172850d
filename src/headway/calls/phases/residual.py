"""How far first tokens are from what was expected: the residual R = log(TTFT / E), its spread s, and the level g of the last quarter of an hour."""

from collections import deque
from math import log

from headway.calls.phases.expected import Line, Point, fit
from headway.calls.phases.medians import median
from headway.calls.phases.series import Series
from headway.calls.phases.settings import Settings

RESIDUAL_FLOOR = 0.03
"""Least spread of R: three per cent."""
PACE_FLOOR = 0.01
_FIRST_FITS = 8
_TOKEN_MS_MIN = 1e-3


class Lane:
    """The calls of one target that one region, fingerprint or engine answered: their line, its residuals, their pace."""

    __slots__ = (
        "_levels",
        "_settings",
        "_unfitted",
        "born_index",
        "born_ms",
        "line",
        "pace",
        "pace_line",
        "paces",
        "points",
        "residuals",
    )

    def __init__(self, settings: Settings, born_ms: int, born_index: int) -> None:
        self._settings = settings
        self.born_ms, self.born_index = born_ms, born_index
        self.points: deque[Point] = deque(maxlen=settings.calls_kept)
        self.line = Line()
        self._levels: deque[tuple[int, float]] = deque(maxlen=settings.calls_kept)
        self._unfitted = 0
        self.residuals = Series(settings, RESIDUAL_FLOOR)
        """R, in logs."""
        self.paces: deque[Point] = deque(maxlen=settings.calls_kept)
        """Milliseconds an output token, by how many requests ran as the call was sent."""
        self.pace_line = Line()
        self.pace = Series(settings, PACE_FLOOR)
        """Milliseconds an output token, over what was expected."""

    @property
    def n(self) -> int:
        return len(self.points)

    def level_ms(self, now_ms: int, before_ms: int | None) -> float:
        """g: median residual in milliseconds of the quarter of an hour before ``now_ms``, of calls before ``before_ms`` where a change began
        then. 0 of too few: the line is a median itself."""
        since = now_ms - self._settings.level_ms
        found = [ms for at, ms in self._levels if since <= at <= now_ms and (before_ms is None or at < before_ms)]
        return median(found) if len(found) >= self._settings.level_calls_min else 0.0

    def learn(self, at_ms: int, point: Point) -> None:
        """A call in the ordinary run of things."""
        self.points.append(point)
        self._levels.append((at_ms, point.took_ms - self.line.at(point.uncached, point.waiting, point.beside)))
        self._unfitted += 1
        if self._unfitted >= min(self._settings.refit_every, max(_FIRST_FITS, self.line.n // 4)):
            self._fit()

    def learn_pace(self, at_ms: int, token_ms: float, running: float | None) -> None:
        usual = self.pace_ms(running)
        self.paces.append(Point(token_ms, running))
        self.pace.add(at_ms, token_ms / usual if usual else 1.0)

    def pace_ms(self, running: float | None) -> float | None:
        """Milliseconds an output token usually takes while so many run; None before the first call that told."""
        return max(self.pace_line.at(running), _TOKEN_MS_MIN) if self.pace_line.n else None

    def _fit(self) -> None:
        self.line, self._unfitted = fit(self.points), 0
        if self.paces:
            self.pace_line = fit(self.paces)


def residual(took_ms: float, expected_ms: float) -> float:
    """R. Both count as at least 1 ms."""
    return log(max(took_ms, 1.0) / max(expected_ms, 1.0))
