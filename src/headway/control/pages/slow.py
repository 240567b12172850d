"""Slow calls: each as a bar of phases with its verdict and the evidence; what changed since an instant."""

import asyncio
from datetime import UTC, datetime

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from headway.calls.phases.model import Cause
from headway.control.access import Who
from headway.control.deps import Deps, Use, Viewer
from headway.control.errors import Refused, wants_json
from headway.control.pages.ranges import HOUR_MS, MINUTE_MS, RANGES, Range, range_named
from headway.control.pages.render import show
from headway.control.pages.slow_report import ROWS_SHOWN, CauseRow, SlowFilter, SlowRow, SlowWindow, causes_of, twins_of
from headway.control.pages.slow_words import cause_words
from headway.control.phases import Since
from headway.control.ports import AWAY
from headway.control.words import count, instant, milliseconds, percent, plural

router = APIRouter()
RANGE_FIRST = "1h"
PATIENCE_S = 2.0
"""So long a page waits for figures; then it is sent without them, and asks for itself again."""
AGO_MS = {"1h": HOUR_MS, "6h": 6 * HOUR_MS, "24h": 24 * HOUR_MS}


class SlowPage(msgspec.Struct, frozen=True, kw_only=True):
    """``rows`` are the slowest that the filter lets through, ``found`` how many it does; ``causes`` are of all whatever their cause."""

    tone: str
    sentence: str
    range: Range
    ranges: tuple[Range, ...]
    where: SlowFilter
    filtered: bool
    window: SlowWindow | None
    causes: tuple[CauseRow, ...]
    twins: tuple[SlowRow, ...]
    rows: tuple[SlowRow, ...]
    found: int
    top_ms: float
    """The end of the axis that the bars share."""
    since: str
    """As it stands in the address."""
    since_ms: int
    since_field: str
    """The same for the form's field, which knows minutes."""
    changed: Since | None
    changed_words: str
    pending: bool = False
    """Something is still being worked out: the page asks again."""
    problem: str = ""


def sentence_of(
    window: SlowWindow | None, rows: tuple[SlowRow, ...], causes: tuple[CauseRow, ...], chosen: Range
) -> tuple[str, str]:
    """Tone and the one sentence on top: how many, and what cost most."""
    if window is None:
        return "unknown", "Cannot tell which calls were slow: the stored calls cannot be read now."
    if not window.judged:
        return "unknown", f"No call was answered in the last {chosen.words}."
    if not rows:
        if window.unknown == window.judged:
            return (
                "unknown",
                f"Too few calls are known to say what is usual: {plural(window.judged, 'call')} in the last {chosen.words}.",
            )
        return "ok", f"No call was slow in the last {chosen.words}, of {count(window.judged - window.unknown)}."
    words = f"{plural(len(rows), 'call')} of {count(window.judged)} {'was' if len(rows) == 1 else 'were'} slow in the last {chosen.words}."
    first = next((each for each in causes if each.cause is not Cause.CANNOT_TELL), None)
    if first is None:
        return "warn", f"{words} Nobody can tell why: see what is missing."
    return "warn", f"{words} Of the time they lost, {percent(first.share)} is laid to: {cause_words(first.cause)}."


def changed_words(found: Since | None) -> str:
    """How much longer calls take, and the cause that added most."""
    if found is None:
        return ""
    report = found.report
    if report.added.value is None:
        return f"Cannot tell what changed: {report.problem or report.added.method}."
    added, low, high = report.added.value, report.added.low or 0.0, report.added.high or 0.0
    spread = f"({_signed(low)} to {_signed(high)})"
    if low <= 0 <= high:
        return f"Calls take as long as before, as far as can be told: {_signed(added)} a call {spread}."
    words = f"Calls take {milliseconds(abs(added))} {'more' if added > 0 else 'less'} than before {spread}"
    first = next((part for part in report.parts if part.share is not None and part.share > 0), None)
    return f"{words}; {percent(first.share)} of it is laid to: {cause_words(first.cause)}." if first is not None else f"{words}."


def _signed(ms: float) -> str:
    return f"{'−' if ms < 0 else '+'}{milliseconds(abs(ms))}"


def filter_of(request: Request, who: Who) -> SlowFilter:
    """``Refused`` for a cause that does not exist and for another's tenant."""
    given = {name: request.query_params.get(name, "").strip() for name in ("tenant", "feature", "model", "cause")}
    if given["cause"] and given["cause"] not in list(Cause):
        raise Refused.bad(f"there is no cause {given['cause']!r}", f"one of: {', '.join(Cause)}")
    if who.tenant and given["tenant"] and not who.sees(given["tenant"]):
        raise Refused.forbidden(f"{who.name} sees tenant {who.tenant} only")
    return SlowFilter(**given)


def since_of(text: str, now: int) -> int:
    """Wall milliseconds: ``1h``, ``6h`` or ``24h`` ago to the minute, milliseconds, or ISO 8601 (UTC where it names no zone)."""
    if text in AGO_MS:
        return (now - AGO_MS[text]) // MINUTE_MS * MINUTE_MS
    if text.isdigit() and len(text) < 16:
        return int(text)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise Refused.bad(f"{text[:40]!r} is no instant", "since=1h, 6h, 24h, or 2026-11-24T14:00") from None
    return int((at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp() * 1000)


async def gathered(use: Deps, who: Who, request: Request) -> SlowPage:
    """The page for one caller."""
    chosen = range_named(request.query_params.get("range", RANGE_FIRST))
    where = filter_of(request, who)
    since = request.query_params.get("since", "").strip()
    since_ms = since_of(since, use.clock()) if since else 0
    window, changed, pending, problem = None, None, False, ""
    try:
        async with asyncio.timeout(None if wants_json(request) else PATIENCE_S):
            window = await use.slow.window(chosen, who)
            changed = await use.slow.since(since_ms, who) if since else None
    except TimeoutError:
        pending = True
    except AWAY as away:
        problem = str(away)
    rows = tuple(row for row in window.rows if where.holds(row, any_cause=True)) if window is not None else ()
    causes = causes_of(rows)
    shown = tuple(row for row in rows if where.holds(row))
    tone, sentence = sentence_of(window, rows, causes, chosen)
    if pending and window is None:
        tone, sentence = "unknown", "Working out which calls were slow, and why."
    return SlowPage(
        tone=tone,
        sentence=sentence,
        range=chosen,
        ranges=RANGES,
        where=where,
        filtered=where != SlowFilter(),
        window=window,
        causes=causes,
        twins=twins_of(rows) if not where.cause else (),
        rows=shown[:ROWS_SHOWN],
        found=len(shown),
        top_ms=max((row.split.duration_ms for row in shown[:ROWS_SHOWN]), default=0.0),
        since=since,
        since_ms=since_ms,
        since_field=instant(since_ms)[:16].replace(" ", "T") if since else "",
        changed=changed,
        changed_words=changed_words(changed),
        pending=pending,
        problem=problem,
    )


@router.get("/slow")
async def slow(request: Request, who: Viewer, use: Use) -> Response:
    """The page, or its JSON."""
    return show(request, who, "slow.html", "Slow calls", await gathered(use, who, request))
