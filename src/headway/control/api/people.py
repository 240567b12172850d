"""``/api/v1/principals``, ``/users``, ``/audit`` and ``/me``."""

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from headway.control.access import Who
from headway.control.auth import SignedIn
from headway.control.deps import Deps, OperatorEverywhere, OwnerEverywhere, Use, Viewer
from headway.control.errors import Refused
from headway.control.schema import answer, says, taken
from headway.kernel.limits import HEADER_VALUE_CHARS_MAX, LOGIN_LINK_TTL_S, PAGE_ROWS_MAX
from headway.ledger.keys import PASSWORD_CHARS_MIN
from headway.ledger.model import AuditEntry, Principal, PrincipalKind, Role
from headway.ledger.port import NotFound, Taken
from headway.ledger.port import Refused as LedgerRefused

router = APIRouter(prefix="/api/v1", tags=["people"])


class NewUser(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    password: str
    role: Role = Role.VIEWER
    tenant: str = ""
    """Empty sees all."""


class NewPassword(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    password: str


class PrincipalList(msgspec.Struct, frozen=True, kw_only=True):
    principals: tuple[Principal, ...]


class PrincipalChanged(msgspec.Struct, frozen=True, kw_only=True):
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
    try:
        return await use.ledger.principals.create(
            PrincipalKind.USER,
            new.name,
            new.role,
            tenant=new.tenant,
            password=new.password,
            actor=who.principal,
            now=use.ledger.now(),
        )
    except Taken:
        raise Refused("conflict", f"there is a user named {new.name!r} already", status=409, fix="take another name") from None


async def disable(use: Deps, who: Who, principal: str) -> None:
    """Disable a principal. ``Refused`` for the caller itself and for one that does not exist."""
    if principal == who.principal:
        raise Refused.bad("nobody disables themselves", "ask another owner")
    try:
        await use.ledger.principals.set_disabled(principal, True, actor=who.principal, now=use.ledger.now())
    except NotFound:
        raise Refused.missing(f"principal {principal!r}", "list them at /api/v1/principals") from None
    except LedgerRefused as refused:
        raise Refused.bad(str(refused), "make another owner first") from refused
    await use.gateways.push_keys()


async def set_password(use: Deps, who: Who, principal: str, password: str) -> None:
    """Give a user a password; its sessions end. ``Refused`` for an unknown user and an unusable password."""
    try:
        await use.ledger.principals.set_password(principal, password, actor=who.principal, now=use.ledger.now())
    except NotFound:
        raise Refused.missing(f"user {principal!r}", "list them at /api/v1/principals") from None
    except LedgerRefused as refused:
        raise Refused.bad(str(refused), f"at least {PASSWORD_CHARS_MIN} characters") from refused


@router.get("/me", **says(SignedIn))
async def me(who: Viewer) -> Response:
    """Who the request's credential belongs to."""
    return answer(SignedIn(name=who.name, role=who.role, tenant=who.tenant, via=who.via))


@router.get("/principals", **says(PrincipalList))
async def list_principals(_who: OperatorEverywhere, use: Use) -> Response:
    """Users, services and keys with their roles."""
    return answer(PrincipalList(principals=tuple(await use.ledger.principals.all())))


@router.post("/users", **says(Principal, takes=NewUser, status=201))
async def add_user(request: Request, who: OwnerEverywhere, use: Use) -> Response:
    """Add a user with a password."""
    return answer(await add(use, who, await taken(request, NewUser)), 201)


@router.put("/users/{principal}/password", **says(PrincipalChanged, takes=NewPassword))
async def change_password(request: Request, principal: str, who: OwnerEverywhere, use: Use) -> Response:
    """Give a user a password. Its sessions end."""
    await set_password(use, who, principal, (await taken(request, NewPassword)).password)
    return answer(PrincipalChanged(id=principal))


@router.delete("/principals/{principal}", **says(PrincipalChanged))
async def disable_principal(principal: str, who: OwnerEverywhere, use: Use) -> Response:
    """Disable a principal and end its sessions. It stays in the log."""
    await disable(use, who, principal)
    return answer(PrincipalChanged(id=principal))


@router.get("/audit", **says(AuditList))
async def list_audit(_who: OperatorEverywhere, use: Use, before: str = "", limit: int = 100) -> Response:
    """Who changed what, newest first."""
    rows = max(1, min(limit, PAGE_ROWS_MAX))
    entries = tuple(await use.ledger.audit.entries(before=before, limit=rows + 1))
    return answer(AuditList(entries=entries[:rows], next=entries[rows - 1].id if len(entries) > rows else ""))


@router.post("/login-links", **says(LoginLink, status=201))
async def make_login_link(who: OwnerEverywhere, use: Use) -> Response:
    """A one-time link that signs the caller in at the board; what `headway login` asks for."""
    return answer(LoginLink(path=await use.authenticator.link_for(who.principal, who.principal), ttl_s=LOGIN_LINK_TTL_S), 201)
