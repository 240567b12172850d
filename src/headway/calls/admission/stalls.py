"""Who stalled whom: milliseconds that each victim lost to each aggressor.

Exact (``stalls_exact``), where an engine says what each of its steps computed: every millisecond of a step that went to another call's tokens,
while a call was in that step or waited for a place in it.

Estimated (``stalls_estimated``), from what a gateway sees of each call, in three parts:
  queue        the wait for admission, less the time in which its own prompt was read in pieces, laid to those that ran meanwhile, by
               tokens times the time that both shared
  first token  what the first token took beyond its time alone, laid to prompts that were being read meanwhile, each by no more than the engine
               time that its own tokens cost (ms a token from the same line), spread evenly over its own reading
  gap          pauses inside the answer of over twice its median gap, beyond that median, laid likewise
What is left over is nobody's in particular: decoding beside, slots, the provider, noise. It is told as unexplained, never spread.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import NamedTuple

import msgspec

from headway.calls.admission.alone import Alone
from headway.calls.admission.spans import CallSpan, Stretch, Stretches, by_endpoint

UNEXPLAINED = "unexplained"
OTHERS = "all others"
GAP_FACTOR = 2.0
NOISE_SPREADS = 3.0
"""A first token that is late by less than so many times the line's own spread is not late."""
GAP_MS_MIN = 5.0
KINDS = ("queue", "first token", "gap")


class Stall(NamedTuple):
    """``ms`` that ``victim`` lost; to nobody in particular where ``aggressor`` is None."""

    victim: CallSpan
    aggressor: CallSpan | None
    kind: str
    ms: float


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """What the calls of ``victim`` lost to those of ``aggressor``, in milliseconds. On the diagonal: to their own kind."""

    victim: str
    aggressor: str
    queue_ms: float = 0.0
    first_token_ms: float = 0.0
    gap_ms: float = 0.0

    @property
    def stall_ms(self) -> float:
        """In total."""
        return self.queue_ms + self.first_token_ms + self.gap_ms


class Matrix(msgspec.Struct, frozen=True, kw_only=True):
    """Cells that are not zero, largest first. ``victims`` counts the calls on each victim's side."""

    by: str
    exact: bool
    method: str
    cells: tuple[Cell, ...] = ()
    victims: dict[str, int] = {}

    def names(self) -> tuple[str, ...]:
        """Everybody in it, most stalled or stalling first; what is unexplained is not somebody."""
        weight: dict[str, float] = {}
        for cell in self.cells:
            for name in {cell.victim, cell.aggressor} - {UNEXPLAINED}:
                weight[name] = weight.get(name, 0.0) + cell.stall_ms
        return tuple(sorted(weight, key=lambda name: (-weight[name], name)))

    def cell(self, victim: str, aggressor: str) -> Cell | None:
        """None where nothing was lost."""
        return next((c for c in self.cells if c.victim == victim and c.aggressor == aggressor), None)


# --- estimated -----------------------------------------------------------------------------------------------------------


def stalls_estimated(calls: Sequence[CallSpan], alone: Mapping[tuple[str, str], Alone]) -> Iterator[Stall]:
    """Every stall of every call that is nobody's child. Without a line for its place a call has a queue part only."""
    for members in by_endpoint(calls).values():
        yield from _Endpoint(members, alone).stalls()


