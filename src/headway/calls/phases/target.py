"""What is kept of one target, to say what is usual there. All of it is bounded.

A target is (provider, model as sent, tier). Within it calls are kept by lane (who answers: region, else fingerprint; of engines of one's own also
the address) and by tenant. Over a bound the target, lane or tenant unused for longest is forgotten.
"""

from collections import deque
from collections.abc import Callable, Hashable
from typing import TypeVar

import msgspec

from headway.calls.phases.cusum import Alarm, Cusum
from headway.calls.phases.model import Seen
from headway.calls.phases.residual import Lane
from headway.calls.phases.series import Series
from headway.calls.phases.settings import Settings

MARKERS = ("region", "fingerprint", "model", "edge", "address")
"""By what a route is known, the surest first."""
_RECENT_KEPT, _PLACE_KEPT = 256, 64
Change = tuple[tuple[str, str], ...]
Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Recent(msgspec.Struct, frozen=True):
    """A call that ended lately: how unusual its first token and its pace were, in their own units."""

    at_ms: int
    tenant: str
    probe: bool
    units: float
    residual: float
    pace_token_ms: float | None
    pace_units: float
    pace_off: float | None
    """Log of its time a token over the usual."""
    moved: bool
    """On a route that is new."""


class Presence(msgspec.Struct):
    """Since when, without a long pause, a marker has had a value."""

    since_ms: int
    since_index: int
    last_ms: int
    last_index: int


class Place:
    """A route since it appeared: its change points and its latest calls."""

    __slots__ = ("first", "pace", "recent", "since_index", "since_ms")

    def __init__(self, settings: Settings, since_ms: int, since_index: int) -> None:
        self.since_ms, self.since_index = since_ms, since_index
        self.first, self.pace = Cusum(settings), Cusum(settings)
        self.recent: deque[Recent] = deque(maxlen=_PLACE_KEPT)


class Usuals:
    """Of one tenant on a target, and of all tenants together. Tokens in logs; waits in milliseconds."""

    __slots__ = ("blocked", "cached", "cached_share", "connect", "excess", "expected", "output", "queue", "tool", "uncached")

    def __init__(self, settings: Settings) -> None:
        self.uncached, self.output = Series(settings, 0.1), Series(settings, 0.1)
        self.cached_share = Series(settings, 0.05)
        self.cached = Series(settings, 0.1)
        self.queue, self.tool, self.connect, self.blocked = (Series(settings, 5.0) for _ in range(4))
        self.expected = Series(settings, 5.0)
        """Milliseconds a call: what a usual one takes."""
        self.excess = Series(settings, 0.02)
        """Noise of first token and pace together, as a share of what was expected: its spread is what "slow" is held against."""

    def known(self, calls: int) -> bool:
        """Whether so many ordinary calls stand behind all that its calls tell: unusual ones, the first among them, are set aside."""
        told = (self.excess, self.uncached, self.output)
        return len(self.excess) >= calls and all(len(series) >= calls for series in told if len(series))


class Crowd:
    """What an engine of one's own says of its load as calls are sent."""

    __slots__ = ("beside", "meanwhile", "preempted", "running", "waiting")

    def __init__(self, settings: Settings) -> None:
        self.waiting, self.running, self.preempted = Series(settings, 0.5), Series(settings, 0.5), Series(settings, 0.5)
        self.beside, self.meanwhile = Series(settings, 64.0), Series(settings, 64.0)


