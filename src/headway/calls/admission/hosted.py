"""What a hosted endpoint lets through: requests and tokens a minute, learnt from its headers and its 429s.

A gateway cannot see a provider's queue; it can only not ask for more than is left. Providers give their allowance back in one of two ways,
told apart by the reset header: a bucket that fills all the time (reset is when it is full), or a window that begins anew (reset is when).
Limits told in headers hold. Where none is told nothing is held back until the first 429; then what was reached within the last minute,
cut by a share, is the limit: it rises by a step each minute, by larger ones the longer there was no 429, and is cut again at each
further one.

Before the first 429 the flow is slowed in steps as what is left shrinks (``STEPS``), down to the rate at which it comes back: no burst runs
into the end of an allowance, and none of it is lost.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from headway.calls.admission.hosted_headers import Told, read, retry_after_s
from headway.calls.admission.model import Capacity
from headway.kernel.instants import NS_PER_S, MonoNs, after_ms

PERIOD_S = 60.0
RESERVE_SHARE = 0.01
"""Never taken: our clock and count and the provider's do not agree exactly."""
LEARNT_CUT = 0.8
LEARNT_RAISE_SHARE = 0.05
PACE_CUT = 0.9
PACE_RAISE = 0.05
PACE_MIN = 0.1
LIMIT_MIN = 1.0
WATCHED_S_MIN = 1.0
BACKOFF_S = 1.0
BACKOFF_S_MAX = 60.0
RETRY_AFTER_S_MAX = 600.0
SAME_429_NS = 2 * NS_PER_S
"""429s of calls that were sent together are one."""
SAME_WINDOW_NS = 30 * NS_PER_S
VOTES_MAX = 3
JUDGED_SHIFT_S = 3.0
"""What was taken between two heads must shift a bucket's reset by so much before the two are compared: resets come in whole seconds."""
TAKES_KEPT = 4_096
"""Over it the oldest takes are forgotten, and a first 429 finds a limit that is too low; it rises again."""


class Step(NamedTuple):
    left_share: float
    times_refill: float


STEPS = (Step(0.5, 8.0), Step(0.25, 3.0), Step(0.1, 1.0))
"""Below so much of the allowance left, at most so many times the rate at which it comes back; above the first as fast as one likes."""


