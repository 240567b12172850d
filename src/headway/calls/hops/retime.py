"""A trace laid out again with some of its work changed, so that the critical path may take another way.

A span's own work is kept as gaps: each child begins so long after the last of the children that had ended before it (or after its parent's
start), and the parent ends so long after its last child. Whoever began after another ended is taken to have waited for it. Unchanged,
the layout gives back the root's duration exactly (HOP-3). Who is waited for at all: ``waited_for``.
"""

from headway.calls.hops.model import HopTrace
from headway.calls.hops.tree import children_of, waited_for


class Change:
    """By place of a span: its own work times ``factor``; ``fixed_us`` stands for it and all below it; ``beside`` does not wait for the sibling
    that ended last before it, but begins with it."""

    __slots__ = ("beside", "factor", "fixed_us")

    def __init__(self, size: int) -> None:
        self.factor: list[float] = [1.0] * size
        self.fixed_us: list[int | None] = [None] * size
        self.beside = bytearray(size)


class Layout:
    """A trace made ready to be laid out many times."""

    __slots__ = ("_order", "_plans", "children", "spans")

    def __init__(self, trace: HopTrace) -> None:
        self.spans = spans = trace.spans
        self.children = children_of(spans)
        self._order: list[int] = []
        self._plans: list[_Plan | None] = [None] * len(spans)
        starts = [span.start_us for span in spans]
        ends = [span.start_us + span.duration_us for span in spans]
        waiting = [0]
        while waiting:
            at = waiting.pop()
            self._order.append(at)
            if kids := self.children[at]:
                kids = waited_for(at, kids, spans, self.children)
                if kids:
                    self._plans[at] = _Plan(starts[at], ends[at], kids, starts, ends)
                    waiting += kids
        self._order.reverse()

    def duration_us(self, change: Change) -> int:
        """Of the root, after ``change``. Children first, so that no depth is too deep."""
        spans, plans, fixed, factors = self.spans, self._plans, change.fixed_us, change.factor
        found = [0] * len(spans)
        for at in self._order:
            plan, given = plans[at], fixed[at]
            if given is not None:
                found[at] = given
            elif plan is not None:
                found[at] = plan.laid_out(factors[at], found, change.beside)
            elif factors[at] == 1.0:
                found[at] = spans[at].duration_us
            else:
                found[at] = round(spans[at].duration_us * factors[at])
        return found[0]

    def unchanged(self) -> Change:
        return Change(len(self.spans))


class _Plan:
    """Of one span with children: who is waited for by whom, and the gaps between. Instants are relative to the span's start."""

    __slots__ = ("_after", "_ended", "_kids", "_rest")

    def __init__(self, start: int, end: int, kids: list[int], starts: list[int], ends: list[int]) -> None:
        if len(kids) == 1:
            self._kids = self._ended = kids
            self._after = [(0, starts[kids[0]] - start)]
            self._rest = end - ends[kids[0]]
            return
        self._kids = sorted(kids, key=lambda kid: (starts[kid], ends[kid]))
        self._ended = sorted(kids, key=lambda kid: (ends[kid], starts[kid]))
        self._rest = end - ends[self._ended[-1]]
        self._after = []
        """Per kid: how many of ``_ended`` had ended when it began, and the gap since the last of these, or since the start."""
        done, count = 0, len(kids)
        for kid in self._kids:
            began = starts[kid]
            while done < count and ends[self._ended[done]] <= began and self._before(self._ended[done], kid, starts, ends):
                done += 1
            self._after.append((done, began - (ends[self._ended[done - 1]] if done else start)))

    @staticmethod
    def _before(other: int, kid: int, starts: list[int], ends: list[int]) -> bool:
        """Spans of no length at one instant wait for those that sort before them, never for themselves."""
        return (ends[other], starts[other], other) < (ends[kid], starts[kid], kid)

    def laid_out(self, factor: float, found: list[int], beside: bytearray) -> int:
        """The span's duration, when ``found`` has those of its children."""
        if len(self._kids) == 1:
            kid = self._kids[0]
            return found[kid] + round((self._after[0][1] + self._rest) * factor)
        began: dict[int, float] = {}
        ready, counted, last, last_began = 0.0, 0, 0.0, 0.0
        for kid, (done, gap) in zip(self._kids, self._after, strict=True):
            while counted < done:
                other = self._ended[counted]
                counted += 1
                ended = began[other] + found[other]
                if ended >= ready:
                    ready, last_began = ended, began[other]
            began[kid] = last_began if beside[kid] and done else ready + gap * factor
            last = max(last, began[kid] + found[kid])
        return round(last + self._rest * factor)
