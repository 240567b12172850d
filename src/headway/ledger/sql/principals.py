"""Users, services and their roles."""

import asyncio
from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from headway.kernel.ids import new_id
from headway.kernel.instants import WallMs
from headway.ledger import schema
from headway.ledger.keys import PASSWORD_CHARS_MAX, PASSWORD_CHARS_MIN, check_password, hash_password
from headway.ledger.model import Principal, PrincipalKind, Role
from headway.ledger.port import NotFound, Refused, Taken
from headway.ledger.sql.base import KEYS_VERSION, Reader, Store, next_value, note, struct

_t = schema.principals
_SHOWN = tuple(c for c in _t.c if c.name != "password")


class SqlPrincipals(Store):
    async def create(
        self, kind: PrincipalKind, name: str, role: Role, *, tenant: str = "", password: str | None = None, actor: str, now: WallMs
    ) -> Principal:
        hashed = None if password is None else await _hashed(password)
        made = Principal(id=new_id("prn", now), kind=kind, name=name, role=role, tenant=tenant, created_wall_ms=now)

        def change(connection: Connection) -> Principal:
            add(connection, made, hashed, actor)
            return made

        return await self._writer.run(change)

    async def get(self, principal: str) -> Principal | None:
        return await self._reader.run(lambda c: find(c, _t.c.id == principal))

    async def named(self, kind: PrincipalKind, name: str) -> Principal | None:
        return await self._reader.run(lambda c: find(c, _t.c.kind == kind, _t.c.name == name))

    async def all(self) -> Sequence[Principal]:
        def read(connection: Connection) -> list[Principal]:
            return [struct(row, Principal) for row in connection.execute(select(*_SHOWN).order_by(_t.c.id)).mappings()]

        return await self._reader.run(read)

    async def set_role(self, principal: str, role: Role, *, actor: str, now: WallMs) -> Principal:
        def change(connection: Connection) -> Principal:
            before = _must_find(connection, principal)
            if before.role is Role.OWNER and role is not Role.OWNER:
                _keep_an_owner(connection, before)
            connection.execute(update(_t).where(_t.c.id == principal).values(role=role))
            note(connection, actor=actor, action="principal.role", subject=principal, now=now, before=before.role, after=role)
            return _must_find(connection, principal)

        return await self._writer.run(change)

    async def set_disabled(self, principal: str, disabled: bool, *, actor: str, now: WallMs) -> Principal:
        def change(connection: Connection) -> Principal:
            before = _must_find(connection, principal)
            if before.disabled == disabled:
                return before
            if disabled and before.role is Role.OWNER:
                _keep_an_owner(connection, before)
            connection.execute(update(_t).where(_t.c.id == principal).values(disabled=disabled))
            # Its keys get a new version, so that the gateways hear of them.
            version = next_value(connection, KEYS_VERSION)
            connection.execute(update(schema.keys).where(schema.keys.c.principal == principal).values(version=version))
            end_sessions(connection, principal)
            action = "principal.disable" if disabled else "principal.enable"
            note(connection, actor=actor, action=action, subject=principal, now=now, name=before.name)
            return _must_find(connection, principal)

        return await self._writer.run(change)

    async def set_password(self, principal: str, password: str, *, actor: str, now: WallMs) -> None:
        hashed = await _hashed(password)

        def change(connection: Connection) -> None:
            _must_find(connection, principal)
            connection.execute(update(_t).where(_t.c.id == principal).values(password=hashed))
            end_sessions(connection, principal)
            note(connection, actor=actor, action="principal.password", subject=principal, now=now)

        await self._writer.run(change)

    async def authenticate(self, name: str, password: str) -> Principal | None:
        return await authenticate(self._reader, name, password)

    async def any_password(self) -> bool:
        wanted = select(_t.c.id).where(_t.c.password.is_not(None), _t.c.disabled.is_(False)).limit(1)
        return await self._reader.run(lambda c: c.execute(wanted).first() is not None)


async def authenticate(reader: Reader, name: str, password: str) -> Principal | None:
    """The enabled user of this name and password. Costs one scrypt in every case."""

    def read(connection: Connection) -> tuple[Principal, str | None] | None:
        wanted = select(_t).where(_t.c.kind == PrincipalKind.USER, _t.c.name == name, _t.c.disabled.is_(False))
        row = connection.execute(wanted).mappings().first()
        return None if row is None else (struct(row, Principal, without=("password",)), row["password"])

    found = await reader.run(read)
    good = await asyncio.to_thread(check_password, found[1] if found is not None else None, password)
    return found[0] if good and found is not None else None


def find(connection: Connection, *where: ColumnElement[bool]) -> Principal | None:
    row = connection.execute(select(*_SHOWN).where(*where)).mappings().first()
    return None if row is None else struct(row, Principal)


def add(connection: Connection, made: Principal, password: str | None, actor: str) -> None:
    """Insert with its audit entry. Taken when kind and name exist."""
    try:
        with connection.begin_nested():
            connection.execute(
                insert(_t).values(
                    id=made.id,
                    kind=made.kind,
                    name=made.name,
                    role=made.role,
                    tenant=made.tenant,
                    created_wall_ms=made.created_wall_ms,
                    disabled=made.disabled,
                    password=password,
                )
            )
    except IntegrityError as error:
        raise Taken(f"there is a {made.kind} named {made.name!r} already; choose another name") from error
    note(
        connection,
        actor=actor,
        action="principal.create",
        subject=made.id,
        now=WallMs(made.created_wall_ms),
        kind=made.kind,
        name=made.name,
        role=made.role,
        tenant=made.tenant,
    )


def end_sessions(connection: Connection, principal: str) -> int:
    """Delete every session and login token of a principal; how many there were."""
    return connection.execute(delete(schema.sessions).where(schema.sessions.c.principal == principal)).rowcount


def _must_find(connection: Connection, principal: str) -> Principal:
    found = find(connection, _t.c.id == principal)
    if found is None:
        raise NotFound(f"no principal {principal!r}")
    return found


def _keep_an_owner(connection: Connection, leaving: Principal) -> None:
    """Lock the owners and count the others that could act: a control plane without an owner could not be given one from outside."""
    owners = select(_t.c.id).where(_t.c.role == Role.OWNER, _t.c.disabled.is_(False)).with_for_update()
    if all(row.id == leaving.id for row in connection.execute(owners)):
        raise Refused(f"{leaving.name} is the last owner; make another one first")


async def _hashed(password: str) -> str:
    if not PASSWORD_CHARS_MIN <= len(password) <= PASSWORD_CHARS_MAX:
        raise Refused(f"a password has {PASSWORD_CHARS_MIN} to {PASSWORD_CHARS_MAX} characters")
    return await asyncio.to_thread(hash_password, password)
