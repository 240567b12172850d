"""``/api/v1/probes``: routes, when each is probed next, what came of it; a round now."""

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from headway.control.deps import OperatorEverywhere, Use, ViewerEverywhere
from headway.control.probes import ProbesView
from headway.control.schema import answer, says, taken

router = APIRouter(prefix="/api/v1/probes", tags=["probes"])


class RoundWanted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``route`` is provider/model; empty means all that are on the schedule."""

    route: str = ""


class RoundsStarted(msgspec.Struct, frozen=True, kw_only=True):
    """Routes of which a round is under way; the view tells when it is over and what came of it."""

    routes: tuple[str, ...]


@router.get("", **says(ProbesView))
async def probes(_who: ViewerEverywhere, use: Use) -> Response:
    """Every route that could be probed, its next round, its last results, and the money of the day."""
    return answer(use.probes.view())


@router.post("/rounds", **says(RoundsStarted, takes=RoundWanted, status=202))
async def start(request: Request, _who: OperatorEverywhere, use: Use) -> Response:
    """A round now: four calls, short and long, cold and warm. The cap of the day holds for it too."""
    wanted = await taken(request, RoundWanted)
    return answer(RoundsStarted(routes=tuple(await use.probes.start(wanted.route))), 202)
