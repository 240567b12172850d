"""``/health/live``, ``/health/ready``, ``/metrics`` and the OpenAPI document."""

import msgspec
from fastapi import APIRouter, Depends, Request
from starlette.responses import PlainTextResponse, Response

from headway.control.access import ANYBODY
from headway.control.deps import Deps, Use, ViewerEverywhere
from headway.control.errors import JSON, Refused
from headway.control.exposition import merged
from headway.control.listener import is_loopback
from headway.control.ports import AWAY
from headway.control.schema import answer, says
from headway.kernel.openmetrics import page_for

router = APIRouter(tags=["health"])


class Live(msgspec.Struct, frozen=True, kw_only=True):
    status: str = "live"


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """``status`` is ready or degraded. Degraded is still 200 while control can answer: ``detail`` says what it cannot do.

    A stranger from another machine is told that, not what: the sentences name hosts and files."""

    status: str
    generation: int
    detail: tuple[str, ...] = ()


@router.get("/health/live", dependencies=[Depends(ANYBODY)], **says(Live))
async def live() -> Response:
    """The process answers. Open to anybody: says nothing else."""
    return answer(Live())


@router.get("/health/ready", dependencies=[Depends(ANYBODY)], **says(Ready))
async def ready(request: Request, use: Use) -> Response:
    """Whether all is well. Open to anybody, for probes; the detail is for callers on this machine and those who are signed in."""
    found = use.configuration.generation()
    detail = list(use.health.degraded())
    if found.problem:
        detail.append(f"headway.toml has a problem, generation {found.number} stays in force")
    for gateway in use.gateways.gateways():
        if not gateway.connected:
            detail.append(f"gateway {gateway.name} is not connected")
        detail.extend(f"gateway {gateway.name}: {what}" for what in gateway.degraded)
    status = "degraded" if detail else "ready"
    shown = tuple(detail) if not detail or await _may_know(request, use) else ("sign in to see what",)
    return answer(Ready(status=status, generation=found.number, detail=shown))


async def _may_know(request: Request, use: Deps) -> bool:
    if request.client is not None and is_loopback(request.client.host):
        return True
    try:
        return await use.authenticator.identify(request) is not None
    except (Refused, *AWAY):
        return False


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request, _who: ViewerEverywhere, use: Use) -> Response:
    """Prometheus text: control's own figures, and each gateway's with a `gateway` label. OpenMetrics with exemplars for who accepts it."""
    texts = {g.name: g.metrics for g in use.gateways.gateways() if g.connected}
    page, kind = page_for(request.headers.get("accept", ""), merged(use.health.metrics(), texts))
    return Response(page, media_type=kind)


@router.get("/api/v1/openapi.json", dependencies=[Depends(ANYBODY)], response_class=Response)
async def openapi(request: Request) -> Response:
    """This document. Open to anybody: it is the same everywhere."""
    return Response(msgspec.json.encode(request.app.openapi()), media_type=JSON)
