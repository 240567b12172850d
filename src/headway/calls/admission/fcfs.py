"""First come, first served: one line for all, and its head waits until it fits. What an ordinary proxy does, and the measure for the others."""

from headway.calls.admission.order import Group, HeapOrder
from headway.calls.admission.state import Call


class Fcfs(HeapOrder):
    head_matters = False

    def key(self, group: Group, head: Call) -> tuple[float, float]:
        return head.seq, 0.0
