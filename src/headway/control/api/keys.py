"""``/api/v1/keys``: create, list, revoke. The secret is in the answer of the creation and nowhere else."""

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from headway.control.access import Who
from headway.control.api.key_budgets import end_all
from headway.control.deps import Deps, Operator, Use, Viewer
from headway.control.errors import Refused
from headway.control.schema import answer, says, taken
from headway.kernel.limits import HEADER_VALUE_CHARS_MAX, KEY_REVOKED_WITHIN_S
from headway.ledger.model import KeyRecord, Role
from headway.ledger.port import NewKey, NotFound

router = APIRouter(prefix="/api/v1/keys", tags=["keys"])


class KeyWanted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a key is made from. ``expires_in_s`` None never expires."""

    tenant: str
    name: str = ""
    role: Role = Role.VIEWER
    features: tuple[str, ...] = ()
    expires_in_s: int | None = None


class KeyView(msgspec.Struct, frozen=True, kw_only=True):
    """A key without its digest."""

    id: str
    name: str
    tenant: str
    role: Role
    features: tuple[str, ...]
    created_wall_ms: int
    expires_wall_ms: int | None
    revoked_wall_ms: int | None
    state: str
    """active, expired or revoked."""


class KeyList(msgspec.Struct, frozen=True, kw_only=True):
    keys: tuple[KeyView, ...]


class KeyCreated(msgspec.Struct, frozen=True, kw_only=True):
    """``secret`` is the whole key, shown this once."""

    key: KeyView
    secret: str


class KeyRevoked(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    within_s: int
    """Every gateway refuses it within so many seconds."""


def view(key: KeyRecord, now_wall_ms: int) -> KeyView:
    """What people may see of a key."""
    expired = key.expires_wall_ms is not None and key.expires_wall_ms <= now_wall_ms
    return KeyView(
        id=key.id,
        name=key.name,
        tenant=key.tenant,
        role=key.role,
        features=key.features,
        created_wall_ms=key.created_wall_ms,
        expires_wall_ms=key.expires_wall_ms,
        revoked_wall_ms=key.revoked_wall_ms,
        state="revoked" if key.revoked_wall_ms is not None else "expired" if expired else "active",
    )


async def create(use: Deps, who: Who, new: KeyWanted) -> KeyCreated:
    """Make a key. ``Refused`` for another tenant, an unknown one, a role above the caller's, or an unusable name."""
    if not who.sees(new.tenant):
        raise Refused.forbidden(f"{who.name} may create keys of tenant {who.tenant} only")
    if not who.may(new.role):
        raise Refused.forbidden(f"{who.name} is {who.role} and cannot create a key that is {new.role}")
    known = {tenant.name for tenant in use.configuration.generation().tenants} | {"default"}
    if new.tenant not in known:
        raise Refused.bad(
            f"there is no tenant {new.tenant!r}", f"add [tenants.{new.tenant}] to headway.toml, or take one of {sorted(known)}"
        )
    if len(new.name) > HEADER_VALUE_CHARS_MAX or not new.name.isprintable():
        raise Refused.bad(
            "the name is too long or has characters that do not print", f"at most {HEADER_VALUE_CHARS_MAX} characters"
        )
    if new.expires_in_s is not None and new.expires_in_s <= 0:
        raise Refused.bad("the key would have expired before it is made", "give seconds above 0, or leave expires_in_s out")
    now = use.ledger.now()
    expires = None if new.expires_in_s is None else now + new.expires_in_s * 1000
    wanted = NewKey(tenant=new.tenant, name=new.name, role=new.role, features=new.features, expires_wall_ms=expires)
    record, minted = await use.ledger.keys.create(wanted, actor=who.principal, now=now)
    await use.gateways.push_keys()
    return KeyCreated(key=view(record, now), secret=minted.text)


async def revoke(use: Deps, who: Who, key: str) -> KeyRevoked:
    """Revoke a key of the caller's tenants; again is no error. ``Refused`` 404 for any other."""
    record = await use.ledger.keys.get(key)
    if record is None or not who.sees(record.tenant):
        raise Refused.missing(f"key {key!r}", "list them at /api/v1/keys")
    if not who.may(record.role):
        raise Refused.forbidden(f"{who.name} is {who.role} and cannot revoke a key that is {record.role}")
    try:
        await use.ledger.keys.revoke(key, actor=who.principal, now=use.ledger.now())
    except NotFound:
        raise Refused.missing(f"key {key!r}", "list them at /api/v1/keys") from None
    await use.gateways.push_keys()
    await end_all(use, who.principal, key)
    return KeyRevoked(id=key, within_s=KEY_REVOKED_WITHIN_S)


async def listing(use: Deps, who: Who) -> KeyList:
    """Keys of the caller's tenants, newest first."""
    now = use.ledger.now()
    keys = sorted((k for k in await use.ledger.keys.all() if who.sees(k.tenant)), key=lambda k: k.created_wall_ms, reverse=True)
    return KeyList(keys=tuple(view(key, now) for key in keys))


@router.get("", **says(KeyList))
async def list_keys(who: Viewer, use: Use) -> Response:
    """Keys of the caller's tenants, newest first, without secrets."""
    return answer(await listing(use, who))


@router.post("", **says(KeyCreated, takes=KeyWanted, status=201))
async def create_key(request: Request, who: Operator, use: Use) -> Response:
    """Make a key. Its secret is in this answer only."""
    return answer(await create(use, who, await taken(request, KeyWanted)), 201)


@router.delete("/{key}", **says(KeyRevoked))
async def revoke_key(key: str, who: Operator, use: Use) -> Response:
    """Revoke a key; every gateway refuses it within seconds."""
    return answer(await revoke(use, who, key))
