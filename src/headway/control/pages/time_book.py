"""What the page "Where the time goes" asks: the traces of a range, read once and kept for a while, and what was worked out of them.

Working out takes seconds of a processor. It is done beside the loop, one piece at a time; who asks for the same meanwhile waits for the same answer.
"""

import importlib
from collections.abc import Callable, Hashable
from functools import partial
from types import MappingProxyType
from typing import Any, Final, TypeVar

from headway.calls.hops.clean import TypeOf
from headway.calls.hops.model import HopTrace
from headway.calls.hops.types import type_by_calls, type_by_root
from headway.control.pages.kept import Kept, Turns
from headway.control.pages.ranges import Range
from headway.control.pages.time_report import Read, TimeReport, TypeReport, Wanted, overview_of, type_report
from headway.facts.engine import Engine, Reader
from headway.facts.hop_range import HopQuery
from headway.facts.hops import HopTable
from headway.kernel.instants import WallMs

Answer = TypeVar("Answer")
SPANS_READ_MAX = 150_000
"""Of a range for the page: the newest traces, and the page says how many are left out."""
READS_KEPT, REPORTS_KEPT, TRACES_KEPT = 2, 32, 8
KEPT_MS_MIN, KEPT_MS_MAX, KEPT_PART = 30_000, 600_000, 120
"""What was read of a range is kept for so small a part of its length, within these bounds."""
TYPES: Final = MappingProxyType[str, TypeOf]({"root": type_by_root, "calls": type_by_calls})
"""How requests are told apart: by their root, or by what it calls, for roots that all look alike."""
_US_PER_MS = 1_000


class TimeBook:
    """Lives on control's loop. Every method may raise one of ``ports.AWAY``."""

    def __init__(self, engine: Engine, clock: Callable[[], WallMs]) -> None:
        self._engine, self._table, self._clock = engine, HopTable(engine), clock
        self._turns = Turns("where the time goes")
        self._reads: Kept[Read] = Kept(READS_KEPT, clock)
        self._reports: Kept[Any] = Kept(REPORTS_KEPT, clock)
        self._traces: Kept[HopTrace | None] = Kept(TRACES_KEPT, clock)

    async def overview(self, chosen: Range, wanted: Wanted, tenant: str, types: str) -> TimeReport:
        """All request types of the range, those with most traces first. ``tenant`` of a caller who sees one only."""
        read = await self._read(chosen, tenant, types)
        key = ("overview", read.at_wall_ms, chosen.name, wanted.labels, tenant, types)
        return await self._worked(key, partial(overview_of, read, wanted.labels))

    async def one_type(self, chosen: Range, wanted: Wanted, tenant: str, types: str) -> TypeReport | None:
        """One request type in full; None where no trace is of it."""
        read = await self._read(chosen, tenant, types)
        return await self._worked(("type", read.at_wall_ms, chosen.name, wanted, tenant, types), partial(type_report, read, wanted))

    async def trace(self, trace: str, at_ms: int, tenant: str) -> HopTrace | None:
        """One trace, found sooner with when it began; None where there is none, or nothing of it is the tenant's."""
        return await self._traces.once((trace, at_ms, tenant), KEPT_MS_MIN, lambda: self._one_trace(trace, at_ms, tenant))

    async def _one_trace(self, trace: str, at_ms: int, tenant: str) -> HopTrace | None:
        since, until = (at_ms - 1) * _US_PER_MS, (at_ms + 1) * _US_PER_MS
        if not at_ms:
            first, last = await self._engine.run(lambda reader: _bounds(reader, trace, tenant))
            if first is None or last is None:
                return None
            since, until = first, last + 1
        # A trace is found by when it began; others that began in the same millisecond are let go.
        where = HopQuery(since_wall_us=since, until_wall_us=until, tenant=tenant)
        found = await self._table.traces(where)
        return next((each for each in found.cleaned.traces if each.trace == trace), None)

    async def _read(self, chosen: Range, tenant: str, types: str) -> Read:
        kept_ms = min(KEPT_MS_MAX, max(KEPT_MS_MIN, chosen.length_ms // KEPT_PART))
        return await self._reads.once((chosen.name, tenant, types), kept_ms, lambda: self._read_now(chosen, tenant, types))

    async def _read_now(self, chosen: Range, tenant: str, types: str) -> Read:
        now = self._clock()
        where = HopQuery(since_wall_us=(now - chosen.length_ms) * _US_PER_MS, until_wall_us=(now + 1) * _US_PER_MS, tenant=tenant)
        found = await self._table.traces(where, type_of=TYPES[types], most=SPANS_READ_MAX)
        return Read(at_wall_ms=now, cleaned=found.cleaned, left_out=found.left_out)

    async def _worked(self, key: Hashable, work: Callable[[], Answer]) -> Answer:
        """Keyed by when its traces were read, so that a report never outlives them by more than being one of the last few."""
        found: Answer = await self._reports.once(key, KEPT_MS_MAX, lambda: self._turns.work(work))
        return found


def _bounds(reader: Reader, trace: str, tenant: str) -> tuple[int | None, int | None]:
    queries = importlib.import_module("headway.control.pages.time_queries")
    row: dict[str, int | None] = reader.rows(queries.bounds_of_trace(trace, tenant))[0]
    return row["first"], row["last"]
