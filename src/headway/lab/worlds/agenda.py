"""The virtual clock: what happens next, in one order for one seed."""

import heapq
from collections.abc import Callable
from typing import Any

from headway.kernel.instants import MonoNs

_Entry = tuple[int, int, int, Callable[..., None], tuple[Any, ...]]


class Agenda:
    """Callbacks by instant; equal instants in the order in which they were asked for. ``late`` ones come after all others of their instant."""

    __slots__ = ("_heap", "_order", "now")

    def __init__(self) -> None:
        self.now = MonoNs(0)
        self._heap: list[_Entry] = []
        self._order = 0

    def at(self, when: int, what: Callable[..., None], *arguments: Any, late: bool = False) -> None:
        """``when`` in nanoseconds; an instant that has passed means now."""
        self._order += 1
        heapq.heappush(self._heap, (max(when, self.now), int(late), self._order, what, arguments))

    def turn(self) -> bool:
        """Do the next thing; False when there is none."""
        if not self._heap:
            return False
        when, _, _, what, arguments = heapq.heappop(self._heap)
        self.now = MonoNs(when)
        what(*arguments)
        return True
