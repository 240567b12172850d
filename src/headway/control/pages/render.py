"""A page struct as HTML through its template, or as JSON at the same address."""

from collections.abc import Sequence
from functools import cache
from typing import Any
from urllib.parse import urlencode

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from headway import __version__
from headway.control import charts, charts_admission, words
from headway.control.access import Who
from headway.control.deps import deps_of
from headway.control.errors import JSON, Refused, wants_json
from headway.control.pages import slow_charts, slow_words, time_charts
from headway.control.pages.attention import amount_text
from headway.control.ports import Bucket
from headway.ledger.model import Role


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """What stands around every page."""

    title: str
    place: str
    """The entry of the navigation that is current; empty for none."""
    who: Who | None
    now_wall_ms: int
    generation: int = 0
    problem: bool = False
    """The file on disk is not in force."""


@cache
def environment() -> Environment:
    """Templates with autoescape always on; an unknown name is an error, not an empty string."""
    env = Environment(
        loader=PackageLoader("headway.control"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    for name in (
        "count",
        "short_count",
        "milliseconds",
        "usd",
        "usd_short",
        "percent",
        "interval",
        "short_id",
        "instant",
        "iso",
        "seconds_span",
    ):
        env.filters[name] = getattr(words, name)
    env.filters["series_json"] = _series_json
    env.globals.update(
        amount=amount_text,
        ago=words.ago,
        plural=words.plural,
        state_words=words.state_words,
        charts=charts,
        admission_charts=charts_admission,
        time_charts=time_charts,
        slow_charts=slow_charts,
        slow_words=slow_words,
        version=__version__,
        Role=Role,
    )
    return env


def _series_json(buckets: Sequence[Bucket]) -> Markup:
    """Columns for uPlot: seconds, p50, p99. Numbers and nulls only, so nothing can end the script element."""
    columns = (
        [b.start_wall_ms // 1000 for b in buckets],
        [b.first_token_p50_ms for b in buckets],
        [b.first_token_p99_ms for b in buckets],
    )
    return Markup(msgspec.json.encode(columns).decode())  # noqa: S704


def query(request: Request, **changes: str) -> str:
    """The request's address with changes in its query, empty values left out: how filters stay in the address."""
    params = {**request.query_params, **changes}
    kept = {name: value for name, value in params.items() if value and name != "_format"}
    return request.url.path + ("?" + urlencode(kept) if kept else "")


def fragment(request: Request, template: str, **context: Any) -> str:
    """A part of a page as HTML."""
    return environment().get_template(template).render(**_around(request), **context)


def show(request: Request, who: Who | None, template: str, title: str, page: Any, *, status: int = 200) -> Response:
    """``page`` as the template shows it, or as JSON when the caller asks for ``?_format=json``."""
    if wants_json(request):
        return Response(msgspec.json.encode(page), status, media_type=JSON)
    deps = deps_of(request)
    found = deps.configuration.generation()
    frame = Frame(
        title=title,
        place=template.partition(".")[0],
        who=who,
        now_wall_ms=deps.clock(),
        generation=found.number,
        problem=bool(found.problem) and who is not None,
    )
    html = environment().get_template(template).render(**_around(request), frame=frame, page=page)
    return HTMLResponse(html, status)


def error_page(request: Request, refused: Refused) -> Response:
    """A refusal as a plain page: what, why, what to do."""
    response = show(request, None, "error.html", "Not possible", refused, status=refused.status)
    if refused.retry_after_s is not None:
        response.headers["retry-after"] = str(refused.retry_after_s)
    return response


def _around(request: Request) -> dict[str, Any]:
    return {
        "asset": request.app.state.statics.address,
        "with_query": lambda **changes: query(request, **changes),
        "json_address": _json_address(request),
        "now": deps_of(request).clock(),
    }


def _json_address(request: Request) -> str:
    kept = {name: value for name, value in request.query_params.items() if value and name != "token"}
    return request.url.path + "?" + urlencode({**kept, "_format": "json"})
