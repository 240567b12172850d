"""Where the time goes: by request type, what each hop owns of the median and the p99, what would change, and one trace."""

import asyncio
from typing import Final

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from headway.calls.hops.whatif import WhatIf
from headway.control.access import Who
from headway.control.deps import Deps, Use, Viewer
from headway.control.errors import Refused, wants_json
from headway.control.pages.ranges import RANGES, Range, range_named
from headway.control.pages.render import show
from headway.control.pages.time_book import TYPES
from headway.control.pages.time_charts import Part, parts_of, top_ms
from headway.control.pages.time_report import HIT, MISS, UNKNOWN, Labels, TimeReport, TypeReport, Wanted
from headway.control.ports import AWAY
from headway.control.words import milliseconds, percent

router = APIRouter()
RANGE_FIRST = "24h"
PATIENCE_S = 2.0
"""So long a page waits for figures; then it is sent without them, and asks for itself again."""
SHARE_WORTH_NAMING = 0.2
WHATS: Final = {
    "half": "takes half its time",
    "cached": "is cached",
    "parallel": "begins with the call before it",
    "gone": "is gone",
    "model": "model = 0 ms",
}


class TimePage(msgspec.Struct, frozen=True, kw_only=True):
    """``report`` is None while the facts are away; ``one`` where no type is chosen or none has traces."""

    tone: str
    sentence: str
    range: Range
    ranges: tuple[Range, ...]
    types: str
    wanted: Wanted
    report: TimeReport | None
    one: TypeReport | None
    parts: tuple[Part, ...]
    top_ms: float
    hop: str
    """Of the question that is asked besides."""
    kind: str
    whats: dict[str, str]
    export: str
    """Where spans are sent to, for a page without any."""
    pending: bool = False
    """It is still being worked out: the page asks again."""
    problem: str = ""


def sentence_of(report: TimeReport | None, one: TypeReport | None) -> tuple[str, str]:
    """Tone and the one sentence on top: who owns the p99 of the type that is shown, and whether a faster model would help."""
    if report is None:
        return "unknown", "Cannot tell where the time goes: the stored spans cannot be read now."
    if one is None:
        return "unknown", "No trace began in this range." if not report.types else "No trace is of this type."
    if not one.tail.hops:
        return "unknown", f"Too few traces to tell who owns the p99 of {one.request_type}: {one.tail.total.method}."
    first = one.tail.hops[0]
    words = (
        f"{first.hop} owns {percent(first.share.value)} of the p99 of {one.request_type}: "
        f"{milliseconds(first.at.value)} of {milliseconds(one.tail.total.value)}."
    )
    return "info", words + model_words(one)


def model_words(one: TypeReport) -> str:
    """What the p99 would be without the model; empty where no span is one of a model's calls."""
    if one.summary.model_gone is None:
        return ""
    after, whole = one.summary.model_gone.after[-1].value or 0.0, one.tail.total.value or 0.0
    if whole <= 0:
        return ""
    if after / whole > 1 - SHARE_WORTH_NAMING:
        return f" With a model that took 0 ms it would still be {milliseconds(after)}."
    return f" With a model that took 0 ms it would be {milliseconds(after)}."


def labels_of(request: Request) -> Labels:
    """``Refused`` for a cache state that does not exist."""
    asked = request.query_params
    cache = asked.get("cache", "")
    if cache and cache not in (HIT, MISS, UNKNOWN):
        raise Refused.bad(f"there is no cache state {cache!r}", f"one of: {HIT}, {MISS}, {UNKNOWN}")
    return Labels(tenant=asked.get("tenant", ""), cache=cache, band=asked.get("band", ""))


def what_of(request: Request) -> tuple[WhatIf | None, str, str]:
    """The question in the address, with its hop and its kind. ``Refused`` for a kind that does not exist."""
    hop, kind = request.query_params.get("hop", ""), request.query_params.get("what", "")
    if kind and kind not in WHATS:
        raise Refused.bad(f"there is no what-if {kind!r}", f"one of: {', '.join(WHATS)}")
    if kind == "model":
        return WhatIf(kind="model"), hop, kind
    if not hop or not kind:
        return None, hop, kind
    if kind == "half":
        return WhatIf(kind="scale", hop=hop, factor=0.5), hop, kind
    return WhatIf(kind=kind, hop=hop), hop, kind  # type: ignore[arg-type] # one of WHATS


async def gathered(use: Deps, who: Who, request: Request) -> TimePage:
    """The page for one caller."""
    chosen = range_named(request.query_params.get("range", RANGE_FIRST))
    types = request.query_params.get("types", "root")
    if types not in TYPES:
        raise Refused.bad(f"requests cannot be told apart by {types!r}", f"one of: {', '.join(TYPES)}")
    what, hop, kind = what_of(request)
    wanted = Wanted(request_type=request.query_params.get("type", ""), labels=labels_of(request), what=what)
    report, one, pending, problem = None, None, False, ""
    try:
        async with asyncio.timeout(None if wants_json(request) else PATIENCE_S):
            report = await use.time.overview(chosen, wanted, who.tenant, types)
            if not wanted.request_type and report.types:
                wanted = msgspec.structs.replace(wanted, request_type=report.types[0].request_type)
            if wanted.request_type and report.types:
                one = await use.time.one_type(chosen, wanted, who.tenant, types)
    except TimeoutError:
        pending = True
    except AWAY as away:
        problem = str(away)
    tone, sentence = ("unknown", "Working out where the time goes.") if pending else sentence_of(report, one)
    return TimePage(
        tone=tone,
        sentence=sentence,
        range=chosen,
        ranges=RANGES,
        types=types,
        wanted=wanted,
        report=report,
        one=one,
        parts=parts_of(one) if one is not None else (),
        top_ms=top_ms(one) if one is not None else 0.0,
        hop=hop,
        kind=kind,
        whats=dict(WHATS),
        export=str(request.base_url).rstrip("/") + "/v1/traces",
        pending=pending,
        problem=problem,
    )


@router.get("/time")
async def time(request: Request, who: Viewer, use: Use) -> Response:
    """The page, or its JSON."""
    return show(request, who, "time.html", "Where the time goes", await gathered(use, who, request))
