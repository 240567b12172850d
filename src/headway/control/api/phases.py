"""``/api/v1/phases``: the verdict on one call, and what changed since an instant."""

from datetime import UTC, datetime

from fastapi import APIRouter
from starlette.responses import Response

from headway.control.deps import Use, Viewer
from headway.control.errors import Refused
from headway.control.phases import Judged, Since
from headway.control.schema import answer, says

router = APIRouter(prefix="/api/v1/phases", tags=["phases"])


@router.get("/calls/{call}", **says(Judged))
async def judged(call: str, who: Viewer, use: Use) -> Response:
    """Where the time of one call went: its phases, the verdict with its evidence, the second cause, what evidence is missing."""
    found = await use.phases.judged(call, who)
    if found is None:
        raise Refused.missing(f"call {call}", "a call reaches the store some seconds after it ended")
    return answer(found)


@router.get("/since", **says(Since))
async def since(who: Viewer, use: Use, since: str) -> Response:
    """What changed since an instant (ISO 8601, or wall milliseconds): causes with their share of the added latency, the part of the mix apart."""
    return answer(await use.phases.since(instant_ms(since), who))


def instant_ms(text: str) -> int:
    """``Refused`` for what is neither."""
    if text.isdigit():
        return int(text)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise Refused.bad(f"{text!r} is no instant", "since=2026-11-24T14:00:00Z, or milliseconds") from None
    return int((at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp() * 1000)
