"""Calls from both places at once: the live feed knows the last seconds and what is in flight, the facts know the rest."""

import msgspec

from headway.calls.model import FAILED, Outcome
from headway.control.access import Who
from headway.control.errors import Refused
from headway.control.live import LiveCall, LiveFeed, Wanted
from headway.control.ports import AWAY, CallFilter, Facts, StoredCall
from headway.facts.model import CallFact
from headway.kernel import limits
from headway.kernel.ids import id_wall_ms

STATES = ("in_flight", "failed", "unknown", *Outcome)
ANY = "any"


class CallList(msgspec.Struct, frozen=True, kw_only=True):
    """One page of calls, newest first. ``next`` is the cursor for older ones, empty at the end."""

    in_flight: tuple[LiveCall, ...]
    calls: tuple[LiveCall, ...]
    next: str = ""
    problem: str = ""
    """Why older calls are missing, when the facts cannot be read."""


class OneCall(msgspec.Struct, frozen=True, kw_only=True):
    """One call with all that hangs on it. ``stored`` is None while it is in flight or when its end was never told."""

    call: str
    state: str
    live: LiveCall | None = None
    stored: StoredCall | None = None
    beside: tuple[LiveCall, ...] = ()
    problem: str = ""


def wanted(where: CallFilter, who: Who) -> Wanted:
    """The filter as a predicate, bounded to what ``who`` may see."""
    model = where.model.lower()

    def matches(call: LiveCall) -> bool:
        fact = call.fact
        names = (call.requested, fact.routed, fact.answered) if fact else (call.requested,)
        return (
            who.sees(call.tenant)
            and where.tenant in ("", call.tenant)
            and where.feature in ("", call.feature)
            and where.origin in ("", ANY, call.origin)
            and (not where.key or (fact is not None and fact.key == where.key))
            and (not model or any(model in name.lower() for name in names))
            and (not where.state or _in_state(call, where.state))
        )

    return matches


def _in_state(call: LiveCall, state: str) -> bool:
    if call.fact is None:
        return call.state == state
    return call.fact.outcome == state or (state == "failed" and (call.fact.outcome in FAILED or bool(call.fact.stream_fault)))


def checked(where: CallFilter, who: Who) -> CallFilter:
    """The filter with the caller's tenant filled in. ``Refused`` for a state that does not exist."""
    if where.state and where.state not in STATES:
        raise Refused.bad(f"there is no state {where.state!r}", f"one of: {', '.join(STATES)}")
    if who.tenant and where.tenant and not who.sees(where.tenant):
        raise Refused.forbidden(f"{who.name} sees tenant {who.tenant} only")
    return msgspec.structs.replace(where, tenant=who.tenant or where.tenant)


def as_live(fact: CallFact) -> LiveCall:
    """A stored call in the form of the feed."""
    return LiveCall(
        call=fact.call,
        state="ended",
        gateway=fact.gateway,
        started_wall_ms=fact.started_wall_ms,
        tenant=fact.tenant,
        feature=fact.feature,
        requested=fact.requested,
        dialect=fact.dialect,
        stream=fact.stream,
        origin=fact.origin,
        fact=fact,
    )


class CallBook:
    """Reads calls for pages and API. ``rows_max`` of any question is ``PAGE_ROWS_MAX``."""

    def __init__(self, live: LiveFeed, facts: Facts) -> None:
        self._live, self._facts = live, facts

    async def page(self, where: CallFilter, who: Who, before: str, rows: int) -> CallList:
        """``rows`` calls older than ``before``. A call that both places know is shown as the feed knows it."""
        rows = max(1, min(rows, limits.PAGE_ROWS_MAX))
        where = checked(where, who)
        matches = wanted(where, who)
        in_flight = () if before else tuple(call for call in self._live.in_flight() if matches(call))[: limits.PAGE_ROWS_MAX]
        if where.state == "in_flight":
            return CallList(in_flight=in_flight, calls=())
        found = {call.call: call for call in self._live.ended() if matches(call) and (not before or call.call < before)}
        problem = ""
        if where.state != "unknown":
            try:
                stored = await self._facts.calls(where, before, rows + 1)
            except AWAY as away:
                stored, problem = (), str(away)
            for fact in stored:
                found.setdefault(fact.call, as_live(fact))
        newest = sorted(found.values(), key=lambda call: call.call, reverse=True)
        shown = tuple(newest[:rows])
        return CallList(in_flight=in_flight, calls=shown, next=shown[-1].call if len(newest) > rows else "", problem=problem)

    async def one(self, call: str, who: Who) -> OneCall:
        """``Refused`` 404 for an id that nobody knows, or that belongs to another tenant."""
        live = self._live.find(call)
        stored, problem = None, ""
        try:
            id_wall_ms(call)
            stored = await self._facts.one(call)
        except ValueError:
            raise Refused.missing(f"call {call[: limits.HEADER_VALUE_CHARS_MAX]!r}", "ids look like call_01jd8zk3m4...") from None
        except AWAY as away:
            problem = str(away)
        if live is not None and live.fact is not None:
            known = StoredCall(fact=live.fact, attempts=live.attempts)
            stored = known if stored is None else msgspec.structs.replace(stored, attempts=stored.attempts or live.attempts)
        tenant = stored.fact.tenant if stored else live.tenant if live else None
        if tenant is None or not who.sees(tenant):
            if problem and tenant is None:
                raise Refused.away("the stored calls", problem)
            raise Refused.missing(f"call {call}", "a call reaches the store some seconds after it ended")
        state = stored.fact.outcome if stored else live.state if live else "unknown"
        beside, beside_problem = await self._beside(call, stored, live, who)
        return OneCall(call=call, state=state, live=live, stored=stored, beside=beside, problem=problem or beside_problem)

    async def _beside(
        self, call: str, stored: StoredCall | None, live: LiveCall | None, who: Who
    ) -> tuple[tuple[LiveCall, ...], str]:
        since = stored.fact.started_wall_ms if stored else live.started_wall_ms if live else 0
        until = since + int(stored.fact.duration_ms) if stored else since + limits.LIVE_OPEN_AGE_MS_MAX
        found: dict[str, LiveCall] = {}
        for other in (*self._live.in_flight(), *self._live.ended()):
            end = other.started_wall_ms + int(other.fact.duration_ms) if other.fact else until
            if other.started_wall_ms <= until and end >= since:
                found[other.call] = other
        problem = ""
        try:
            for fact in await self._facts.beside(since, until, limits.NEIGHBOURS_MAX + 1):
                found.setdefault(fact.call, as_live(fact))
        except AWAY as away:
            problem = str(away)
        found.pop(call, None)
        near = sorted((c for c in found.values() if who.sees(c.tenant)), key=lambda c: abs(c.started_wall_ms - since))
        return tuple(sorted(near[: limits.NEIGHBOURS_MAX], key=lambda c: c.call, reverse=True)), problem
