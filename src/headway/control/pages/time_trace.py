"""One trace: a waterfall of its spans beside a table, the path that the caller waited for, and what was mended."""

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from headway.calls.hops.critical_path import stretches
from headway.calls.hops.model import HopSpan, HopTrace, Repair
from headway.calls.hops.tree import children_of
from headway.control.access import Who
from headway.control.deps import Deps, Use, Viewer
from headway.control.errors import Refused
from headway.control.pages.render import show
from headway.control.ports import AWAY
from headway.control.schema import answer
from headway.control.words import milliseconds, percent, plural
from headway.kernel.limits import TRACE_ID_CHARS_MAX

router = APIRouter()
SPANS_DRAWN_MAX = 20_000
"""Of a larger trace the longest, with all above them; the page says how many are left out."""
PATH_SHOWN, HOPS_SHOWN = 40, 12
AT_MS_MAX = 2**43
"""Past the year 2200."""
ERROR, NOT_AWAITED, MODEL = 1, 2, 4
_US_PER_MS = 1_000


class HopLine(msgspec.Struct, frozen=True, kw_only=True):
    """One hop of the trace: what it owns of the path, in how many spans."""

    hop: str
    path_ms: float
    share: float
    spans: int
    is_model: bool


class PathLine(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of the path, in order."""

    hop: str
    name: str
    start_ms: float
    length_ms: float


class TracePage(msgspec.Struct, frozen=True, kw_only=True):
    """``hops`` sum to ``duration_ms``; ``path`` are its longest stretches in order of time."""

    trace: str
    request_type: str
    tone: str
    sentence: str
    start_wall_ms: int
    duration_ms: float
    spans: int
    errors: int
    tenant: str
    hops: tuple[HopLine, ...]
    hops_left_out: int
    path: tuple[PathLine, ...]
    stretches: int
    repairs: tuple[Repair, ...]
    spans_address: str
    """Where ``Columns`` are."""


class Columns(msgspec.Struct, frozen=True, kw_only=True):
    """What the waterfall is drawn from. Rows are in the order of the tree, a parent before its children; times are microseconds from the
    root's start. ``path`` holds (row, start, length) one after another."""

    total_us: int
    left_out: int
    hops: tuple[str, ...]
    names: tuple[str, ...]
    parent: list[int]
    start: list[int]
    took: list[int]
    hop: list[int]
    name: list[int]
    flags: list[int]
    path: list[int]


def page_of(trace: HopTrace, at: int = 0) -> TracePage:
    """The trace in words."""
    spans, whole = trace.spans, trace.duration_us
    parts = sorted(stretches(spans), key=lambda part: part[1])
    owned: dict[str, int] = {}
    for place, start, end in parts:
        owned[spans[place].hop] = owned.get(spans[place].hop, 0) + end - start
    counts: dict[str, int] = {}
    for span in spans:
        counts[span.hop] = counts.get(span.hop, 0) + 1
    models = {span.hop for span in spans if span.is_model}
    ordered = sorted(counts, key=lambda hop: (-owned.get(hop, 0), hop))
    lines = [
        HopLine(
            hop=hop,
            path_ms=owned.get(hop, 0) / _US_PER_MS,
            share=owned.get(hop, 0) / whole if whole else 0.0,
            spans=counts[hop],
            is_model=hop in models,
        )
        for hop in ordered
    ]
    longest = sorted(sorted(parts, key=lambda part: part[1] - part[2])[:PATH_SHOWN], key=lambda part: part[1])
    errors = sum(span.error for span in spans)
    return TracePage(
        trace=trace.trace,
        request_type=trace.request_type,
        tone="warn" if errors else "info",
        sentence=_sentence(trace, lines, errors),
        start_wall_ms=spans[0].start_us // _US_PER_MS,
        duration_ms=whole / _US_PER_MS,
        spans=len(spans),
        errors=errors,
        tenant=trace.tenant,
        hops=tuple(lines[:HOPS_SHOWN]),
        hops_left_out=max(0, len(lines) - HOPS_SHOWN),
        path=tuple(_path_line(spans, part) for part in longest),
        stretches=len(parts),
        repairs=trace.repairs,
        spans_address=f"/time/traces/{trace.trace}/spans" + (f"?at={at}" if at else ""),
    )


def _sentence(trace: HopTrace, lines: list[HopLine], errors: int) -> str:
    took = f"{trace.request_type} took {milliseconds(trace.duration_us / _US_PER_MS)}"
    first = f", {percent(lines[0].share)} of it in {lines[0].hop}" if lines and lines[0].path_ms else ""
    failed = f"; {plural(errors, 'span')} ended in an error" if errors else ""
    return f"{took}{first}{failed}."


def _path_line(spans: tuple[HopSpan, ...], part: tuple[int, int, int]) -> PathLine:
    place, start, end = part
    return PathLine(
        hop=spans[place].hop,
        name=spans[place].name,
        start_ms=(start - spans[0].start_us) / _US_PER_MS,
        length_ms=(end - start) / _US_PER_MS,
    )


def columns_of(trace: HopTrace, most: int = SPANS_DRAWN_MAX) -> Columns:
    """At most ``most`` spans and those above them."""
    spans, children = trace.spans, children_of(trace.spans)
    kept = _kept(spans, children, most)
    order, parents = _in_tree_order(children, kept)
    rows = {place: row for row, place in enumerate(order)}
    hops: dict[str, int] = {}
    names: dict[str, int] = {}
    found = Columns(
        total_us=max(1, max(span.end_us for span in spans) - spans[0].start_us),
        left_out=len(spans) - len(order),
        hops=(),
        names=(),
        parent=parents,
        start=[spans[place].start_us - spans[0].start_us for place in order],
        took=[spans[place].duration_us for place in order],
        hop=[hops.setdefault(spans[place].hop, len(hops)) for place in order],
        name=[names.setdefault(spans[place].name, len(names)) for place in order],
        flags=[
            ERROR * spans[place].error + NOT_AWAITED * (not spans[place].awaited) + MODEL * spans[place].is_model for place in order
        ],
        path=[],
    )
    for place, start, end in sorted(stretches(spans, children), key=lambda part: part[1]):
        if place in rows:
            found.path.extend((rows[place], start - spans[0].start_us, end - start))
    return msgspec.structs.replace(found, hops=tuple(hops), names=tuple(names))


def _kept(spans: tuple[HopSpan, ...], children: list[list[int]], most: int) -> set[int] | None:
    """Places of the longest spans with all above them; None for all."""
    if len(spans) <= most:
        return None
    above = [0] * len(spans)
    for place, kids in enumerate(children):
        for kid in kids:
            above[kid] = place
    kept = {0}
    for place in sorted(range(len(spans)), key=lambda at: -spans[at].duration_us)[:most]:
        at = place
        while at not in kept:
            kept.add(at)
            at = above[at]
    return kept


def _in_tree_order(children: list[list[int]], kept: set[int] | None) -> tuple[list[int], list[int]]:
    """Places, a parent before its children, and for each the row of its parent (-1 for the root)."""
    order: list[int] = []
    parents: list[int] = []
    waiting = [(0, -1)]
    while waiting:
        place, above = waiting.pop()
        row = len(order)
        order.append(place)
        parents.append(above)
        waiting += [(kid, row) for kid in reversed(children[place]) if kept is None or kid in kept]
    return order, parents


async def trace_named(use: Deps, who: Who, trace: str, at: int) -> HopTrace:
    """``Refused`` 404 for one that is not known, or of which nothing is the caller's tenant's."""
    name = trace.lower()
    if len(name) > TRACE_ID_CHARS_MAX or not name.isalnum() or not 0 <= at < AT_MS_MAX:
        raise Refused.missing("such a trace", "ids are 32 hexadecimal digits")
    try:
        found = await use.time.trace(name, at, who.tenant)
    except AWAY as away:
        raise Refused.away("the stored spans", str(away)) from away
    if found is None:
        raise Refused.missing(
            f"trace {name}", "a trace is known some seconds after its spans were sent; it goes with the other facts"
        )
    return found


@router.get("/time/traces/{trace}")
async def one_trace(request: Request, trace: str, who: Viewer, use: Use, at: int = 0) -> Response:
    """The page, or its JSON. ``at`` says when it began: with it it is found sooner."""
    page = page_of(await trace_named(use, who, trace, at), at)
    return show(request, who, "time_trace.html", "Trace", page)


@router.get("/time/traces/{trace}/spans")
async def spans(trace: str, who: Viewer, use: Use, at: int = 0) -> Response:
    """What the waterfall draws, as columns."""
    return answer(columns_of(await trace_named(use, who, trace, at)))
