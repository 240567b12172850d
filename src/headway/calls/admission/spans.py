"""One call as an interval at an endpoint: what stalls and the time alone are computed from. Instants are milliseconds on one axis."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec


class CallSpan(msgspec.Struct, frozen=True, kw_only=True):
    """``admitted_ms`` is None for a call that never got to an engine, ``first_token_ms`` for one that never got a token."""

    call: str
    endpoint: str
    model: str = ""
    tenant: str = ""
    klass: str = ""
    parent_call: str = ""
    """Of a piece or another call made on a call's behalf: it counts as its parent's doing, and nobody is its victim."""
    arrived_ms: float
    admitted_ms: float | None = None
    first_token_ms: float | None = None
    ended_ms: float
    uncached_tokens: int | None = None
    whole_tokens: int | None = None
    """With those of the pieces that were sent ahead of it: the size of its prompt. None: nobody counted."""
    output_tokens: int | None = None
    reads_ms: tuple[float, ...] = ()
    """Reads of the answer from its first token on; empty where nobody noted them."""

    @property
    def place(self) -> tuple[str, str]:
        """Where its time alone is learnt: endpoint and model."""
        return (self.endpoint, self.model)

    @property
    def owner(self) -> str:
        """The call that is answerable for it."""
        return self.parent_call or self.call

    @property
    def prefill_end_ms(self) -> float:
        """Where its prompt has been read at the latest."""
        return self.first_token_ms if self.first_token_ms is not None else self.ended_ms


class Stretch(NamedTuple):
    """From ``start`` to ``end``, of the call that stands at ``place`` in its list."""

    start: float
    end: float
    place: int


class Stretches:
    """Finds the stretches that meet a window. They are kept by length in powers of two, so that a long one does not make every search long."""

    __slots__ = ("_lanes",)

    def __init__(self, stretches: Iterable[Stretch]) -> None:
        lanes: dict[int, list[Stretch]] = {}
        for each in stretches:
            if each.end > each.start:
                lanes.setdefault(max(0, int(each.end - each.start)).bit_length(), []).append(each)
        self._lanes: list[tuple[float, list[Stretch], list[float]]] = []
        for bits, members in sorted(lanes.items()):
            members.sort()
            self._lanes.append((float(1 << bits), members, [each.start for each in members]))

    def meeting(self, start: float, end: float) -> Iterator[Stretch]:
        """Those that share more than an instant with ``start`` to ``end``."""
        for longest, members, starts in self._lanes:
            for at in range(bisect_left(starts, start - longest), bisect_left(starts, end)):
                if members[at].end > start:
                    yield members[at]


def by_endpoint(calls: Sequence[CallSpan]) -> dict[str, list[CallSpan]]:
    """Calls apart by endpoint, in the order in which they came."""
    found: dict[str, list[CallSpan]] = {}
    for call in calls:
        found.setdefault(call.endpoint, []).append(call)
    return found
