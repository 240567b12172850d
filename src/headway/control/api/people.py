"""``/api/v1/principals``, ``/users``, ``/audit`` and ``/me``."""

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from headway.control.access import Who
from headway.control.auth import SignedIn
from headway.control.deps import Deps, OperatorEverywhere, OwnerEverywhere, Use, Viewer
from headway.control.errors import Refused
from headway.control.ports import NewUser
from headway.control.schema import answer, says, taken
from headway.kernel.limits import HEADER_VALUE_CHARS_MAX, LOGIN_LINK_TTL_S, PAGE_ROWS_MAX, PASSWORD_CHARS_MIN
from headway.ledger.model import AuditEntry, Principal

router = APIRouter(prefix="/api/v1", tags=["people"])


class PrincipalList(msgspec.Struct, frozen=True, kw_only=True):
    principals: tuple[Principal, ...]


class PrincipalDisabled(msgspec.Struct, frozen=True, kw_only=True):
    id: str


class AuditList(msgspec.Struct, frozen=True, kw_only=True):
    """Newest first. ``next`` is the cursor for older ones, empty at the end."""

    entries: tuple[AuditEntry, ...]
    next: str = ""


class LoginLink(msgspec.Struct, frozen=True, kw_only=True):
    """``path`` opens one session within ``ttl_s``."""

    path: str
    ttl_s: int


async def add(use: Deps, who: Who, new: NewUser) -> Principal:
    """Add a user. ``Refused`` for an unusable or taken name, an unknown tenant, or a short password."""
    if not new.name.strip() or len(new.name) > HEADER_VALUE_CHARS_MAX or not new.name.isprintable():
        raise Refused.bad("the name is empty, too long or does not print", f"1 to {HEADER_VALUE_CHARS_MAX} characters")
    known = {tenant.name for tenant in use.configuration.generation().tenants}
    if new.tenant and new.tenant not in known:
        raise Refused.bad(f"there is no tenant {new.tenant!r}", f"leave it empty for all, or take one of {sorted(known)}")
    if len(new.password) < PASSWORD_CHARS_MIN:
        raise Refused.bad("the password is too short", f"at least {PASSWORD_CHARS_MIN} characters")
    if any(p.name == new.name for p in await use.ledger.principals()):
        raise Refused("conflict", f"there is a principal named {new.name!r} already", status=409, fix="take another name")
    return await use.ledger.add_user(new, who.name)


async def disable(use: Deps, who: Who, principal: str) -> None:
    """Disable a principal. ``Refused`` for the caller itself and for one that does not exist."""
    if principal == who.principal:
        raise Refused.bad("nobody disables themselves", "ask another owner")
    if not await use.ledger.disable(principal, who.name):
        raise Refused.missing(f"principal {principal!r}", "list them at /api/v1/principals")


@router.get("/me", **says(SignedIn))
async def me(who: Viewer) -> Response:
    """Who the request's credential belongs to."""
    return answer(SignedIn(name=who.name, role=who.role, tenant=who.tenant, via=who.via))


@router.get("/principals", **says(PrincipalList))
async def list_principals(_who: OperatorEverywhere, use: Use) -> Response:
    """Users, services and keys with their roles."""
    return answer(PrincipalList(principals=tuple(await use.ledger.principals())))


@router.post("/users", **says(Principal, takes=NewUser, status=201))
async def add_user(request: Request, who: OwnerEverywhere, use: Use) -> Response:
    """Add a user with a password."""
    return answer(await add(use, who, await taken(request, NewUser)), 201)


@router.delete("/principals/{principal}", **says(PrincipalDisabled))
async def disable_principal(principal: str, who: OwnerEverywhere, use: Use) -> Response:
    """Disable a principal and end its sessions. It stays in the log."""
    await disable(use, who, principal)
    return answer(PrincipalDisabled(id=principal))


@router.get("/audit", **says(AuditList))
async def list_audit(_who: OperatorEverywhere, use: Use, before: str = "", limit: int = 100) -> Response:
    """Who changed what, newest first."""
    rows = max(1, min(limit, PAGE_ROWS_MAX))
    entries = tuple(await use.ledger.audit(before, rows + 1))
    return answer(AuditList(entries=entries[:rows], next=entries[rows - 1].id if len(entries) > rows else ""))


@router.post("/login-links", **says(LoginLink, status=201))
async def make_login_link(_who: OwnerEverywhere, use: Use) -> Response:
    """A one-time link that signs an owner in; what `headway login` asks for."""
    return answer(LoginLink(path=await use.authenticator.owner_link(), ttl_s=LOGIN_LINK_TTL_S), 201)
