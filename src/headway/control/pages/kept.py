"""Answers that take seconds to work out: kept for a while, worked out one at a time, asked for once however many wait for them."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

from headway.control.ports import Away
from headway.kernel.instants import WallMs

Answer = TypeVar("Answer")
WAITING_MAX = 16
"""Pieces of work that wait for their turn; who comes after is told to come again."""


class Kept(Generic[Answer]):
    """The newest ``most`` answers by what was asked; over it the one kept first goes. Lives on one loop."""

    def __init__(self, most: int, clock: Callable[[], WallMs]) -> None:
        self._most, self._clock = most, clock
        self._found: dict[Hashable, tuple[WallMs, asyncio.Future[Answer]]] = {}

    async def once(self, key: Hashable, kept_ms: int, ask: Callable[[], Coroutine[Any, Any, Answer]]) -> Answer:
        """The kept answer, else one made now: whoever asks meanwhile waits for it, and one who goes away does not end it for the others."""
        now = self._clock()
        at, found = self._found.get(key, (now, None))
        if found is None or not 0 <= now - at < kept_ms:
            found = asyncio.ensure_future(ask())
            found.add_done_callback(lambda done: self._drop(key, done) if _failed(done) else None)
            self._put(key, now, found)
        return await asyncio.shield(found)

    def _put(self, key: Hashable, now: WallMs, answer: asyncio.Future[Answer]) -> None:
        self._found.pop(key, None)
        self._found[key] = (now, answer)
        if len(self._found) > self._most:
            del self._found[next(iter(self._found))]

    def _drop(self, key: Hashable, answer: asyncio.Future[Answer]) -> None:
        """Unless another has taken its place."""
        if (kept := self._found.get(key)) is not None and kept[1] is answer:
            del self._found[key]


def _failed(done: "asyncio.Future[Any]") -> bool:
    """Looks at the exception too, so that one that nobody waits for any more is not told of as lost."""
    return done.cancelled() or done.exception() is not None


class Turns:
    """Work beside the loop, one piece at a time."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def work(self, work: Callable[[], Answer]) -> Answer:
        """``Away`` when too many pieces wait already."""
        if self._waiting >= WAITING_MAX:
            raise Away(f"too many ask {self._what} at once; try again in a few seconds")
        self._waiting += 1
        try:
            async with self._turn:
                return await asyncio.to_thread(work)
        finally:
            self._waiting -= 1
