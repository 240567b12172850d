"""Verdicts as control gives them: of one call, and of what changed since an instant. One computation for the board, the API and the command line.

Reading is done in the facts' threads, working out beside the loop, one question at a time.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import partial
from typing import TypeVar

import msgspec

from headway.calls.phases.gaps import Gaps, gaps_of
from headway.calls.phases.history import History
from headway.calls.phases.model import Seen, Split, Verdict
from headway.calls.phases.prefix_change import Break, breaks
from headway.calls.phases.report import WindowReport, report
from headway.calls.phases.settings import Settings
from headway.calls.phases.split import split
from headway.calls.phases.verdict import Judge
from headway.calls.phases.window import compare
from headway.control.access import Who
from headway.control.errors import Refused
from headway.control.ports import Away
from headway.facts.engine import Engine, Reader
from headway.facts.phases import PhaseQuery, Read, read_call, read_phases
from headway.kernel.ids import id_wall_ms
from headway.kernel.instants import WallMs
from headway.kernel.limits import (
    PHASE_CALLS_BEFORE_MAX,
    PHASE_CALLS_READ_MAX,
    PHASE_VERDICTS_KEPT_MAX,
    PHASE_WAITING_MAX,
)

Answer = TypeVar("Answer")
BEFORE_MS = 24 * 3_600_000
"""How far back calls are the measure of what is usual."""
AFTER_MS = 150_000
"""How long after a call others still tell of it."""
SETTLED_AFTER_MS = 300_000
KEPT_MS = 15_000
SINCE_MS_MAX = 7 * 24 * 3_600_000


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """Where one call's time went, and why."""

    call: str
    target: str
    """provider/model that answered."""
    split: Split
    verdict: Verdict
    gap_p50_ms: float | None = None
    gap_p99_ms: float | None = None
    gap_longest_ms: float | None = None
    stalls: int = 0


class Since(msgspec.Struct, frozen=True, kw_only=True):
    """What changed. ``left_out`` calls were over the bound of a side."""

    report: WindowReport
    prefixes: tuple[Break, ...]
    calls_left_out: int = 0


class PhaseBook:
    """Lives on control's loop. Methods raise one of ``ports.AWAY`` while the facts cannot be read or too many wait."""

    def __init__(self, engine: Engine, clock: Callable[[], WallMs], settings: Settings | None = None) -> None:
        self._engine, self._clock, self._settings = engine, clock, settings or Settings()
        self._kept: OrderedDict[Hashable, tuple[WallMs, Judged | Since]] = OrderedDict()
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def judged(self, call: str, who: Who) -> Judged | None:
        """One call with its verdict; None where the call is not stored (yet) or is another tenant's."""
        try:
            id_wall_ms(call)
        except ValueError:
            return None
        key = ("call", call, who.tenant)
        kept = self._kept.get(key)
        if kept is not None and isinstance(kept[1], Judged) and self._fresh(call, kept[0]):
            return kept[1]
        read = await self._engine.run(partial(_read_call, call=call))
        if read is None or not who.sees(read[0].tenant):
            return None
        found = await self._worked(partial(judged, read[0], read[1], self._settings))
        self._keep(key, found)
        return found

    async def since(self, since_ms: int, who: Who) -> Since:
        """Calls after ``since_ms`` held against those before. ``Refused`` for an instant that is to come or too long ago."""
        now = self._clock()
        if not now - SINCE_MS_MAX <= since_ms < now:
            raise Refused.bad("the instant must lie within the last seven days", "since=2026-11-24T14:00:00Z, or milliseconds")
        key = ("since", since_ms, who.tenant)
        kept = self._kept.get(key)
        if kept is not None and now - kept[0] < KEPT_MS and isinstance(kept[1], Since):
            return kept[1]
        stretches = (
            PhaseQuery(since_wall_ms=since_ms - BEFORE_MS, until_wall_ms=since_ms),
            PhaseQuery(since_wall_ms=since_ms, until_wall_ms=now + 1, oldest=True),
        )
        read = await self._engine.run(lambda reader: read_phases(reader, stretches, PHASE_CALLS_READ_MAX))
        found = await self._worked(partial(changed_since, read, since_ms, who.tenant, self._settings))
        self._keep(key, found)
        return found

    def _fresh(self, call: str, at: WallMs) -> bool:
        """A verdict given soon after the call is given again, for by then more is known of what went on beside it."""
        return at - id_wall_ms(call) > SETTLED_AFTER_MS or self._clock() - at < KEPT_MS

    async def _worked(self, work: Callable[[], Answer]) -> Answer:
        if self._waiting >= PHASE_WAITING_MAX:
            raise Away(f"{self._waiting} verdicts are being worked out already; try again in a few seconds")
        self._waiting += 1
        try:
            async with self._turn:
                return await asyncio.to_thread(work)
        finally:
            self._waiting -= 1

    def _keep(self, key: Hashable, found: Judged | Since) -> None:
        self._kept[key] = (self._clock(), found)
        self._kept.move_to_end(key)
        if len(self._kept) > PHASE_VERDICTS_KEPT_MAX:
            self._kept.popitem(last=False)


def judged(call: Seen, around: Read, settings: Settings) -> Judged:
    """``around``: calls of its target before it and shortly after, itself left out."""
    history = History(settings)
    for seen in around.seen:
        history.learn(seen)
    gaps: Gaps = gaps_of(call)
    return Judged(
        call=call.call,
        target=f"{call.provider}/{call.model}",
        split=split(call),
        verdict=Judge(settings).verdict(call, history),
        gap_p50_ms=gaps.quantile_ms(0.5),
        gap_p99_ms=gaps.quantile_ms(0.99),
        gap_longest_ms=gaps.longest_ms,
        stalls=len(gaps.stalls),
    )


def changed_since(read: Read, since_ms: int, tenant: str, settings: Settings) -> Since:
    """The report, and the prefixes that broke after the instant. ``tenant``: of a caller who sees no other."""
    compared = compare(read.seen, since_ms, settings, tenant)
    history = History(settings)
    for seen in read.seen:
        history.learn(seen)
    prompts = [
        msgspec.structs.replace(prompt, token_ms=_token_ms(seen, history))
        for prompt, seen in zip(read.prompts, read.seen, strict=True)
        if tenant in ("", prompt.tenant)
    ]
    broken = tuple(each for each in breaks(prompts) if each.since_ms >= since_ms)
    return Since(report=report(compared), prefixes=broken, calls_left_out=read.left_out)


def _token_ms(seen: Seen, history: History) -> float:
    target = history.target(seen)
    lane = target.lane(seen) if target is not None else None
    return lane.line.token_ms if lane is not None else 0.0


def _read_call(reader: Reader, call: str) -> tuple[Seen, Read] | None:
    return read_call(reader, call, BEFORE_MS, AFTER_MS, PHASE_CALLS_BEFORE_MAX)
