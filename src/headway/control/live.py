"""Calls as they happen: those in flight by gateway, the last ones that ended, and the browsers that watch.

Bounds: ``LIVE_CALLS_KEPT`` ended calls (oldest leave), ``LIVE_OPEN_MAX`` open ones (the oldest becomes ``unknown``),
``EVENT_SUBSCRIBERS_MAX`` watchers (more are refused), ``EVENT_QUEUE_MAX`` events a watcher (more are dropped, counted, and the watcher
is told to fetch the page again). The feed is best effort: the facts are the record.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator

import msgspec

from headway.control.errors import Refused
from headway.facts.model import AttemptFact, CallFact
from headway.kernel import limits
from headway.kernel.instants import WallMs
from headway.link.messages import CallOpened, CallSeen


class LiveCall(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A call as the live feed knows it. ``state`` is in_flight, ended or unknown; ``fact`` is there once it ended."""

    call: str
    state: str
    gateway: str
    started_wall_ms: int
    tenant: str
    feature: str
    requested: str
    dialect: str
    stream: bool
    origin: str = "client"
    fact: CallFact | None = None
    attempts: tuple[AttemptFact, ...] = ()


Wanted = Callable[[LiveCall], bool]


class Watcher:
    """One subscriber. ``dropped`` counts the events that did not fit since ``drain`` was last called."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.dropped = 0
        self.closed = False
        self._queue: list[LiveCall] = []
        self._ready = asyncio.Event()

    def push(self, call: LiveCall) -> None:
        """Queue one event, or count it as dropped."""
        if not self.wanted(call):
            return
        if len(self._queue) >= limits.EVENT_QUEUE_MAX:
            self.dropped += 1
        else:
            self._queue.append(call)
        self._ready.set()

    def close(self) -> None:
        """End the stream after what is queued."""
        self.closed = True
        self._ready.set()

    async def ready(self, timeout_s: float) -> bool:
        """Wait until something is queued or the feed closes; False after ``timeout_s`` without."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._ready.wait()
        except TimeoutError:
            return False
        return True

    def drain(self) -> tuple[list[LiveCall], int]:
        """All that is queued, oldest first, and how many were dropped."""
        if not self.closed:
            self._ready.clear()
        calls, self._queue = self._queue, []
        dropped, self.dropped = self.dropped, 0
        return calls, dropped


class LiveFeed:
    """Fed by the link server, read by pages and streams. Not thread safe: lives on control's loop."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, LiveCall] = OrderedDict()
        self._ended: OrderedDict[str, LiveCall] = OrderedDict()
        self._gone_since: dict[str, WallMs] = {}
        self._watchers: set[Watcher] = set()
        self.dropped_events = 0
        self.lost_calls = 0
        """Calls whose end was never told: their gateway went away, or too many were open."""

    def opened(self, gateway: str, message: CallOpened) -> None:
        """A call began. Ignored when its end is already known."""
        if message.call in self._ended or message.call in self._open:
            return
        if len(self._open) >= limits.LIVE_OPEN_MAX:
            self._lose(next(iter(self._open)))
        call = LiveCall(
            call=message.call,
            state="in_flight",
            gateway=gateway,
            started_wall_ms=message.started_wall_ms,
            tenant=message.tenant,
            feature=message.feature,
            requested=message.requested,
            dialect=message.dialect,
            stream=message.stream,
            origin=message.origin,
        )
        self._open[call.call] = call
        self._tell(call)

    def seen(self, gateway: str, message: CallSeen) -> None:
        """A call ended. Told again, it replaces what was known."""
        fact = message.fact
        self._open.pop(fact.call, None)
        self._end(
            LiveCall(
                call=fact.call,
                state="ended",
                gateway=gateway,
                started_wall_ms=fact.started_wall_ms,
                tenant=fact.tenant,
                feature=fact.feature,
                requested=fact.requested,
                dialect=fact.dialect,
                stream=fact.stream,
                origin=fact.origin,
                fact=fact,
                attempts=message.attempts,
            )
        )

    def gateway_gone(self, gateway: str, now: WallMs) -> None:
        """Its link broke: its open calls become unknown unless it comes back within ``LIVE_UNKNOWN_AFTER_MS``."""
        self._gone_since.setdefault(gateway, now)

    def gateway_back(self, gateway: str) -> None:
        """Its link stands again."""
        self._gone_since.pop(gateway, None)

    def tick(self, now: WallMs) -> None:
        """Give up on calls whose end will not be told any more. Called about once a second."""
        lost_gateways = {name for name, since in self._gone_since.items() if now - since >= limits.LIVE_UNKNOWN_AFTER_MS}
        for name in lost_gateways:
            del self._gone_since[name]
        oldest = now - limits.LIVE_OPEN_AGE_MS_MAX
        for call in [c for c in self._open.values() if c.gateway in lost_gateways or c.started_wall_ms < oldest]:
            self._lose(call.call)

    def in_flight(self) -> Iterator[LiveCall]:
        """Open calls, newest first."""
        return reversed(self._open.values())

    def ended(self) -> Iterator[LiveCall]:
        """Ended and unknown calls, newest end first."""
        return reversed(self._ended.values())

    def find(self, call: str) -> LiveCall | None:
        """The call when it is open or among the last that ended."""
        return self._open.get(call) or self._ended.get(call)

    @property
    def watchers(self) -> int:
        return len(self._watchers)

    def watch(self, wanted: Wanted) -> Watcher:
        """A new subscriber. ``Refused`` 503 over ``EVENT_SUBSCRIBERS_MAX``. Give it back with ``unwatch``."""
        if len(self._watchers) >= limits.EVENT_SUBSCRIBERS_MAX:
            raise Refused(
                "too_many_watchers",
                f"{limits.EVENT_SUBSCRIBERS_MAX} live views are open",
                status=503,
                fix="close some, or load the page again for its present state",
                retry_after_s=10,
            )
        watcher = Watcher(wanted)
        self._watchers.add(watcher)
        return watcher

    def unwatch(self, watcher: Watcher) -> None:
        """Forget a subscriber."""
        self._watchers.discard(watcher)

    def close(self) -> None:
        """End all streams: control is stopping."""
        for watcher in self._watchers:
            watcher.close()

    def _lose(self, call: str) -> None:
        self.lost_calls += 1
        self._end(msgspec.structs.replace(self._open.pop(call), state="unknown"))

    def _end(self, call: LiveCall) -> None:
        self._ended.pop(call.call, None)
        self._ended[call.call] = call
        if len(self._ended) > limits.LIVE_CALLS_KEPT:
            self._ended.popitem(last=False)
        self._tell(call)

    def _tell(self, call: LiveCall) -> None:
        for watcher in self._watchers:
            before = watcher.dropped
            watcher.push(call)
            self.dropped_events += watcher.dropped - before
