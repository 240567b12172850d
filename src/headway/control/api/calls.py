"""``/api/v1/calls``: the list, one call, the live stream."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from headway.control.callbook import CallBook, CallList, OneCall, checked, wanted
from headway.control.deps import Use, Viewer
from headway.control.ports import CallFilter
from headway.control.schema import answer, says
from headway.control.sse import WatchResponse, as_json, still_allowed

router = APIRouter(prefix="/api/v1/calls", tags=["calls"])


@router.get("", **says(CallList))
async def list_calls(
    who: Viewer,
    use: Use,
    tenant: str = "",
    feature: str = "",
    state: str = "",
    model: str = "",
    origin: str = "client",
    key: str = "",
    before: str = "",
    limit: int = 100,
) -> Response:
    """Calls newest first, those in flight apart. `before` is the `next` of the previous page."""
    where = CallFilter(tenant=tenant, feature=feature, state=state, model=model, origin=origin, key=key)
    return answer(await CallBook(use.live, use.facts).page(where, who, before, limit))


@router.get("/stream", response_class=Response)
async def stream_calls(
    request: Request,
    who: Viewer,
    use: Use,
    tenant: str = "",
    feature: str = "",
    state: str = "",
    model: str = "",
    origin: str = "client",
) -> Response:
    """Server-sent events. `calls`: a JSON array of calls that began, ended or were lost. `refetch`: so many events were left out."""
    where = checked(CallFilter(tenant=tenant, feature=feature, state=state, model=model, origin=origin), who)
    return WatchResponse(use.live, wanted(where, who), as_json, still_allowed(request, use.authenticator))


@router.get("/{call}", **says(OneCall))
async def one_call(call: str, who: Viewer, use: Use) -> Response:
    """One call with attempts, segments, feedback and the calls that ran beside it."""
    return answer(await CallBook(use.live, use.facts).one(call, who))
