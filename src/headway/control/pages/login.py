"""``/login`` and ``/logout``: a form, a one-time link, and the way out."""

from urllib.parse import parse_qs, quote

import msgspec
from fastapi import APIRouter, Depends, Request
from starlette.responses import RedirectResponse, Response

from headway.control.access import ANYBODY
from headway.control.deps import Use
from headway.control.errors import Refused
from headway.control.pages.render import show

router = APIRouter()
_FORM = "application/x-www-form-urlencoded"


class LoginPage(msgspec.Struct, frozen=True, kw_only=True):
    """``next`` is the page to go to after signing in, on this origin always."""

    next: str
    problem: str = ""
    fix: str = ""
    name: str = ""
    done: bool = False
    """Signed in: the page moves on to ``next`` by itself. A redirect would not do: its request counts as sent by the page that held
    the link, and the strict cookie would stay behind."""


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a posted form, the last of each name. ``Refused`` for any other body."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise Refused("bad_request", "this takes a form", status=415, fix=f"send `content-type: {_FORM}`")
    try:
        fields = parse_qs((await request.body()).decode(), keep_blank_values=True, max_num_fields=32)
    except ValueError as error:
        raise Refused.bad("the form cannot be read", "load the page again") from error
    return {name: values[-1] for name, values in fields.items()}


def safe_next(address: str) -> str:
    """``address`` when it is a path on this origin, else Home."""
    if address.startswith("/") and not address.startswith(("//", "/\\", "/login", "/logout")) and address.isprintable():
        return address
    return "/"


def address_for(request: Request) -> str:
    """The login page that leads back to what was asked for."""
    asked = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return "/login" + (f"?next={quote(asked, safe='')}" if safe_next(asked) != "/" else "")


@router.get("/login", dependencies=[Depends(ANYBODY)])
async def login_form(request: Request, use: Use, token: str = "", next: str = "/") -> Response:
    """The form; with a token, the one-time sign-in. Open to anybody: it is the door."""
    if not token:
        return show(request, None, "login.html", "Sign in", LoginPage(next=safe_next(next)))
    # The cookie is set on a page of its own, which then moves on: see LoginPage.done.
    landing = Response()
    try:
        who = await use.authenticator.redeem(token, landing, secure=_secure(request))
    except Refused as refused:
        page = LoginPage(next=safe_next(next), problem=refused.message, fix=refused.fix)
        return show(request, None, "login.html", "Sign in", page, status=refused.status)
    response = show(request, None, "login.html", "Signed in", LoginPage(next=safe_next(next), name=who.name, done=True))
    response.headers["set-cookie"] = landing.headers["set-cookie"]
    return response


@router.post("/login", dependencies=[Depends(ANYBODY)])
async def login(request: Request, use: Use) -> Response:
    """Sign in by name and password. Open to anybody, throttled."""
    form = await form_of(request)
    name, next_address = form.get("name", ""), safe_next(form.get("next", "/"))
    address = request.client.host if request.client else ""
    moved = RedirectResponse(next_address, 303)
    try:
        await use.authenticator.sign_in(name, form.get("password", ""), address, moved, secure=_secure(request))
    except Refused as refused:
        page = LoginPage(next=next_address, problem=refused.message, fix=refused.fix, name=name)
        response = show(request, None, "login.html", "Sign in", page, status=refused.status)
        if refused.retry_after_s is not None:
            response.headers["retry-after"] = str(refused.retry_after_s)
        return response
    return moved


@router.post("/logout", dependencies=[Depends(ANYBODY)])
async def logout(request: Request, use: Use) -> Response:
    """End the session. Open to anybody: who has no session loses nothing."""
    response = RedirectResponse("/login", 303)
    await use.authenticator.end_session(request, response)
    return response


def _secure(request: Request) -> bool:
    return request.url.scheme == "https"
