"""One call: who asked, who answered, where the time went, what it cost, what ran beside it."""

from typing import Final

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from headway.control.access import Who
from headway.control.callbook import CallBook, OneCall
from headway.control.charts import Phase, phases
from headway.control.deps import Deps, Use, Viewer
from headway.control.pages.render import show
from headway.control.phases import Judged
from headway.control.ports import AWAY
from headway.control.words import milliseconds, percent, short_id, state_words
from headway.facts.answers import Stalled
from headway.facts.model import AttemptFact, CallFact

router = APIRouter()
PHASES: Final = {
    "queue": "waiting in our queue",
    "connect": "connecting",
    "head": "waiting for the provider to begin",
    "first token": "waiting for the first token",
    "answer": "receiving the answer",
    "rest": "closing",
}


class AttemptRow(msgspec.Struct, frozen=True, kw_only=True):
    fact: AttemptFact
    phases: tuple[Phase, ...]


class PhaseShare(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of phase over all attempts."""

    name: str
    words: str
    length_ms: float


class CallPage(msgspec.Struct, frozen=True, kw_only=True):
    """``verdict`` is one sentence on how it went, from the facts alone."""

    one: OneCall
    verdict: str
    attempts: tuple[AttemptRow, ...]
    shares: tuple[PhaseShare, ...]
    key_name: str = ""
    """The name of the key that was used, when the ledger can be asked."""
    stalled: Stalled | None = None
    """What it lost to others at its endpoint; None while it is in flight, for one that was sent nowhere, and while the facts are away."""
    judged: Judged | None = None
    """Its phases and the verdict; None while it is in flight or not stored, and while the facts are away."""


def shares_of(attempts: tuple[AttemptRow, ...]) -> tuple[PhaseShare, ...]:
    """Every kind of phase that took any time, in the order in which they come."""
    found = []
    for name, words in PHASES.items():
        length_ms = sum(phase.length_ms for row in attempts for phase in row.phases if phase.name == name)
        if length_ms:
            found.append(PhaseShare(name=name, words=words, length_ms=length_ms))
    return tuple(found)


def verdict_of(one: OneCall) -> str:
    """What happened, in one sentence."""
    if one.stored is None:
        return "In flight: nothing is known yet but who asked." if one.state == "in_flight" else "Its end was never told."
    fact = one.stored.fact
    took = milliseconds(fact.duration_ms)
    if fact.outcome == "done":
        slowest = _largest_share(fact, one.stored.attempts)
        again = f" after {fact.attempts} attempts" if fact.attempts > 1 else ""
        return f"Done in {took}{again}{slowest}."
    _, words = state_words(fact.outcome)
    why = f": {fact.error_detail.rstrip('.')}" if fact.error_detail else f" ({fact.error_code})" if fact.error_code else ""
    began = "after the answer had begun" if fact.committed else "before anything was sent to the caller"
    return f"{words.capitalize()} after {took}, {began}{why}."


def _largest_share(fact: CallFact, attempts: tuple[AttemptFact, ...]) -> str:
    found = [phase for attempt in attempts for phase in phases(attempt, fact.started_wall_ms)]
    if not found or fact.duration_ms <= 0:
        return ""
    longest = max(found, key=lambda phase: phase.length_ms)
    share = longest.length_ms / fact.duration_ms
    return f", {percent(min(share, 1))} of it {PHASES[longest.name]}"


async def key_name_of(use: Deps, key: str) -> str:
    """The name of a key; empty for none, for one that is gone, and while the ledger is away."""
    try:
        record = await use.ledger.keys.get(key) if key else None
    except AWAY:
        return ""
    return record.name if record is not None else ""


async def stalled_of(use: Deps, who: Who, one: OneCall) -> Stalled | None:
    """What the attempt that answered, or failed last, lost to other calls at its endpoint."""
    if one.stored is None or not one.stored.attempts:
        return None
    last = max(one.stored.attempts, key=lambda attempt: attempt.attempt)
    try:
        return await use.admission.stalled(
            one.call, last.endpoint, last.started_wall_ms, int(last.started_wall_ms + last.duration_ms), who
        )
    except AWAY:
        return None  # the page says so where it shows what ran beside


async def judged_of(use: Deps, who: Who, one: OneCall) -> Judged | None:
    """Of a call that was sent somewhere."""
    if one.stored is None or not one.stored.attempts:
        return None
    try:
        return await use.phases.judged(one.call, who)
    except AWAY:
        return None  # the page says so where it shows what ran beside


@router.get("/calls/{call}")
async def call(request: Request, call: str, who: Viewer, use: Use) -> Response:
    """The page, or its JSON."""
    one = await CallBook(use.live, use.facts).one(call, who)
    attempts = one.stored.attempts if one.stored else ()
    started = one.stored.fact.started_wall_ms if one.stored else 0
    rows = tuple(AttemptRow(fact=a, phases=phases(a, started)) for a in sorted(attempts, key=lambda a: a.attempt))
    key_name = await key_name_of(use, one.stored.fact.key if one.stored else "")
    stalled = await stalled_of(use, who, one)
    page = CallPage(
        one=one,
        verdict=verdict_of(one),
        attempts=rows,
        shares=shares_of(rows),
        key_name=key_name,
        stalled=stalled,
        judged=await judged_of(use, who, one),
    )
    return show(request, who, "call.html", f"Call {short_id(call)}", page)
