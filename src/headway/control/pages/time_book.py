"""What the page "Where the time goes" asks: the traces of a range, read once and kept for a while, and what was worked out of them.

Working out takes seconds of a processor. It is done beside the loop, one piece at a time; who asks for the same meanwhile waits for the same answer.
"""

import asyncio
import importlib
from collections.abc import Callable, Coroutine, Hashable
from functools import partial
from types import MappingProxyType
from typing import Any, Final, Generic, TypeVar

from headway.calls.hops.clean import TypeOf
from headway.calls.hops.model import HopTrace
from headway.calls.hops.types import type_by_calls, type_by_root
from headway.control.pages.ranges import Range
from headway.control.pages.time_report import Read, TimeReport, TypeReport, Wanted, overview_of, type_report
from headway.control.ports import Away
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
WAITING_MAX = 16
"""Pieces of work that wait for their turn; who comes after is told to come again."""
TYPES: Final = MappingProxyType[str, TypeOf]({"root": type_by_root, "calls": type_by_calls})
"""How requests are told apart: by their root, or by what it calls, for roots that all look alike."""
_US_PER_MS = 1_000


class TimeBook:
    """Lives on control's loop. Every method may raise one of ``ports.AWAY``."""

    def __init__(self, engine: Engine, clock: Callable[[], WallMs]) -> None:
        self._engine, self._table, self._clock = engine, HopTable(engine), clock
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._reads: _Kept[Read] = _Kept(READS_KEPT)
        self._reports: _Kept[Any] = _Kept(REPORTS_KEPT)
        self._traces: _Kept[HopTrace | None] = _Kept(TRACES_KEPT)

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
        return await self._once(self._traces, (trace, at_ms, tenant), KEPT_MS_MIN, lambda: self._one_trace(trace, at_ms, tenant))

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
        return await self._once(self._reads, (chosen.name, tenant, types), kept_ms, lambda: self._read_now(chosen, tenant, types))

    async def _read_now(self, chosen: Range, tenant: str, types: str) -> Read:
        now = self._clock()
        where = HopQuery(since_wall_us=(now - chosen.length_ms) * _US_PER_MS, until_wall_us=(now + 1) * _US_PER_MS, tenant=tenant)
        found = await self._table.traces(where, type_of=TYPES[types], most=SPANS_READ_MAX)
        return Read(at_wall_ms=now, cleaned=found.cleaned, left_out=found.left_out)

    async def _worked(self, key: Hashable, work: Callable[[], Answer]) -> Answer:
        """Keyed by when its traces were read, so that a report never outlives them by more than being one of the last few."""
        return await self._once(self._reports, key, KEPT_MS_MAX, lambda: self._work(work))

    async def _work(self, work: Callable[[], Answer]) -> Answer:
        if self._waiting >= WAITING_MAX:
            raise Away("too many ask where the time goes at once; try again in a few seconds")
        self._waiting += 1
        try:
            async with self._turn:
                return await asyncio.to_thread(work)
        finally:
            self._waiting -= 1

    async def _once(
        self, kept: "_Kept[Answer]", key: Hashable, kept_ms: int, ask: Callable[[], Coroutine[Any, Any, Answer]]
    ) -> Answer:
        """The kept answer, else one made now: whoever asks meanwhile waits for it, and one who goes away does not end it for the others."""
        now = self._clock()
        found = kept.get(key, now, kept_ms)
        if found is None:
            found = asyncio.ensure_future(ask())
            kept.put(key, now, found)
        try:
            return await asyncio.shield(found)
        except BaseException:
            if found.done():
                kept.drop(key, found)
            raise


class _Kept(Generic[Answer]):
    """The newest few answers by what was asked; over ``most`` the one kept first goes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._found: dict[Hashable, tuple[WallMs, asyncio.Future[Answer]]] = {}

    def get(self, key: Hashable, now: WallMs, kept_ms: int) -> asyncio.Future[Answer] | None:
        found = self._found.get(key)
        return found[1] if found is not None and 0 <= now - found[0] < kept_ms else None

    def put(self, key: Hashable, now: WallMs, answer: asyncio.Future[Answer]) -> None:
        self._found.pop(key, None)
        self._found[key] = (now, answer)
        if len(self._found) > self._most:
            del self._found[next(iter(self._found))]

    def drop(self, key: Hashable, answer: asyncio.Future[Answer]) -> None:
        """Unless another has taken its place."""
        if (kept := self._found.get(key)) is not None and kept[1] is answer:
            del self._found[key]


def _bounds(reader: Reader, trace: str, tenant: str) -> tuple[int | None, int | None]:
    queries = importlib.import_module("headway.control.pages.time_queries")
    row: dict[str, int | None] = reader.rows(queries.bounds_of_trace(trace, tenant))[0]
    return row["first"], row["last"]
