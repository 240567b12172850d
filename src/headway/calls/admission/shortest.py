"""Shortest first, by estimated cost. Least mean wait, and no promise to the long: they may wait for as long as short ones keep coming."""

from headway.calls.admission.order import Group, HeapOrder
from headway.calls.admission.state import Call


class Shortest(HeapOrder):
    def inner(self, call: Call) -> float:
        return call.cost

    def key(self, group: Group, head: Call) -> tuple[float, float]:
        return head.cost, head.seq