class Allowance:
    """Requests or tokens a minute: how much is left, and when more is."""

    __slots__ = (
        "_at", "_began_at", "_configured", "_cut_at", "_learnt", "_level", "_out", "_pace", "_paced_until", "_raise", "_reset_at", "_seen", "_takes", "_told",
        "_window_votes",
    )  # fmt: skip

    def __init__(self, configured: float | None) -> None:
        self._configured = configured
        self._told: float | None = None
        self._learnt: float | None = None
        self._raise = 0.0
        self._cut_at: MonoNs | None = None
        self._pace = 1.0
        """Share of a told limit that is asked for: below 1 after 429s that came although something was left."""
        self._level = configured or 0.0
        self._at: MonoNs | None = None
        self._paced_until = MonoNs(0)
        self._out = 0.0
        """Taken by calls that have not ended: their provider may not have counted them in what it says is left."""
        self._reset_at: MonoNs | None = None
        self._began_at: MonoNs | None = None
        self._seen: tuple[MonoNs, float, MonoNs] | None = None
        """The head that the next is compared with: when, what was left, when it resets."""
        self._window_votes = 0
        self._takes: deque[tuple[MonoNs, float]] = deque(maxlen=TAKES_KEPT)

    @property
    def limit(self) -> float | None:
        """A minute; None while none is known."""
        known = [limit for limit in (self._configured, self._told, self._learnt) if limit is not None]
        return max(LIMIT_MIN, min(known) * self._pace) if known else None

    def left(self, now: MonoNs) -> float | None:
        self._come_back(now)
        return None if self.limit is None else self._level

    def room_at(self, amount: float, now: MonoNs) -> MonoNs:
        """The earliest instant at which ``amount`` may be taken: now, where it may at once. More than a whole limit waits for a whole one."""
        self._come_back(now)
        limit = self.limit
        if limit is None:
            return now
        missing = min(amount + limit * RESERVE_SHARE, limit * (1 - RESERVE_SHARE)) - self._level
        at = max(now, self._paced_until)
        if missing <= 0:
            return at
        if self._is_window():
            assert self._reset_at is not None
            return max(at, self._reset_at)
        return max(at, MonoNs(now + 1 + int(missing * PERIOD_S / limit * NS_PER_S)))

    def take(self, amount: float, now: MonoNs) -> None:
        self._come_back(now)
        self._takes.append((now, amount))
        self._out += amount
        limit = self.limit
        if limit is None:
            return
        self._level -= amount
        speeds = [step.times_refill for step in STEPS if self._level < limit * step.left_share]
        if speeds:
            spacing_s = amount * PERIOD_S / (limit * speeds[-1])
            self._paced_until = MonoNs(max(now, self._paced_until) + int(spacing_s * NS_PER_S))

    def ended(self, taken: float, unused: float, now: MonoNs) -> None:
        """A call is over. ``unused``: what it took beyond what it used; below 0 when it used more."""
        self._come_back(now)
        self._out = max(0.0, self._out - taken)
        limit = self.limit
        if limit is not None:
            self._level = min(limit, self._level + unused)

    def told(self, told: Told, now: MonoNs) -> None:
        """What a head says. What is left lies between what it says and that less all that is out; ours is kept where it lies between."""
        if told.limit is None:
            return
        before = self.limit
        self._told = told.limit
        self._come_back(now)
        limit = self.limit
        assert limit is not None
        if before is None:
            self._level = limit
        if told.remaining is None:
            return
        if told.reset_s is not None:
            self._reset_at = after_ms(now, told.reset_s * 1000)
            self._judge(told.limit, told.remaining, self._reset_at, now)
        left = told.remaining * self._pace
        self._level = min(self._level, left)
        if limit == told.limit * self._pace:
            self._level = max(self._level, left - self._out)

    def refused(self, now: MonoNs, until: MonoNs) -> None:
        """A 429 that is not one of several for the same reason; nothing is asked ``until`` then."""
        if self._told is not None or self._configured is not None:
            self._pace = max(PACE_MIN, self._pace * PACE_CUT)
        else:
            reached = self._reached(now)
            known = reached if self._learnt is None else min(self._learnt, max(reached, self._learnt / 2))
            self._learnt = max(LIMIT_MIN, known * LEARNT_CUT)
            self._raise = max(LIMIT_MIN, self._learnt * LEARNT_RAISE_SHARE)
            self._cut_at = now
        self.empty(now, until)

    def _reached(self, now: MonoNs) -> float:
        """What was taken within the last minute; of a shorter time, what it would come to."""
        recent = [(at, amount) for at, amount in self._takes if now - at <= PERIOD_S * NS_PER_S]
        watched_s = (now - recent[0][0]) / NS_PER_S if recent else PERIOD_S
        return sum(amount for _, amount in recent) * PERIOD_S / min(PERIOD_S, max(WATCHED_S_MIN, watched_s))

    def empty(self, now: MonoNs, until: MonoNs) -> None:
        """It was used up, and as far as is known nothing comes back ``until`` then: a window that has not ended must not look half full."""
        self._come_back(now)
        self._level = min(self._level, 0.0)
        self._at = max(self._at or now, until)

    def _judge(self, limit: float, remaining: float, reset_at: MonoNs, now: MonoNs) -> None:
        """Each take puts off the instant at which a bucket is full; the end of a window stays where it is."""
        if self._seen is None:
            self._seen = (now, remaining, reset_at)
            return
        seen_at, seen_remaining, seen_reset_at = self._seen
        taken_s = (seen_remaining - remaining) * PERIOD_S / limit + (now - seen_at) / NS_PER_S
        if 0 <= taken_s < JUDGED_SHIFT_S:
            return
        shift_s = (reset_at - seen_reset_at) / NS_PER_S
        if taken_s > 0 and remaining < seen_remaining:
            vote = 1 if shift_s < taken_s / 2 else -1
            self._window_votes = max(-VOTES_MAX, min(VOTES_MAX, self._window_votes + vote))
        self._seen = (now, remaining, reset_at)

    def _is_window(self) -> bool:
        return self._window_votes > 0 and self._reset_at is not None

    def _come_back(self, now: MonoNs) -> None:
        """Bring what is left up to now."""
        before, self._at = self._at, max(now, self._at or now)
        if before is None or self._at <= before:
            return
        span_s = (self._at - before) / NS_PER_S
        minutes = span_s / PERIOD_S
        if self._learnt is not None and self._cut_at is not None:
            clear_minutes = (self._at - self._cut_at) / NS_PER_S / PERIOD_S
            self._learnt += self._raise * minutes * (1 + clear_minutes / 2)
        self._pace = min(1.0, self._pace + PACE_RAISE * minutes)
        limit = self.limit
        if limit is None:
            return
        if not self._is_window():
            self._level = min(limit, self._level + span_s * limit / PERIOD_S)
        elif self._reset_at is not None and now >= self._reset_at:
            self._reset_at = None
            # A head of the last window that comes late tells the same end again.
            if self._began_at is None or now - self._began_at > SAME_WINDOW_NS:
                self._level, self._paced_until, self._began_at = limit, now, now


