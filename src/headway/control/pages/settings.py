"""Settings: what is configured and from where, who may what, what was changed."""

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from headway.control.access import Who
from headway.control.api import key_budgets as budget_api
from headway.control.api import keys as key_api
from headway.control.api import people as people_api
from headway.control.api.estate import budgets_of
from headway.control.deps import Deps, Operator, OperatorEverywhere, OwnerEverywhere, Use, Viewer
from headway.control.errors import Refused
from headway.control.pages.home import first_call_line
from headway.control.pages.login import form_of
from headway.control.pages.render import show
from headway.control.ports import AWAY, GatewayView, Generation
from headway.kernel.limits import PAGE_ROWS_MAX
from headway.ledger.model import AuditEntry, BudgetState, Principal, PrincipalKind, Role

router = APIRouter()
AUDIT_ROWS = 30
COMINGS = "session."
"""Who came and went is in the whole log, not among the changes."""


class SettingsPage(msgspec.Struct, frozen=True, kw_only=True):
    """Parts that the caller's role or tenant does not show are empty; ``may_change`` and ``may_own`` say which forms stand."""

    generation: Generation | None
    keys: tuple[key_api.KeyView, ...]
    budgets: tuple[BudgetState, ...]
    tenants: tuple[str, ...]
    users: tuple[Principal, ...]
    gateways: tuple[GatewayView, ...]
    audit: tuple[AuditEntry, ...]
    key_names: dict[str, str]
    """Names of the keys by their budgets' scopes."""
    names: dict[str, str]
    """Names of the actors in ``audit`` by their ids."""
    roles: tuple[Role, ...]
    may_change: bool
    may_own: bool
    price_version: str
    problem: str = ""


class KeyCreatedPage(msgspec.Struct, frozen=True, kw_only=True):
    created: key_api.KeyCreated
    first_call: str


async def gathered(use: Deps, who: Who) -> SettingsPage:
    """The page for one caller."""
    everywhere, found = not who.tenant, use.configuration.generation()
    problem = ""
    keys: tuple[key_api.KeyView, ...] = ()
    budgets: tuple[BudgetState, ...] = ()
    users: tuple[Principal, ...] = ()
    audit: tuple[AuditEntry, ...] = ()
    names: dict[str, str] = {}
    try:
        keys = (await key_api.listing(use, who)).keys
        budgets = await budgets_of(use, who)
        if everywhere and who.may(Role.OPERATOR):
            everybody = await use.ledger.principals.all()
            users = tuple(p for p in everybody if p.kind is PrincipalKind.USER)
            names = {p.id: p.name for p in everybody}
            entries = await use.ledger.audit.entries(limit=PAGE_ROWS_MAX)
            audit = tuple(entry for entry in entries if not entry.action.startswith(COMINGS))[:AUDIT_ROWS]
    except AWAY as away:
        problem = str(away)
    return SettingsPage(
        generation=found if everywhere else None,
        keys=keys,
        budgets=budgets,
        key_names={f"key:{key.id}": key.name or "unnamed" for key in keys},
        tenants=tuple(t.name for t in found.tenants if who.sees(t.name)) or ((who.tenant or "default"),),
        users=users,
        gateways=tuple(use.gateways.gateways()) if everywhere else (),
        audit=audit,
        names={entry.actor: names[entry.actor] for entry in audit if entry.actor in names},
        roles=tuple(role for role in Role if who.may(role)),
        may_change=who.may(Role.OPERATOR),
        may_own=everywhere and who.may(Role.OWNER),
        price_version=use.prices.version(),
        problem=problem,
    )


@router.get("/settings")
async def settings(request: Request, who: Viewer, use: Use) -> Response:
    """The page, or its JSON."""
    return show(request, who, "settings.html", "Settings", await gathered(use, who))


@router.post("/settings/keys")
async def create_key(request: Request, who: Operator, use: Use) -> Response:
    """Make a key from the form; its secret is on the page that answers, and nowhere else."""
    form = await form_of(request)
    created = await key_api.create(use, who, _new_key(form))
    line = first_call_line(use, created.key.tenant, created.secret)
    return show(request, who, "key_created.html", "Key created", KeyCreatedPage(created=created, first_call=line), status=201)


@router.post("/settings/keys/{key}/revoke")
async def revoke_key(key: str, who: Operator, use: Use) -> Response:
    """Revoke a key and come back."""
    await key_api.revoke(use, who, key)
    return RedirectResponse("/settings#keys", 303)


@router.post("/settings/keys/{key}/budget")
async def set_key_budget(request: Request, key: str, who: Operator, use: Use) -> Response:
    """Set one budget of a key from the form, or end it where the amount is empty, and come back."""
    form = await form_of(request)
    which, amount = form.get("which", ""), form.get("amount", "").strip()
    try:
        tokens = which.startswith("tokens")
        wanted = msgspec.convert({which: (int(amount) if tokens else amount) if amount else None}, budget_api.KeyBudgetsWanted)
    except (msgspec.ValidationError, ValueError):
        raise Refused.bad("the amount cannot be used", "dollars such as 20 or 0.25, whole tokens, or empty to end it") from None
    await budget_api.state(use, who, key, wanted)
    return RedirectResponse("/settings#keys", 303)


@router.post("/settings/reload")
async def reload(who: OperatorEverywhere, use: Use) -> Response:
    """Read headway.toml now and come back."""
    await use.configuration.reload(who.principal)
    return RedirectResponse("/settings#generation", 303)


@router.post("/settings/users")
async def add_user(request: Request, who: OwnerEverywhere, use: Use) -> Response:
    """Add a user from the form and come back."""
    form = await form_of(request)
    new = people_api.NewUser(
        name=form.get("name", ""), password=form.get("password", ""), role=_role(form), tenant=form.get("tenant", "")
    )
    await people_api.add(use, who, new)
    return RedirectResponse("/settings#users", 303)


@router.post("/settings/users/{principal}/password")
async def set_password(request: Request, principal: str, who: OwnerEverywhere, use: Use) -> Response:
    """Give a user a password from the form and come back."""
    await people_api.set_password(use, who, principal, (await form_of(request)).get("password", ""))
    return RedirectResponse("/settings#users", 303)


@router.post("/settings/users/{principal}/disable")
async def disable_user(principal: str, who: OwnerEverywhere, use: Use) -> Response:
    """Disable a user and come back."""
    await people_api.disable(use, who, principal)
    return RedirectResponse("/settings#users", 303)


def _role(form: dict[str, str]) -> Role:
    try:
        return Role(form.get("role", Role.VIEWER))
    except ValueError:
        raise Refused.bad("there is no such role", f"one of: {', '.join(Role)}") from None


def _new_key(form: dict[str, str]) -> key_api.KeyWanted:
    days = form.get("expires_in_days", "").strip()
    if days and not (days.isascii() and days.isdigit() and len(days) <= 5):
        raise Refused.bad("days until it expires must be a whole number", "leave it empty for a key that does not expire")
    features = tuple(name for part in form.get("features", "").split(",") if (name := part.strip()))
    return key_api.KeyWanted(
        tenant=form.get("tenant", ""),
        name=form.get("name", "").strip(),
        role=_role(form),
        features=features,
        expires_in_s=int(days) * 86_400 if days else None,
    )
