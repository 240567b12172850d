"""Keys: made, changed, revoked. Each change moves one version, by which gateways and other controls hear of it."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, RowMapping, Select, insert, select, update

from headway.kernel.ids import new_id
from headway.kernel.instants import WallMs
from headway.ledger import schema
from headway.ledger.keys import MintedKey, mint, parse, usable, verify
from headway.ledger.model import KeyRecord, Principal, PrincipalKind
from headway.ledger.port import KeysSince, NewKey, NotFound, Refused
from headway.ledger.sql import principals
from headway.ledger.sql.base import KEYS_VERSION, Store, next_value, note, value_of

_k, _p = schema.keys, schema.principals


class SqlKeys(Store):
    async def create(self, new: NewKey, *, actor: str, now: WallMs) -> tuple[KeyRecord, MintedKey]:
        minted = mint(now)
        service = Principal(
            id=new_id("prn", now), kind=PrincipalKind.KEY, name=minted.id, role=new.role, tenant=new.tenant, created_wall_ms=now
        )

        def change(connection: Connection) -> KeyRecord:
            owner = _owner(connection, new, service, actor)
            record = KeyRecord(
                id=minted.id,
                digest=minted.digest,
                principal=owner.id,
                tenant=new.tenant,
                name=new.name,
                role=new.role,
                features=new.features,
                created_wall_ms=now,
                expires_wall_ms=new.expires_wall_ms,
            )
            values = {**msgspec.structs.asdict(record), "features": msgspec.json.encode(record.features).decode()}
            connection.execute(insert(_k).values(version=next_value(connection, KEYS_VERSION), **values))
            note(
                connection,
                actor=actor,
                action="key.create",
                subject=record.id,
                now=now,
                tenant=new.tenant,
                name=new.name,
                role=new.role,
            )
            return record

        return await self._writer.run(change), minted

    async def get(self, key: str) -> KeyRecord | None:
        return await self._reader.run(lambda c: _find(c, key))

    async def all(self) -> Sequence[KeyRecord]:
        return await self._reader.run(lambda c: [_record(row) for row in c.execute(select(_k).order_by(_k.c.id)).mappings()])

    async def revoke(self, key: str, *, actor: str, now: WallMs) -> KeyRecord:
        def change(connection: Connection) -> KeyRecord:
            record = _must_find(connection, key)
            if record.revoked_wall_ms is None:
                _set(connection, key, revoked_wall_ms=now)
                note(connection, actor=actor, action="key.revoke", subject=key, now=now, tenant=record.tenant, name=record.name)
            return _must_find(connection, key)

        return await self._writer.run(change)

    async def set_expiry(self, key: str, expires_wall_ms: int | None, *, actor: str, now: WallMs) -> KeyRecord:
        def change(connection: Connection) -> KeyRecord:
            record = _must_find(connection, key)
            if record.revoked_wall_ms is not None:
                raise Refused(f"key {key} is revoked, which is for good; create another")
            _set(connection, key, expires_wall_ms=expires_wall_ms)
            until = "never" if expires_wall_ms is None else str(expires_wall_ms)
            note(connection, actor=actor, action="key.expire", subject=key, now=now, expires_wall_ms=until)
            return _must_find(connection, key)

        return await self._writer.run(change)

    async def check(self, presented: str, now: WallMs) -> tuple[KeyRecord, Principal] | None:
        parsed = parse(presented)

        def read(connection: Connection) -> tuple[KeyRecord, Principal | None] | None:
            record = _find(connection, parsed.id) if parsed is not None else None
            return None if record is None else (record, principals.find(connection, _p.c.id == record.principal))

        found = await self._reader.run(read)
        good = verify(found[0] if found is not None else None, presented)
        if not good or found is None or found[1] is None or found[1].disabled or not usable(found[0], now):
            return None
        return found[0], found[1]

    async def for_gateways(self, now: WallMs) -> KeysSince:
        def read(connection: Connection) -> KeysSince:
            version = value_of(connection, KEYS_VERSION)
            wanted = _with_owner().where(_k.c.revoked_wall_ms.is_(None), _p.c.disabled.is_(False), _k.c.tenant != "")
            records = [_record(row) for row in connection.execute(wanted).mappings()]
            return KeysSince(version, tuple(r for r in records if usable(r, now)), ())

        return await self._reader.run(read)

    async def since(self, version: int) -> KeysSince:
        def read(connection: Connection) -> KeysSince:
            newest = value_of(connection, KEYS_VERSION)
            if newest == version:
                return KeysSince(version, (), ())
            changed = _with_owner().where(_k.c.version > version, _k.c.version <= newest, _k.c.tenant != "")
            rows = connection.execute(changed).mappings().all()
            gone = [row["id"] for row in rows if row["disabled"] or row["revoked_wall_ms"] is not None]
            return KeysSince(newest, tuple(_record(row) for row in rows if row["id"] not in gone), tuple(gone))

        return await self._reader.run(read)


def _with_owner() -> Select[*tuple[Any, ...]]:
    return select(_k, _p.c.disabled).join(_p, _p.c.id == _k.c.principal).order_by(_k.c.id)


def _owner(connection: Connection, new: NewKey, service: Principal, actor: str) -> Principal:
    if not new.principal:
        principals.add(connection, service, None, actor)
        return service
    found = principals.find(connection, _p.c.id == new.principal)
    if found is None:
        raise NotFound(f"no principal {new.principal!r}")
    if found.disabled:
        raise Refused(f"{found.name} is disabled; enable it before giving it a key")
    return found


def _set(connection: Connection, key: str, **values: int | None) -> None:
    connection.execute(update(_k).where(_k.c.id == key).values(version=next_value(connection, KEYS_VERSION), **values))


def _find(connection: Connection, key: str) -> KeyRecord | None:
    row = connection.execute(select(_k).where(_k.c.id == key)).mappings().first()
    return None if row is None else _record(row)


def _must_find(connection: Connection, key: str) -> KeyRecord:
    record = _find(connection, key)
    if record is None:
        raise NotFound(f"no key {key!r}; `headway keys list` shows the keys there are")
    return record


def _record(row: RowMapping) -> KeyRecord:
    values = {str(name): value for name, value in row.items()}
    values["features"] = tuple(msgspec.json.decode(values["features"], type=list[str]))
    values["digest"] = bytes(values["digest"])
    values.pop("version", None)
    values.pop("disabled", None)
    return msgspec.convert(values, KeyRecord)
