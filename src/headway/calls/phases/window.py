"""What changed since an instant: the added latency of calls after it, cause by cause, with the part of the mix apart.

Every call is its expected time and the parts of its excess, and these add up; so do their means, and so do the differences of means before and after.
What was expected of the calls differs because others call, or ask for ordinary amounts of other size: that is the mix, and no slow model.
The frozen history of the calls before is the measure for both sides.
"""

from collections.abc import Iterable, Sequence
from copy import deepcopy

import msgspec

from headway.calls.phases.claims import Claim
from headway.calls.phases.drift import Drift, drifts
from headway.calls.phases.history import History, target_key
from headway.calls.phases.model import Cause, Seen, Verdict
from headway.calls.phases.parts import Parts, parts_of, uncached_of
from headway.calls.phases.settings import Settings
from headway.calls.phases.watch import Change, Told, Watch

BANDS = (256, 1_024, 4_096, 16_384)
"""Uncached tokens from which a prompt is of the next band."""
NEVER_MS = 1e15
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


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """All that a report needs: rows of both sides, verdicts of the calls after, shares that moved, dated changes."""

    since_ms: int
    rows: tuple[Attributed, ...]
    verdicts: tuple[Verdict, ...]
    drifts: tuple[Drift, ...]
    changes: tuple[Change, ...]
    left_out: int
    """Calls of targets that had fewer than ``baseline_calls_min`` calls before: nothing can be said of them."""


def compare(calls: Iterable[Seen], since_ms: int, settings: Settings | None = None, tenant: str = "") -> Compared:
    """``calls`` of any order, those before ``since_ms`` being the measure. Nothing that began after it becomes usual. ``tenant``: calls of others are
    learnt from, and not told of."""
    chosen = msgspec.structs.replace(settings or Settings(), settle_ms=NEVER_MS)
    ordered = sorted(calls, key=lambda seen: (seen.at_ms, seen.call))
    before = [seen for seen in ordered if seen.at_ms < since_ms]
    after = [seen for seen in ordered if seen.at_ms >= since_ms]
    watch, told = Watch(chosen), dict[str, Told]()
    _watched(watch, before, told)
    frozen = deepcopy(watch.history)
    started = len(watch.changes)
    _watched(watch, after, told)
    told.update((each.verdict.call, each) for each in watch.finish())
    own = [seen for seen in ordered if not seen.probe and tenant in ("", seen.tenant)]
    known = [seen for seen in own if _known(frozen, seen, chosen)]
    return Compared(
        since_ms=since_ms,
        rows=tuple(_row(seen, frozen, told[seen.call].claims, since_ms) for seen in known),
        verdicts=tuple(told[seen.call].verdict for seen in known if seen.at_ms >= since_ms),
        drifts=drifts([s for s in own if s.at_ms < since_ms], [s for s in own if s.at_ms >= since_ms]),
        changes=tuple(watch.changes)[started:],
        left_out=len(own) - len(known),
    )


def _watched(watch: Watch, calls: Iterable[Seen], told: dict[str, Told]) -> None:
    for seen in calls:
        told.update((each.verdict.call, each) for each in watch.learn(seen))


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
        expected_ms=parts.split.duration_ms - parts.over_ms,
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
