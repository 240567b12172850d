"""Admission: who waits, who runs, who stalled whom."""

from collections.abc import Sequence

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

from headway.calls.admission.bands import BANDS, Band
from headway.calls.admission.objectives import Kept
from headway.calls.admission.report import AdmissionReport
from headway.calls.admission.stalls import OTHERS, UNEXPLAINED, Cell, Matrix, folded
from headway.control.access import Who
from headway.control.admission import NOT_YOURS, slowest
from headway.control.admission_now import SharedEndpoint
from headway.control.charts_admission import OverTime, over_time
from headway.control.deps import Deps, Use, Viewer
from headway.control.pages.ranges import RANGES, Range, range_named
from headway.control.pages.render import fragment, show
from headway.control.ports import AWAY
from headway.control.words import milliseconds, percent, plural

router = APIRouter()
RANGE_FIRST = "1h"
PEERS_SHOWN = 10
ENDPOINTS_SHOWN = 20


class StallCell(msgspec.Struct, frozen=True, kw_only=True):
    aggressor: str
    cell: Cell | None


class StallRow(msgspec.Struct, frozen=True, kw_only=True):
    """What the calls of one tenant lost, by whom; in all; how many calls these were."""

    victim: str
    cells: tuple[StallCell, ...]
    lost_ms: float
    calls: int


class AdmissionPage(msgspec.Struct, frozen=True, kw_only=True):
    """``tone`` and ``sentence`` come first; ``culprit`` says who cost whom most. ``report`` is None while the facts are away."""

    tone: str
    sentence: str
    culprit: str
    range: Range
    ranges: tuple[Range, ...]
    endpoint: str
    endpoints: tuple[str, ...]
    now: tuple[SharedEndpoint, ...]
    report: AdmissionReport | None
    matrix: Matrix
    """Of the report, with all but PEERS_SHOWN folded together."""
    stall_rows: tuple[StallRow, ...]
    bands: tuple[Band, ...]
    chart: OverTime | None
    problem: str = ""


def sentence_of(report: AdmissionReport | None, now: Sequence[SharedEndpoint]) -> tuple[str, str]:
    """Tone and the one sentence on top: what is hidden, what is late, who waits; in that order."""
    if report is not None and report.masking.masked:
        worst, more = report.masking.masked[0], len(report.masking.masked) - 1
        others = f" And {plural(more, 'more part')} below." if more else ""
        return "bad", f"All calls together keep their objective, and hide that {late_words(worst)}.{others}"
    if report is not None and report.masking.over:
        return "warn", f"{_capital(late_words(report.masking.over[0]))}."
    queued = sum(e.view.queued for e in now if e.whole) + sum(t.now.queued for e in now if not e.whole for t in e.tenants)
    running = sum(e.view.running for e in now if e.whole) + sum(t.now.running for e in now if not e.whole for t in e.tenants)
    if queued:
        longest = max((t.now.oldest_wait_ms for e in now for t in e.tenants), default=0.0)
        return (
            "ok",
            f"{plural(queued, 'call waits', 'calls wait')}, the longest for {milliseconds(longest)}; {running:,} run. {kept_words(report)}",
        )
    if report is None:
        return "unknown", "Cannot tell how calls fared: the stored calls cannot be read now."
    if not report.calls_in_range and not now:
        return "unknown", "Nothing has called in this range."
    slow = slowest(report)
    times = (
        f" Slowest: {slow.key.klass or 'no class'}, first tokens at {slow.slowdown.p99.value:.1f} times their time alone (p99)."
        if slow
        else ""
    )
    return "ok", f"Nobody waits. {kept_words(report)}{times}"


def kept_words(report: AdmissionReport | None) -> str:
    """What is known of objectives that nobody breaks."""
    states = {part.state for part in report.masking.parts if part.kind == "class"} if report is not None else set()
    if "kept" not in states:
        return "Too few calls to tell whether objectives are kept."
    return (
        "Every class keeps its first-token objective."
        if states == {"kept"}
        else "No class is known to break its first-token objective."
    )


