"""The ASGI application of control: API, health, board, static files, behind the gatekeeper."""

from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount

from headway import __version__
from headway.calls.admission.report import AdmissionReport
from headway.control.access import Needs
from headway.control.admission_now import AdmissionNow
from headway.control.api import admission, calls, estate, health, key_budgets, keys, people, phases, probes, traces
from headway.control.auth import SignedIn
from headway.control.callbook import CallList, OneCall
from headway.control.deps import Deps
from headway.control.errors import Refused, error_response, wants_json
from headway.control.live import LiveCall
from headway.control.pages import admission as admission_page
from headway.control.pages import call as call_page
from headway.control.pages import calls as calls_page
from headway.control.pages import home, login, settings, slow, time, time_trace
from headway.control.pages.render import error_page
from headway.control.phases import Judged, Since
from headway.control.ports import AWAY, Generation
from headway.control.probes import ProbesView
from headway.control.schema import document
from headway.control.security import Gatekeeper
from headway.control.statics import Statics
from headway.control.traces import Taken, TraceStats
from headway.kernel.limits import CONTROL_BODY_BYTES_MAX
from headway.ledger.model import Principal

STATIC_PATH = "/static"
_KINDS: tuple[type[Any], ...] = (
    SignedIn,
    CallList,
    OneCall,
    LiveCall,
    Generation,
    AdmissionReport,
    AdmissionNow,
    keys.KeyWanted,
    people.NewUser,
    people.NewPassword,
    Principal,
    keys.KeyList,
    keys.KeyCreated,
    keys.KeyRevoked,
    key_budgets.KeyBudgetsWanted,
    people.PrincipalList,
    people.PrincipalChanged,
    people.AuditList,
    people.LoginLink,
    estate.TenantList,
    estate.BudgetList,
    estate.GatewayList,
    estate.PriceList,
    ProbesView,
    probes.RoundWanted,
    probes.RoundsStarted,
    health.Live,
    health.Ready,
    Taken,
    TraceStats,
    Judged,
    Since,
)


class ControlApp(FastAPI):
    """FastAPI whose OpenAPI document takes its schemas from our structs."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            self.openapi_schema = document(self, _KINDS)
        return self.openapi_schema


def build(deps: Deps) -> ControlApp:
    """The application over its ports. Nothing is started here."""
    app = ControlApp(
        title="Headway",
        version=__version__,
        description="The control plane: calls, keys, budgets, configuration. Data-plane calls go to the gateway.",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        max_body_size=CONTROL_BODY_BYTES_MAX,
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.deps = deps
    app.state.statics = Statics(files("headway.control") / "static")
    for router in (
        calls.router,
        admission.router,
        keys.router,
        key_budgets.router,
        people.router,
        estate.router,
        health.router,
        traces.router,
        phases.router,
        probes.router,
    ):
        app.include_router(router)
    for page in (
        home.router,
        calls_page.router,
        call_page.router,
        admission_page.router,
        slow.router,
        time.router,
        time_trace.router,
        settings.router,
        login.router,
    ):
        app.include_router(page, include_in_schema=False)
    app.mount(STATIC_PATH, app.state.statics, name="static")
    app.add_middleware(Gatekeeper, hosts=deps.hosts)
    app.add_exception_handler(Refused, _refused)
    for kind in AWAY:
        app.add_exception_handler(kind, _away)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _internal)
    return app


def demands(app: FastAPI) -> dict[str, Needs | None]:
    """Each route with what it demands; None for one that declares nothing, which the tests do not let pass."""
    found: dict[str, Needs | None] = {}
    for route in iter_route_contexts(app.routes):
        original = route.original_route
        if isinstance(original, APIRoute):
            calls = [d.call for d in original.dependant.dependencies]
            found[f"{','.join(sorted(route.methods or ()))} {route.path}"] = next((c for c in calls if isinstance(c, Needs)), None)
        elif not (isinstance(original, Mount) and original.path == STATIC_PATH):
            found[f"{route.path}"] = None
    return found


def _answer(request: Request, refused: Refused) -> Response:
    if wants_json(request):
        return error_response(refused)
    if refused.status == 401 and request.method == "GET" and not request.headers.get("hx-request"):
        return RedirectResponse(login.address_for(request), 303)
    return error_page(request, refused)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return _answer(request, error)


async def _away(request: Request, error: Exception) -> Response:
    return _answer(
        request, Refused("unavailable", str(error), status=503, fix="calls go on without it; try again", retry_after_s=2)
    )


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "query")
    return _answer(request, Refused.bad(f"{where}: {first['msg']}", "see /api/v1/openapi.json"))


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    words = {404: f"there is nothing at {request.url.path}", 405: f"{request.method} is not possible at {request.url.path}"}
    message = words.get(error.status_code, error.detail)
    codes = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}
    fix = "the API is described at /api/v1/openapi.json" if wants_json(request) else "start again from the Home page"
    return _answer(request, Refused(codes.get(error.status_code, "bad_request"), message, status=error.status_code, fix=fix))


async def _internal(request: Request, _error: Exception) -> Response:
    return _answer(
        request, Refused("internal", "control failed to answer this", status=500, fix="the reason stands in control.log")
    )
