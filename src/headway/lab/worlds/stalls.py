"""Who stalled whom, exactly: a lab can ask what a step would have cost without each aggressor's prefill.

For each step and each aggressor, the step's time less its time without that aggressor's chunks is stall for everyone else who is in the
engine, whether they wait for their first token or for their next. Pieces of a long prompt count as their call's.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from headway.lab.engine.model import EngineEvent, EngineRequest, StepTime, StepWork

Matrix = dict[tuple[str, str], float]
"""(victim, aggressor): milliseconds, summed over victims."""


class Scheduler(Protocol):
    @property
    def chunk_ids(self) -> tuple[str, ...]: ...


class Watched(Protocol):
    """An engine that tells what its last step computed, and whose chunks these were."""

    last_work: StepWork
    time: StepTime

    @property
    def scheduler(self) -> Scheduler: ...


class Stalls:
    """``group`` names the row and column of a call: its tenant, its band."""

    def __init__(self, engine: Watched, group: Callable[[str], str]) -> None:
        self.stall_ms: Matrix = {}
        self._engine, self._group = engine, group
        self._inside: dict[str, int] = {}
        """Calls in the engine by group; pieces are not victims, their call waits at the gate."""
        self._groups: dict[str, str] = {}

    def sent(self, request: EngineRequest) -> None:
        group = self._groups[request.id] = self._group(request.id.partition("/")[0])
        if "/" not in request.id:
            self._inside[group] = self._inside.get(group, 0) + 1

    def step(self, began: int, ended: int, events: Sequence[EngineEvent]) -> None:
        work = self._engine.last_work
        if work.chunks:
            self._attribute(work, {event.id for event in events if event.kind == "first"})
        for event in events:
            if event.kind == "finished":
                self._leave(event.id)

    def aborted(self, request_id: str) -> None:
        if request_id in self._groups:
            self._leave(request_id)

    def _leave(self, request_id: str) -> None:
        group = self._groups.pop(request_id)
        if "/" not in request_id:
            self._inside[group] -= 1

    def _attribute(self, work: StepWork, ending: set[str]) -> None:
        owners = self._engine.scheduler.chunk_ids
        groups = [self._groups[owner] for owner in owners]
        whole = self._engine.time.step_ms(work)
        for aggressor in dict.fromkeys(groups):
            rest = tuple(chunk for chunk, group in zip(work.chunks, groups, strict=True) if group != aggressor)
            ends = sum(1 for owner, group in zip(owners, groups, strict=True) if group == aggressor and owner in ending)
            without = StepWork(
                chunks=rest,
                decodes=work.decodes,
                decode_context=work.decode_context,
                sequences=max(work.decodes, work.sequences - ends),
            )
            cost = whole - self._engine.time.step_ms(without) if rest or work.decodes else whole
            self._spread(aggressor, cost, any("/" not in o for o, g in zip(owners, groups, strict=True) if g == aggressor))

    def _spread(self, aggressor: str, cost: float, itself: bool) -> None:
        """``itself``: one of the calls inside is the aggressor, and does not stall itself."""
        for victim, count in self._inside.items():
            others = count - 1 if itself and victim == aggressor else count
            if others > 0:
                key = (victim, aggressor)
                self.stall_ms[key] = self.stall_ms.get(key, 0.0) + others * cost