class Target:
    """All that is known of one target."""

    __slots__ = (
        "_presence",
        "calm",
        "crowd",
        "everyone",
        "index",
        "lanes",
        "place_of",
        "probed",
        "recent",
        "reports",
        "settings",
        "tenants",
        "whole",
    )

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.index = 0
        self.lanes: dict[str, Lane] = {}
        self.tenants: dict[str, Usuals] = {}
        self.everyone = Usuals(settings)
        self.crowd = Crowd(settings)
        self.place_of: dict[tuple[str, str], Place] = {}
        """New routes, by their surest new marker and its value."""
        self.whole = Place(settings, 0, 0)
        """All routes together."""
        self.recent: deque[Recent] = deque(maxlen=_RECENT_KEPT)
        self.calm: deque[Recent] = deque(maxlen=_RECENT_KEPT)
        """The same without those of a rise that lasts: what others usually are."""
        self.reports: set[str] = set()
        """Markers that were ever told, at most one of each name."""
        self.probed = False
        """Whether a probe was ever sent."""
        self._presence: dict[tuple[str, str], Presence] = {}

    def usuals(self, tenant: str) -> Usuals:
        """The tenant's own once enough is known of it, else everybody's."""
        own = self.tenants.get(tenant)
        return own if own is not None and own.known(self.settings.baseline_calls_min) else self.everyone

    def changed(self, seen: Seen) -> Change:
        """Markers of the call that are new on this target, with their values."""
        return tuple((name, value) for name in MARKERS if (value := getattr(seen, name)) and self._new(name, value, seen.at_ms))

    def _new(self, name: str, value: str, at_ms: int) -> bool:
        if name not in self.reports or self.index < self.settings.new_after_calls:
            return False
        there = self._presence.get((name, value))
        if there is None or self._gone(there, at_ms):
            return True
        return there.since_index > self.settings.new_after_calls and at_ms - there.since_ms < self.settings.settle_ms

    def _gone(self, there: Presence, at_ms: int) -> bool:
        settings = self.settings
        return self.index - there.last_index > settings.new_again_calls and at_ms - there.last_ms > settings.new_again_ms

    def lane(self, seen: Seen) -> Lane | None:
        """The lane that says what is usual: the call's own where that has been there for long enough, else the one most calls are in."""
        own = self.lanes.get(lane_key(seen))
        if own is not None and self.settled(own, seen.at_ms) and own.n >= self.settings.baseline_calls_min:
            return own
        settled = [lane for lane in self.lanes.values() if self.settled(lane, seen.at_ms)]
        return max(settled, key=lambda lane: lane.n, default=None)

    def settled(self, lane: Lane, at_ms: int) -> bool:
        return lane.born_index <= self.settings.new_after_calls or at_ms - lane.born_ms >= self.settings.settle_ms

    def rose(self) -> Alarm | None:
        """The rise that lasts over all routes, if there is one."""
        episode = self.whole.first.episode
        return episode if episode is not None and episode.rose else None

    # --- learning

    def note(self, seen: Seen) -> Place:
        """The call's markers; answers the place that it is of."""
        self.index += 1
        self.probed = self.probed or seen.probe
        change = self.changed(seen)
        for name in MARKERS:
            if value := getattr(seen, name):
                self.reports.add(name)
                self._present(name, value, seen.at_ms)
        if not change:
            return self.whole
        since = self._presence[change[0]]
        place = self.place_of.get(change[0])
        if place is None or place.since_index != since.since_index:
            place = Place(self.settings, since.since_ms, since.since_index)
            kept(self.place_of, change[0], lambda: place, self.settings.places_max, anew=True)
        return place

    def _present(self, name: str, value: str, at_ms: int) -> None:
        there = self._presence.pop((name, value), None)
        if there is None or self._gone(there, at_ms):
            there = Presence(since_ms=at_ms, since_index=self.index, last_ms=at_ms, last_index=self.index)
        there.last_ms, there.last_index = at_ms, self.index
        self._presence[(name, value)] = there
        if len(self._presence) > self.settings.places_max * len(MARKERS):
            del self._presence[next(iter(self._presence))]

    def lane_for(self, seen: Seen) -> Lane:
        """The call's own lane, made if it is the first."""
        make = lambda: Lane(self.settings, seen.at_ms, self.index)  # noqa: E731
        return kept(self.lanes, lane_key(seen), make, self.settings.lanes_max)

    def usuals_for(self, tenant: str) -> Usuals:
        return kept(self.tenants, tenant, lambda: Usuals(self.settings), self.settings.tenants_max)


def lane_key(seen: Seen) -> str:
    """Who answers. Addresses of hosted providers are many and mean little; of an engine of one's own the address is the engine."""
    who = seen.region or seen.fingerprint
    return who if seen.hosted else f"{who}@{seen.address}"


def kept(table: dict[Key, Value], key: Key, make: Callable[[], Value], bound: int, anew: bool = False) -> Value:
    """The entry of ``key``, moved to the end; the one unused for longest goes when there are too many."""
    value = None if anew else table.pop(key, None)
    table.pop(key, None)
    if value is None:
        value = make()
    table[key] = value
    if len(table) > bound:
        del table[next(iter(table))]
    return value
