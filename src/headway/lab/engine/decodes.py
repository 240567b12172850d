"""The requests that decode, as sums: every one of them moves one token a step, so only what changes is touched.

A counter of decode steps tells where each one is: tokens in KV = target + steps - since.
"""

import heapq
from typing import Final, TypeAlias

from headway.lab.engine.sequence import DECODE, GONE, Sequence

HEAP_SLACK: Final = 64
"""Places in the heap of the longest that may belong to nobody any more, beside one for each member."""
Entry: TypeAlias = tuple[int, int, Sequence]


class Decodes:
    """``grant`` begins a decode step, ``complete`` ends it. Invariant 2: ``context`` is the sum of the members' tokens in KV."""

    __slots__ = ("_block", "_completed", "_ending", "_longest", "_rings", "_steps", "context", "count")

    def __init__(self, block_tokens: int) -> None:
        self._block = block_tokens
        self._rings: list[dict[Sequence, None]] = [{} for _ in range(block_tokens)]
        self._ending: dict[int, dict[Sequence, None]] = {}
        self._steps = 0
        self._completed = 0
        self._longest: list[Entry] = []
        self.count = 0
        self.context = 0

    def join(self, seq: Sequence) -> None:
        """A request whose prefill has just ended, with more tokens to come."""
        seq.state = DECODE
        seq.since = self._steps
        seq.ends = self._steps + seq.output - seq.base
        seq.ring = (seq.since + 1 - seq.target) % self._block
        self._rings[seq.ring][seq] = None
        self._ending.setdefault(seq.ends, {})[seq] = None
        self.count += 1
        self.context += seq.target
        heapq.heappush(self._longest, (seq.since - seq.target, seq.order, seq))

    def leave(self, seq: Sequence) -> None:
        """It ends, is aborted or thrown out; ``seq.base`` and ``seq.computed`` say how far it came."""
        held = self.tokens(seq)
        seq.base = self.produced(seq)
        seq.computed = held
        seq.state = GONE
        del self._rings[seq.ring][seq]
        ending = self._ending[seq.ends]
        del ending[seq]
        if not ending:
            del self._ending[seq.ends]
        self.count -= 1
        self.context -= held
        if len(self._longest) > 2 * self.count + HEAP_SLACK or not self.count:
            self._longest = [entry for entry in self._longest if _stands(entry)]
            heapq.heapify(self._longest)

    @property
    def context_max(self) -> int:
        """Tokens in KV of the longest; 0 when there is none. Who has left is cleared from the top."""
        heap = self._longest
        while heap:
            if _stands(heap[0]):
                return self._steps - heap[0][0]
            heapq.heappop(heap)
        return 0

    def tokens(self, seq: Sequence) -> int:
        """In KV, the one of a step under way included."""
        return seq.target + self._steps - seq.since

    def produced(self, seq: Sequence) -> int:
        return seq.base + self._completed - seq.since

    def blocks_wanted(self) -> int:
        """How many of them the next decode step takes into a new block."""
        return len(self._rings[(self._steps + 1) % self._block])

    def grant(self) -> None:
        """The blocks are there: the step counts."""
        self._steps += 1
        self.context += self.count

    def complete(self) -> list[Sequence]:
        """The granted step is over; who has produced its last token. They are still members."""
        self._completed = self._steps
        return list(self._ending.get(self._steps, ()))


def _stands(entry: Entry) -> bool:
    lead, _, seq = entry
    return seq.state == DECODE and seq.since - seq.target == lead