def late_words(part: Kept) -> str:
    """``class interactive comes late: 12.4 % of 810 calls, where 5 % are allowed``."""
    return (
        f"{part.kind} {part.name} comes late: {percent(part.broken_share.value)} of {plural(part.calls, 'call')} "
        f"(at least {percent(part.broken_share.low)}) missed the first-token objective, {percent(part.allowed_share)} may"
    )


def culprit_of(matrix: Matrix) -> str:
    """Who cost another most, and how much of what it lost that was."""
    between = [c for c in matrix.cells if c.victim != c.aggressor and c.aggressor != UNEXPLAINED]
    if not between:
        return ""
    worst = between[0]
    lost = sum(c.stall_ms for c in matrix.cells if c.victim == worst.victim)
    n = matrix.victims.get(worst.victim, 0)
    how = "" if matrix.exact else ", estimated"
    return (
        f"{_capital(worst.victim or 'calls without a tenant')} lost {milliseconds(worst.stall_ms)} to {worst.aggressor or 'calls without a tenant'} over "
        f"{plural(n, 'call')}: {percent(worst.stall_ms / lost)} of all it lost{how}."
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


async def gathered(use: Deps, who: Who, chosen: Range, endpoint: str) -> AdmissionPage:
    """The page for one caller."""
    now, at = use.admission.now(who), use.clock()
    report, problem = None, ""
    try:
        report = await use.admission.report(at - chosen.length_ms, at + 1, chosen.bucket_ms, endpoint, who)
    except AWAY as away:
        problem = str(away)
    tone, sentence = sentence_of(report, now)
    matrix = report.stalls if report is not None else Matrix(by="tenant", exact=False, method="")
    matrix = folded(matrix, matrix.names()[:PEERS_SHOWN], NOT_YOURS if who.tenant else OTHERS)
    names = {e.view.endpoint for e in now} | {line.key.endpoint for line in (report.endpoints if report else ())} | {endpoint}
    return AdmissionPage(
        tone=tone,
        sentence=sentence,
        culprit=culprit_of(matrix),
        range=chosen,
        ranges=RANGES,
        endpoint=endpoint,
        endpoints=tuple(sorted(names - {""})),
        now=now[:ENDPOINTS_SHOWN],
        report=report,
        matrix=matrix,
        stall_rows=rows_of(matrix),
        bands=BANDS,
        chart=over_time(report) if report is not None else None,
        problem=problem,
    )


def rows_of(matrix: Matrix) -> tuple[StallRow, ...]:
    """Each victim that lost anything, with a cell for everybody in the matrix."""
    heads = [*matrix.names(), *([UNEXPLAINED] if any(c.aggressor == UNEXPLAINED for c in matrix.cells) else [])]
    known = {(c.victim, c.aggressor): c for c in matrix.cells}
    rows = []
    for victim in matrix.names():
        cells = tuple(StallCell(aggressor=head, cell=known.get((victim, head))) for head in heads)
        lost = sum(each.cell.stall_ms for each in cells if each.cell is not None)
        if lost:
            rows.append(StallRow(victim=victim, cells=cells, lost_ms=lost, calls=matrix.victims.get(victim, 0)))
    return tuple(rows)


@router.get("/admission")
async def admission(request: Request, who: Viewer, use: Use) -> Response:
    """The page, or its JSON."""
    chosen = range_named(request.query_params.get("range", RANGE_FIRST))
    page = await gathered(use, who, chosen, request.query_params.get("endpoint", ""))
    return show(request, who, "admission.html", "Admission", page)


@router.get("/admission/now")
async def admission_now(request: Request, who: Viewer, use: Use) -> Response:
    """The queues alone, for the page's live update: costs no question to the facts."""
    return HTMLResponse(fragment(request, "admission_now.html", endpoints=use.admission.now(who)[:ENDPOINTS_SHOWN]))
