"""Calls: the live table, filtered by what stands in the address."""

from collections.abc import Iterable, Sequence

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from headway.calls.model import Origin
from headway.control.callbook import ANY, STATES, CallBook, CallList, checked, wanted
from headway.control.deps import Deps, Use, Viewer
from headway.control.live import LiveCall
from headway.control.pages.home import callable_features, first_call_line
from headway.control.pages.render import fragment, show
from headway.control.ports import CallFilter
from headway.control.sse import WatchResponse, still_allowed

router = APIRouter()
ROWS = 60
_FIELDS = ("tenant", "feature", "state", "model", "origin", "key")


class CallsPage(msgspec.Struct, frozen=True, kw_only=True):
    """``choices`` fill the filter form; ``first_call`` is the line to run while nothing is shown and nothing is filtered."""

    where: CallFilter
    calls: CallList
    choices: dict[str, tuple[str, ...]]
    live: bool
    """The newest page follows what happens; older ones stand still."""
    filtered: bool
    first_call: str


def filter_of(request: Request) -> CallFilter:
    """The filter in the address."""
    given = {name: value for name in _FIELDS if (value := request.query_params.get(name, "").strip())}
    return CallFilter(**given)


def choices(use: Deps, tenant: str) -> dict[str, tuple[str, ...]]:
    """What the filter form offers: names of the configuration in force."""
    found = use.configuration.generation()
    return {
        "tenant": tuple(t.name for t in found.tenants if tenant in ("", t.name)),
        "feature": callable_features(found, tenant),
        "state": STATES,
        "origin": (*Origin, ANY),
    }


@router.get("/calls")
async def calls(request: Request, who: Viewer, use: Use) -> Response:
    """The page, or its JSON."""
    where, before = checked(filter_of(request), who), request.query_params.get("before", "")
    listed = await CallBook(use.live, use.facts).page(where, who, before, ROWS)
    filtered = where != CallFilter(tenant=who.tenant)
    empty = not listed.calls and not listed.in_flight and not filtered and not before
    page = CallsPage(
        where=where,
        calls=listed,
        choices=choices(use, who.tenant),
        live=not before,
        filtered=filtered,
        first_call=first_call_line(use, who.tenant) if empty else "",
    )
    return show(request, who, "calls.html", "Calls", page)


@router.get("/calls/stream")
async def stream(request: Request, who: Viewer, use: Use) -> Response:
    """Rows as they come and go, for the page's live update. A call that no longer matches is told too, so that its row leaves."""
    where = checked(filter_of(request), who)
    matches = wanted(where, who)

    def rows(found: Sequence[LiveCall]) -> Iterable[tuple[str, str]]:
        latest = {call.call: call for call in found}  # a call that began and ended within one push is shown once, as it ended
        for name in ("opened", "ended"):
            of_kind = [
                (call, matches(call)) for call in reversed(latest.values()) if (call.state == "in_flight") == (name == "opened")
            ]
            if html := fragment(request, "calls_push.html", calls=of_kind).strip():
                yield name, html

    in_any_state = wanted(msgspec.structs.replace(where, state=""), who)
    return WatchResponse(use.live, in_any_state, rows, still_allowed(request, use.authenticator))