class HostedCapacity:
    """One hosted endpoint. Ask ``room``, then ``take``; tell every head; ``settle`` when the call has ended."""

    __slots__ = ("_blocked_until", "_cut_at", "_in_row", "outstanding", "refusals", "requests", "tokens")

    def __init__(self, capacity: Capacity) -> None:
        self.requests = Allowance(capacity.requests_per_minute)
        self.tokens = Allowance(capacity.tokens_per_minute)
        self.outstanding = 0
        self.refusals = 0
        """429s seen."""
        self._blocked_until = MonoNs(0)
        self._cut_at: MonoNs | None = None
        self._in_row = 0

    def room(self, tokens: float, now: MonoNs) -> bool:
        """Whether a call of so many tokens (prompt and expected output) may be sent now."""
        return self.next_at(tokens, now) <= now

    def next_at(self, tokens: float, now: MonoNs) -> MonoNs:
        """The earliest instant at which it may be, as far as is known now; now where it may at once."""
        return max(now, self._blocked_until, self.requests.room_at(1, now), self.tokens.room_at(max(0.0, tokens), now))

    def take(self, tokens: float, now: MonoNs) -> None:
        """A call of so many tokens is sent."""
        self.outstanding += 1
        self.requests.take(1, now)
        self.tokens.take(max(0.0, tokens), now)

    def settle(self, taken: float, actual: float | None, now: MonoNs) -> None:
        """It ended. ``actual`` None: nobody knows, what was taken stands. 0: it used nothing (never sent, or refused)."""
        self.outstanding = max(0, self.outstanding - 1)
        taken = max(0.0, taken)
        self.requests.ended(1, 0.0, now)
        self.tokens.ended(taken, 0.0 if actual is None else taken - max(0.0, actual), now)

    def head(self, status: int, headers: Sequence[tuple[str, str]] | Mapping[str, str], now: MonoNs) -> None:
        """Status and headers (lower-case names) of any answer from there."""
        named = dict(headers)
        told = read(named)
        self.requests.told(told.requests, now)
        self.tokens.told(told.tokens, now)
        if status == 429:
            self._refused(told.requests, told.tokens, retry_after_s(named), now)
        else:
            self._in_row = 0
            pause_s = retry_after_s(named) if status in (503, 529) else None
            if pause_s is not None:
                self._block(pause_s, now)

    def _refused(self, requests: Told, tokens: Told, pause_s: float | None, now: MonoNs) -> None:
        self.refusals += 1
        same = self._cut_at is not None and now - self._cut_at < SAME_429_NS
        self._in_row += not same
        if pause_s is None:
            pause_s = min(BACKOFF_S_MAX, BACKOFF_S * 2 ** min(10, self._in_row - 1))
        self._block(pause_s, now)
        if not same:
            self._cut_at = now
            self._cut(requests, tokens, now)

    def _cut(self, requests: Told, tokens: Told, now: MonoNs) -> None:
        """The allowance that is said to be used up is emptied; where none is said to be, both are cut."""
        spent = [a for a, told in ((self.requests, requests), (self.tokens, tokens)) if told.remaining == 0]
        for allowance in spent:
            allowance.empty(now, self._blocked_until)
        if not spent:
            self.requests.refused(now, self._blocked_until)
            self.tokens.refused(now, self._blocked_until)

    def _block(self, pause_s: float, now: MonoNs) -> None:
        self._blocked_until = max(self._blocked_until, after_ms(now, min(pause_s, RETRY_AFTER_S_MAX) * 1000))
