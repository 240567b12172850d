"""What changed since an instant: the added latency of calls after it, cause by cause, with the part of the mix apart.

Every call is its expected time and the parts of its excess, and these add up; so do their means, and so do the differences of means before and after.
What was expected of the calls differs because others call, or ask for ordinary amounts of other size: that is the mix, and no slow model.
The frozen history of the calls before is the measure for both sides.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from copy import deepcopy

import msgspec

from headway.calls.phases.causes import Claim
from headway.calls.phases.cusum import Alarm
from headway.calls.phases.drift import Drift, drifts
from headway.calls.phases.history import History, target_key
from headway.calls.phases.model import Cause, Seen, Verdict
from headway.calls.phases.parts import Parts, parts_of, uncached_of
from headway.calls.phases.settings import Settings
from headway.calls.phases.verdict import Judge

BANDS = (256, 1_024, 4_096, 16_384)
"""Uncached tokens from which a prompt is of the next band."""
NEVER_MS = 1e15
PENDING_MAX = 128
"""Calls that wait for what goes on beside them; over it the oldest is judged at once."""
_SHARED = (Cause.ROUTE_CHANGE, Cause.NEIGHBOUR)
"""Causes that may be behind the same milliseconds; the first that holds has them."""


class Attributed(msgspec.Struct, frozen=True, kw_only=True):
    """One call of the comparison. ``took_ms`` = ``expected_ms`` + the sum of ``by_cause``."""

    call: str
    at_ms: int
    target: tuple[str, str, str]
    tenant: str
    band: int
    """Number of ``BANDS`` reached; -1 where nobody counted."""
    after: bool
    took_ms: float
    expected_ms: float
    by_cause: dict[Cause, float]
    residual_units: float


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A date at which first tokens of a target rose or fell."""

    target: tuple[str, str, str]
    alarm: Alarm


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """All that a report needs: rows of both sides, verdicts of the calls after, shares that moved, dated changes."""

    since_ms: int
    rows: tuple[Attributed, ...]
    verdicts: tuple[Verdict, ...]
    drifts: tuple[Drift, ...]
    changes: tuple[Change, ...]
    left_out: int
    """Calls of targets that had fewer than ``baseline_calls_min`` calls before: nothing can be said of them."""


def compare(calls: Iterable[Seen], since_ms: int, settings: Settings | None = None) -> Compared:
    """``calls`` of any order, those before ``since_ms`` being the measure. Nothing that began after it becomes usual."""
    chosen = msgspec.structs.replace(settings or Settings(), settle_ms=NEVER_MS)
    ordered = sorted(calls, key=lambda seen: (seen.at_ms, seen.call))
    before = [seen for seen in ordered if seen.at_ms < since_ms]
    after = [seen for seen in ordered if seen.at_ms >= since_ms]
    watch = _Watch(chosen)
    watch.learn(before)
    frozen = deepcopy(watch.history)
    watch.changes.clear()
    watch.learn(after)
    watch.finish()
    known = [seen for seen in ordered if not seen.probe and _known(frozen, seen, chosen)]
    return Compared(
        since_ms=since_ms,
        rows=tuple(_row(seen, frozen, watch.claims.get(seen.call, ()), since_ms) for seen in known),
        verdicts=tuple(watch.verdicts[seen.call] for seen in known if seen.at_ms >= since_ms),
        drifts=drifts(before, after),
        changes=tuple(watch.changes),
        left_out=sum(not seen.probe for seen in ordered) - len(known),
    )


class _Watch:
    """Learns calls in order and judges each a little later, when what went on beside it is known too."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.history, self._judge = History(settings), Judge(settings)
        self.claims: dict[str, tuple[Claim, ...]] = {}
        self.verdicts: dict[str, Verdict] = {}
        self.changes: list[Change] = []
        self._alarms: dict[tuple[str, str, str], Alarm] = {}
        self._pending: deque[Seen] = deque()

    def learn(self, calls: Iterable[Seen]) -> None:
        for seen in calls:
            self.history.learn(seen)
            self._pending.append(seen)
            self._note_change(seen)
            while self._pending[0].at_ms + self.settings.together_ms < seen.at_ms or len(self._pending) > PENDING_MAX:
                self._judge_one(self._pending.popleft())

    def finish(self) -> None:
        while self._pending:
            self._judge_one(self._pending.popleft())

    def _judge_one(self, seen: Seen) -> None:
        self.claims[seen.call] = self._judge.claims(seen, self.history)
        self.verdicts[seen.call] = self._judge.verdict(seen, self.history)

    def _note_change(self, seen: Seen) -> None:
        target = self.history.target(seen)
        if target is None:
            return
        alarm = target.whole.first.episode
        if alarm is not None and alarm is not self._alarms.get(target_key(seen)):
            self._alarms[target_key(seen)] = alarm
            self.changes.append(Change(target=target_key(seen), alarm=alarm))


def _known(history: History, seen: Seen, settings: Settings) -> bool:
    target = history.target(seen)
    lane = target.lane(seen) if target is not None else None
    return lane is not None and lane.n >= settings.baseline_calls_min


def _row(seen: Seen, frozen: History, claims: Sequence[Claim], since_ms: int) -> Attributed:
    measure = frozen.target(seen)
    assert measure is not None
    parts = parts_of(seen, measure)
    uncached = uncached_of(seen)
    return Attributed(
        call=seen.call,
        at_ms=seen.at_ms,
        target=target_key(seen),
        tenant=seen.tenant,
        band=-1 if uncached is None else sum(uncached >= edge for edge in BANDS),
        after=seen.at_ms >= since_ms,
        took_ms=parts.split.duration_ms,
        expected_ms=parts.split.duration_ms - parts.excess_ms,
        by_cause=by_cause(parts, claims),
        residual_units=parts.residual_units,
    )


def by_cause(parts: Parts, claims: Sequence[Claim]) -> dict[Cause, float]:
    """The excess laid to causes. What nobody's evidence claims is ``cannot_tell``, connecting included."""
    holding = {claim.cause for claim in claims if claim.holds}
    found = {
        Cause.OWN_QUEUE: parts.queue_ms,
        Cause.THROTTLING: parts.throttled_ms,
        Cause.RETRY: parts.retried_ms,
        Cause.LONG_PROMPT: parts.prompt_ms,
        Cause.LONGER_OUTPUT: parts.output_ms,
        Cause.SLOW_READER: parts.reader_ms,
        Cause.TOOL_WAIT: parts.tool_ms,
        Cause.CANNOT_TELL: parts.connect_ms,
    }
    if Cause.THROTTLING in holding and not parts.throttled_ms:
        found[Cause.THROTTLING], found[Cause.RETRY] = parts.retried_ms, 0.0
    shared = next((cause for cause in _SHARED if cause in holding), None)
    _lay(found, shared or Cause.CANNOT_TELL, parts.rest_ms + parts.crowd_ms)
    _lay(found, shared or (Cause.SLOW_DECODE if Cause.SLOW_DECODE in holding else Cause.CANNOT_TELL), parts.pace_ms)
    cold = Cause.ROUTE_CHANGE if shared is Cause.ROUTE_CHANGE else Cause.COLD_CACHE
    _lay(found, cold if cold in holding else Cause.CANNOT_TELL, parts.cold_ms)
    return found


def _lay(found: dict[Cause, float], cause: Cause, ms: float) -> None:
    found[cause] = found.get(cause, 0.0) + ms
