"""Requests that the engine has not begun, or has thrown out: a heap whose removed members are skipped."""

import heapq
from typing import TypeAlias

from headway.lab.engine.sequence import Sequence

Entry: TypeAlias = tuple[int, int, Sequence]


class Waiting:
    """First come first served, thrown-out requests in front; or by (priority, arrival)."""

    __slots__ = ("_by_priority", "_front", "_heap", "_members")

    def __init__(self, *, by_priority: bool) -> None:
        self._by_priority = by_priority
        self._heap: list[Entry] = []
        self._members: dict[str, Sequence] = {}
        self._front = 0

    def __len__(self) -> int:
        return len(self._members)

    def add(self, sequence: Sequence) -> None:
        self._push(sequence.priority if self._by_priority else 0, sequence.order, sequence)

    def add_front(self, sequence: Sequence) -> None:
        """Back after a preemption: before all others, unless priorities say otherwise."""
        if self._by_priority:
            self.add(sequence)
            return
        self._front -= 1
        self._push(0, self._front, sequence)

    def _push(self, rank: int, place: int, sequence: Sequence) -> None:
        self._members[sequence.id] = sequence
        heapq.heappush(self._heap, (rank, place, sequence))

    def head(self) -> Sequence | None:
        """The next one, left where it is."""
        heap = self._heap
        while heap:
            sequence = heap[0][2]
            if self._members.get(sequence.id) is sequence:
                return sequence
            heapq.heappop(heap)
        return None

    def pop(self) -> None:
        """Remove what ``head`` gave."""
        del self._members[heapq.heappop(self._heap)[2].id]

    def set_aside(self) -> Entry:
        """Remove what ``head`` gave, to be ``put_back`` at the end of the step."""
        entry = heapq.heappop(self._heap)
        del self._members[entry[2].id]
        return entry

    def put_back(self, entry: Entry) -> None:
        self._push(*entry)

    def remove(self, request_id: str) -> None:
        """A member leaves; its place in the heap is cleared later, at the latest when half of the heap is such places."""
        del self._members[request_id]
        if len(self._heap) > 2 * len(self._members):
            self._heap = [entry for entry in self._heap if self._members.get(entry[2].id) is entry[2]]
            heapq.heapify(self._heap)
