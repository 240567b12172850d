"""What the page "Slow calls" asks: verdicts of a range, and what changed since an instant; each worked out once and kept for a while."""

from collections.abc import Callable
from functools import partial

from headway.control.access import Who
from headway.control.pages.kept import Kept, Turns
from headway.control.pages.ranges import Range
from headway.control.pages.slow_report import SlowWindow, window_of
from headway.control.phases import BEFORE_MS, PhaseBook, Since
from headway.facts.engine import Engine
from headway.facts.phases import PhaseQuery, read_phases
from headway.kernel.instants import WallMs
from headway.kernel.limits import PHASE_CALLS_READ_MAX

KEPT_MS = 20_000
WINDOWS_KEPT, SINCE_KEPT = 8, 8


class SlowBook:
    """Lives on control's loop. Every method may raise one of ``ports.AWAY``."""

    def __init__(self, engine: Engine, phases: PhaseBook, clock: Callable[[], WallMs]) -> None:
        self._engine, self._phases, self._clock = engine, phases, clock
        self._turns = Turns("which calls were slow")
        self._windows: Kept[SlowWindow] = Kept(WINDOWS_KEPT, clock)
        self._since: Kept[Since] = Kept(SINCE_KEPT, clock)

    async def window(self, chosen: Range, who: Who) -> SlowWindow:
        """Every call of the range, as far as ``who`` may see, at most KEPT_MS old."""
        return await self._windows.once((chosen.name, who.tenant), KEPT_MS, lambda: self._window(chosen, who.tenant))

    async def since(self, since_ms: int, who: Who) -> Since:
        """What changed. ``Refused`` for an instant that is to come or too long ago."""
        return await self._since.once((since_ms, who.tenant), KEPT_MS, lambda: self._phases.since(since_ms, who))

    async def _window(self, chosen: Range, tenant: str) -> SlowWindow:
        now = self._clock()
        since_ms = now - chosen.length_ms
        stretches = (
            PhaseQuery(since_wall_ms=since_ms - BEFORE_MS, until_wall_ms=since_ms),
            PhaseQuery(since_wall_ms=since_ms, until_wall_ms=now + 1),
        )
        read = await self._engine.run(lambda reader: read_phases(reader, stretches, PHASE_CALLS_READ_MAX))
        return await self._turns.work(partial(window_of, read, since_ms, now, tenant))