class _Endpoint:
    """The calls of one endpoint, searchable by when they ran and by when their prompts were read."""

    def __init__(self, calls: Sequence[CallSpan], alone: Mapping[tuple[str, str], Alone]) -> None:
        self._calls, self._alone = calls, alone
        admitted = [(i, c, c.admitted_ms) for i, c in enumerate(calls) if c.admitted_ms is not None]
        self._running = Stretches(Stretch(at, c.ended_ms, i) for i, c, at in admitted)
        self._reading = Stretches(Stretch(at, c.prefill_end_ms, i) for i, c, at in admitted)

    def stalls(self) -> Iterator[Stall]:
        for call in self._calls:
            if call.parent_call:
                continue
            yield from self._queued(call)
            line = self._alone.get(call.place)
            if line is None or call.admitted_ms is None or call.first_token_ms is None:
                continue
            expected = line.expected_ms(call.uncached_tokens)
            took = call.first_token_ms - call.admitted_ms
            if expected is not None and took - expected > line.spread_ms * NOISE_SPREADS:
                yield from self._read_beside(call, "first token", call.admitted_ms, call.first_token_ms, took - expected)
            yield from self._gaps(call)

    def _queued(self, call: CallSpan) -> Iterator[Stall]:
        until = call.admitted_ms if call.admitted_ms is not None else call.ended_ms
        wait = until - call.arrived_ms - self._own_pieces_ms(call, until)
        if wait <= 0:
            return
        parts: list[tuple[CallSpan, float]] = []
        for other, shared, _ in self._others(self._running, call, call.arrived_ms, until):
            parts.append((other, shared * max(1, (other.uncached_tokens or 0) + (other.output_tokens or 0))))
        whole = sum(weight for _, weight in parts)
        if not whole:
            yield Stall(call, None, "queue", wait)
        for other, weight in parts:
            yield Stall(call, other, "queue", wait * weight / whole)

    def _own_pieces_ms(self, call: CallSpan, until: float) -> float:
        """What of its wait its own prompt was read in pieces: that is its work, and nobody's doing."""
        mine = [s for s in self._running.meeting(call.arrived_ms, until) if self._calls[s.place].parent_call == call.call]
        return sum(min(until, s.end) - max(call.arrived_ms, s.start) for s in mine)

    def _read_beside(self, call: CallSpan, kind: str, start: float, end: float, excess: float) -> Iterator[Stall]:
        """``excess`` of a window laid to the prompts read in it, each by at most the engine time of its tokens that fall into it."""
        if excess <= 0:
            return
        parts: list[tuple[CallSpan, float]] = []
        for other, shared, length in self._others(self._reading, call, start, end):
            line = self._alone.get(other.place)
            if line is not None and other.uncached_tokens:
                cost = min(length, line.ms_per_token * other.uncached_tokens)
                parts.append((other, cost * shared / length))
        known = sum(ms for _, ms in parts)
        scale = min(1.0, excess / known) if known else 1.0
        for other, ms in parts:
            if ms:
                yield Stall(call, other, kind, ms * scale)
        if excess - known * scale > 0:
            yield Stall(call, None, kind, excess - known * scale)

    def _gaps(self, call: CallSpan) -> Iterator[Stall]:
        reads = call.reads_ms
        if len(reads) < 3:
            return
        usual = median(b - a for a, b in pairwise(reads))
        for a, b in pairwise(reads):
            if b - a > usual * GAP_FACTOR and b - a - usual > GAP_MS_MIN:
                yield from self._read_beside(call, "gap", a, b, b - a - usual)

    def _others(self, where: Stretches, call: CallSpan, start: float, end: float) -> Iterator[tuple[CallSpan, float, float]]:
        """Calls answerable to another owner, with what they share of the window, and their own length."""
        for stretch in where.meeting(start, end):
            other = self._calls[stretch.place]
            if other.owner != call.owner:
                yield other, min(end, stretch.end) - max(start, stretch.start), stretch.end - stretch.start


# --- as a matrix ----------------------------------------------------------------------------------------------------------


def matrix_of(stalls: Iterable[Stall], by: str, named: Callable[[CallSpan], str], victims: Mapping[str, int]) -> Matrix:
    """Stalls summed over victims and aggressors as ``named``: by tenant, by class."""
    sums: dict[tuple[str, str], list[float]] = {}
    for stall in stalls:
        key = (named(stall.victim), named(stall.aggressor) if stall.aggressor is not None else UNEXPLAINED)
        sums.setdefault(key, [0.0, 0.0, 0.0])[KINDS.index(stall.kind)] += stall.ms
    return Matrix(
        by=by,
        exact=False,
        method="estimated: excess over the time alone, laid to the prompts read and the calls that ran meanwhile",
        cells=_cells(sums),
        victims=dict(victims),
    )


