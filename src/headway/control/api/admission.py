"""``/api/v1/admission``: queues now, the evidence of a range."""

from fastapi import APIRouter
from starlette.responses import Response

from headway.calls.admission.report import AdmissionReport
from headway.control.admission_now import AdmissionNow
from headway.control.deps import Use, Viewer
from headway.control.pages.ranges import range_named
from headway.control.schema import answer, says

router = APIRouter(prefix="/api/v1/admission", tags=["admission"])


@router.get("", **says(AdmissionReport))
async def evidence(who: Viewer, use: Use, range: str = "1h", endpoint: str = "") -> Response:
    """Slowdown, queue wait, first token and token gap by class, tenant, endpoint and prompt band; stalls; objectives. `range` is 15m, 1h, 24h or 7d."""
    chosen, at = range_named(range), use.clock()
    return answer(await use.admission.report(at - chosen.length_ms, at + 1, chosen.bucket_ms, endpoint, who))


@router.get("/now", **says(AdmissionNow))
async def now(who: Viewer, use: Use) -> Response:
    """Who waits and runs at each shared endpoint."""
    return answer(AdmissionNow(endpoints=use.admission.now(who)))
