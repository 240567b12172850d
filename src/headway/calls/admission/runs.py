"""The runs of an endpoint: one bucket for all children of a run, and which of them stand back until it lets them go."""

from heapq import heappop, heappush
from itertools import islice

from headway.calls.admission.model import RunShare
from headway.calls.admission.order import HeapOrder
from headway.calls.admission.state import Run, State
from headway.kernel.instants import MonoNs
from headway.kernel.limits import ADMISSION_RUNS_KEPT_MAX

LOOKED_AT = 8


class Runs:
    """``wakes``: when the rates of which runs allow the next child, soonest first."""

    __slots__ = ("_numbers", "_order", "_share", "by_name", "wakes")

    def __init__(self, share: RunShare, order: HeapOrder) -> None:
        self._share, self._order = share, order
        self.by_name: dict[tuple[str, str], Run] = {}
        self.wakes: list[tuple[MonoNs, int, Run]] = []
        self._numbers = 0

    def of(self, tenant: str, run_id: str, now: MonoNs) -> Run:
        """A tenant's run, whoever calls on its behalf; the one used last is forgotten last."""
        key = (tenant, run_id)
        run = self.by_name.pop(key, None)
        if run is None:
            run = Run(run_id, self._share, now)
            if len(self.by_name) >= ADMISSION_RUNS_KEPT_MAX:
                self._forget_one()
        self.by_name[key] = run
        return run

    def reopen(self, run: Run, now: MonoNs) -> None:
        """Offer one parked child where the run lets it go; the next one follows when that one has gone."""
        while run.parked and run.open(now):
            call = heappop(run.parked)[1]
            if call.state is State.QUEUED:
                call.parked = False
                self._order.reopened(call, now)
                break
        self.wake_later(run, now)

    def wake_later(self, run: Run, now: MonoNs) -> None:
        """Note when time alone will let a waiting child go."""
        if run.waiting and run.wakes_at is None and (at := run.opens_at(now)) is not None:
            run.wakes_at = at
            self._numbers += 1
            heappush(self.wakes, (at, self._numbers, run))

    def wake(self, now: MonoNs) -> None:
        while self.wakes and self.wakes[0][0] <= now:
            run = heappop(self.wakes)[2]
            run.wakes_at = None
            self.reopen(run, now)

    def reshared(self, share: RunShare, order: HeapOrder) -> None:
        """New settings: whoever stood back is put into the new order by the caller."""
        self._share, self._order = share, order
        self.wakes.clear()
        for run in self.by_name.values():
            run.share = share
            run.parked.clear()
            run.wakes_at = None

    def _forget_one(self) -> None:
        """The one unused for longest, of a few; those in use go to the end of the line."""
        for key in list(islice(self.by_name, LOOKED_AT)):
            run = self.by_name.pop(key)
            if not (run.running or run.waiting):
                return
            self.by_name[key] = run