def parts_beside(stalls: Iterable[Stall], call: str) -> dict[str, list[float]]:
    """What ``call`` lost to each other call (by the owner's id) in each of KINDS, and to nobody in particular under UNEXPLAINED."""
    found: dict[str, list[float]] = {}
    for stall in stalls:
        if stall.victim.call == call:
            name = stall.aggressor.owner if stall.aggressor is not None else UNEXPLAINED
            found.setdefault(name, [0.0] * len(KINDS))[KINDS.index(stall.kind)] += stall.ms
    return found


def beside(stalls: Iterable[Stall], call: str) -> dict[str, float]:
    """The same in all."""
    return {name: sum(parts) for name, parts in parts_beside(stalls, call).items()}


def folded(matrix: Matrix, kept: Iterable[str], others: str = OTHERS) -> Matrix:
    """With everybody but ``kept`` under one name, unexplained apart. Nothing is lost: sums stay."""
    names = {*kept, UNEXPLAINED}
    sums: dict[tuple[str, str], list[float]] = {}
    for cell in matrix.cells:
        key = (cell.victim if cell.victim in names else others, cell.aggressor if cell.aggressor in names else others)
        parts = sums.setdefault(key, [0.0, 0.0, 0.0])
        for i, ms in enumerate((cell.queue_ms, cell.first_token_ms, cell.gap_ms)):
            parts[i] += ms
    victims: dict[str, int] = {}
    for name, n in matrix.victims.items():
        shown = name if name in names else others
        victims[shown] = victims.get(shown, 0) + n
    return msgspec.structs.replace(matrix, cells=_cells(sums), victims=victims)


def _cells(sums: Mapping[tuple[str, str], Sequence[float]]) -> tuple[Cell, ...]:
    cells = (
        Cell(victim=victim, aggressor=aggressor, queue_ms=parts[0], first_token_ms=parts[1], gap_ms=parts[2])
        for (victim, aggressor), parts in sums.items()
        if any(parts)
    )
    return tuple(sorted(cells, key=lambda cell: (-cell.stall_ms, cell.victim, cell.aggressor)))


# --- exact ----------------------------------------------------------------------------------------------------------------


class Work(NamedTuple):
    """A call's part of one step: ``ms`` of the step's time went to its tokens; ``prefill`` while its prompt was being read."""

    call: str
    ms: float
    prefill: bool


class StepSpan(NamedTuple):
    """One step of an engine. ``waiting`` calls wanted a place in it, wherever they waited. What ``work`` leaves of ``ms`` is overhead, nobody's."""

    ms: float
    work: tuple[Work, ...]
    waiting: tuple[str, ...] = ()


def stalls_exact(steps: Iterable[StepSpan], groups: Mapping[str, str], by: str = "tenant") -> Matrix:
    """The matrix by ``groups`` (call to tenant, class, or itself). Linear in what the steps hold, times the groups that meet in a step."""
    sums: dict[tuple[str, str], list[float]] = {}
    for step in steps:
        done: dict[str, float] = {}
        for work in step.work:
            done[groups[work.call]] = done.get(groups[work.call], 0.0) + work.ms
        present: dict[tuple[str, int], tuple[int, float]] = {}
        for name, kind, own_ms in _present(step, groups):
            n, own = present.get((name, kind), (0, 0.0))
            present[(name, kind)] = (n + 1, own + own_ms)
        for (victim, kind), (n, own) in present.items():
            for aggressor, ms in done.items():
                lost = n * ms - (own if aggressor == victim else 0.0)
                if lost > 0:
                    sums.setdefault((victim, aggressor), [0.0, 0.0, 0.0])[kind] += lost
    victims: dict[str, int] = {}
    for name in groups.values():
        victims[name] = victims.get(name, 0) + 1
    return Matrix(
        by=by, exact=True, method="exact: time of the engine's steps that went to other calls", cells=_cells(sums), victims=victims
    )


def _present(step: StepSpan, groups: Mapping[str, str]) -> Iterator[tuple[str, int, float]]:
    """(group, kind, own ms) of everybody whom the step made wait."""
    queue, first, gap = range(len(KINDS))
    for work in step.work:
        yield groups[work.call], first if work.prefill else gap, work.ms
    for call in step.waiting:
        yield groups[call], queue, 0.0
