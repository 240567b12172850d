"""KV memory in blocks, and the prefix cache that lives in what is free of it.

A block is private to one request, shared (a whole prompt block known by its chain key, held by at least one request) or idle
(known, held by nobody). Idle blocks are the cache: they leave, least recently used first, when memory is wanted.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final

from headway.kernel.limits import LAB_CACHED_BLOCKS_MAX

UNBOUNDED: Final = 1 << 60
"""Blocks of a memory without bound."""


def chain_keys(blocks: Iterable[int]) -> tuple[int, ...]:
    """A key for each block that also stands for all blocks before it: equal keys mean equal leading blocks."""
    keys: list[int] = []
    key = 0
    for block in blocks:
        key = hash((key, block))
        keys.append(key)
    return tuple(keys)


def own_key(order: int, index: int) -> int:
    """A key for a block that only this request can find again: generated tokens, or a prompt whose blocks are not told."""
    return hash((order, index, 0))


class BlockPool:
    """Invariant 1: private + shared + idle <= capacity, and no count is ever negative."""

    __slots__ = ("_held", "_idle", "_idle_max", "capacity", "private")

    def __init__(self, capacity: int | None, *, idle_max: int = LAB_CACHED_BLOCKS_MAX) -> None:
        self.capacity = UNBOUNDED if capacity is None else capacity
        self.private = 0
        self._held: dict[int, int] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()  # a plain dict finds its oldest slowly once many have left
        self._idle_max = idle_max

    @property
    def available(self) -> int:
        """Blocks that can be had now, idle ones included."""
        return self.capacity - self.private - len(self._held)

    @property
    def used(self) -> int:
        """Blocks that some request holds."""
        return self.private + len(self._held)

    @property
    def idle(self) -> int:
        """Blocks that only the cache remembers."""
        return len(self._idle)

    def take(self, blocks: int) -> None:
        """Make ``blocks`` private. The caller has looked at ``available``."""
        assert blocks <= self.available, "invariant 1: more blocks taken than there are"
        self.private += blocks
        self._trim()

    def give(self, blocks: int) -> None:
        """Take private blocks back."""
        self.private -= blocks
        assert self.private >= 0, "invariant 1: more blocks given back than were taken"

    def match(self, keys: Sequence[int], most: int) -> int:
        """How many leading ``keys``, at most ``most``, are known."""
        held, idle = self._held, self._idle
        found = 0
        for key in keys[:most]:
            if key not in held and key not in idle:
                break
            found += 1
        return found

    def idle_among(self, keys: Iterable[int]) -> int:
        """How many of ``keys`` holding them would take out of ``available``."""
        return sum(key in self._idle for key in keys)

    def hold(self, keys: Iterable[int]) -> None:
        """Hold known blocks once more."""
        for key in keys:
            if key in self._idle:
                del self._idle[key]
                self._held[key] = 1
            else:
                self._held[key] += 1

    def publish(self, key: int) -> bool:
        """Let others find a private block. False when an equal one is known already: then it stays private."""
        if key in self._held or key in self._idle:
            return False
        self._held[key] = 1
        self.give(1)
        return True

    def release(self, keys: Sequence[int]) -> None:
        """Let go of held blocks. The deepest becomes the oldest: a chain is forgotten from its end."""
        for key in reversed(keys):
            left = self._held[key] - 1
            if left:
                self._held[key] = left
            else:
                del self._held[key]
                self._idle[key] = None
        self._trim()

    def forget(self) -> None:
        """Empty the cache of what nobody holds."""
        self._idle.clear()

    def _trim(self) -> None:
        idle = self._idle
        most = min(self._idle_max, self.available)
        while len(idle) > most:
            idle.popitem(last=False)
