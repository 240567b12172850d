"""Server-sent events from a watcher: JSON for programs, table rows for the board; ends at shutdown and when the session ends."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence

import msgspec
from fastapi import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from headway.control.access import Identifies
from headway.control.errors import Refused
from headway.control.live import LiveCall, LiveFeed, Wanted
from headway.control.ports import AWAY
from headway.kernel import limits

Render = Callable[[Sequence[LiveCall]], Iterable[tuple[str, str]]]
"""Events of one push: names and data."""
COMMENT_EVERY_S = 15.0
GATHER_S = 0.25
"""Calls that end within this time travel in one event, so that a burst costs one repaint."""


def event(name: str, data: str) -> bytes:
    """One event; each line of ``data`` gets its own field, as the format wants."""
    lines = "".join(f"data: {line}\n" for line in data.splitlines() or [""])
    return f"event: {name}\n{lines}\n".encode()


def as_json(calls: Sequence[LiveCall]) -> Iterable[tuple[str, str]]:
    """One event ``calls`` with a JSON array."""
    return (("calls", msgspec.json.encode(calls).decode()),)


class WatchResponse(StreamingResponse):
    """A stream of rendered events, and ``refetch`` when events were left out. ``Refused`` 503 when too many watch."""

    def __init__(self, live: LiveFeed, wanted: Wanted, render: Render, still_allowed: Callable[[], Awaitable[bool]]) -> None:
        self._live, self._render, self._still_allowed = live, render, still_allowed
        self._watcher = live.watch(wanted)
        super().__init__(
            self._events(), media_type="text/event-stream", headers={"cache-control": "no-store", "x-accel-buffering": "no"}
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._live.unwatch(self._watcher)

    async def _events(self) -> AsyncIterator[bytes]:
        yield b"retry: 2000\n\n: watching\n\n"
        while True:
            if not await self._watcher.ready(COMMENT_EVERY_S):
                if not await self._still_allowed():
                    return
                yield b": still here\n\n"
                continue
            closing = self._watcher.closed
            if not closing:
                await asyncio.sleep(GATHER_S)
            calls, dropped = self._watcher.drain()
            newest = calls[-limits.EVENT_ROWS_PER_PUSH_MAX :]
            if newest:
                yield b"".join(event(name, data) for name, data in self._render(newest))
            if dropped or len(newest) < len(calls):
                yield event("refetch", str(dropped + len(calls) - len(newest)))
            if closing:
                return


def still_allowed(request: Request, authenticator: Identifies) -> Callable[[], Awaitable[bool]]:
    """A check, made at each quiet moment, that the caller's session or key still stands."""

    async def allowed() -> bool:
        try:
            return await authenticator.identify(request) is not None
        except (Refused, *AWAY):
            return False

    return allowed
