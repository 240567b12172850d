"""The beginning of a streamed answer, before its first token: kept back a moment while another target could still take the call.

Providers send a role, or ``message_start``, and report an overload right behind it. Sent at once, those bytes would commit an answer that
never comes. So they wait for the first token, the end, OPENING_HOLD_MS or HOLD_BYTES_MAX, whichever is first; no token waits for anything.
"""

import asyncio

from headway.gateway.dialects.port import Seen
from headway.gateway.flow import Flow
from headway.gateway.writing import say
from headway.kernel.limits import HOLD_BYTES_MAX, OPENING_HOLD_MS


class Opening:
    """One attempt's. ``passes`` for each piece until it says that it is over, then ``close``."""

    def __init__(self, flow: Flow, seen: Seen) -> None:
        self._flow, self._seen = flow, seen
        self._kept: list[bytes] = []
        self._size = 0
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        """Sends what was kept when the time was up."""
        self.over = False

    async def passes(self, out: bytes) -> bytes:
        """What to send now: nothing while it is kept back; else all that was, with ``out``."""
        seen = self._seen
        self._size += len(out)
        goes = self._task is not None or seen.started or seen.ended or seen.stop is not None or self._size > HOLD_BYTES_MAX
        self._kept.append(out)
        if goes:
            return await self.rest()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(OPENING_HOLD_MS / 1000, self._time_is_up)
        return b""

    async def rest(self) -> bytes:
        """All that is still kept, for the caller; waits for what is being sent."""
        self.over = True
        self._disarm()
        kept, self._kept = b"".join(self._kept), []
        if self._task is not None:
            await self._task
        return kept

    async def close(self) -> None:
        """The attempt is over: what is not sent by now never is."""
        self._disarm()
        self._kept.clear()
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _time_is_up(self) -> None:
        kept, self._kept, self._timer = b"".join(self._kept), [], None
        self._task = asyncio.get_running_loop().create_task(say(self._flow, kept))
        self._flow.pending.add(self._task)
        self._task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._flow.pending.discard(task)
        if not task.cancelled():
            task.exception()  # a caller that went ends the call by itself
