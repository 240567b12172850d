"""The audit log, and the configurations that were in force."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection, RowMapping, Select, insert, select

from headway.kernel.instants import WallMs
from headway.ledger import schema
from headway.ledger.model import AuditEntry, GenerationRecord
from headway.ledger.sql.base import Store, hold, next_value, note, struct

GENERATION = "generation"
_a, _g = schema.audit, schema.generations
_Diff = tuple[tuple[str, str | None, str | None], ...]


class SqlAudit(Store):
    async def note(self, entry: AuditEntry) -> None:
        values = {**msgspec.structs.asdict(entry), "detail": msgspec.json.encode(entry.detail).decode()}
        await self._writer.run(lambda c: c.execute(insert(_a).values(values)) and None)

    async def entries(self, *, before: str = "", limit: int, subject: str = "") -> Sequence[AuditEntry]:
        wanted = select(_a).order_by(_a.c.id.desc()).limit(limit)
        if before:
            wanted = wanted.where(_a.c.id < before)
        if subject:
            wanted = wanted.where(_a.c.subject == subject)
        return await self._reader.run(lambda c: [_entry(row) for row in c.execute(wanted).mappings()])


class SqlGenerations(Store):
    async def current(self) -> GenerationRecord | None:
        return await self._reader.run(_current)

    async def get(self, number: int) -> GenerationRecord | None:
        return await self._reader.run(lambda c: _first(c, select(_g).where(_g.c.number == number)))

    async def latest(self, limit: int) -> Sequence[GenerationRecord]:
        wanted = select(_g).order_by(_g.c.number.desc()).limit(limit)
        return await self._reader.run(lambda c: [_generation(row) for row in c.execute(wanted).mappings()])

    async def add(self, digest: str, shown: dict[str, str], *, path: str, actor: str, now: WallMs) -> GenerationRecord:
        def change(connection: Connection) -> GenerationRecord:
            hold(connection, GENERATION)  # another control waits here until this is settled
            before = _current(connection)
            if before is not None and before.digest == digest:
                return before
            number = next_value(connection, GENERATION)
            diff = difference(before.shown if before is not None else {}, shown)
            made = GenerationRecord(number=number, at_wall_ms=now, digest=digest, path=path, diff=diff, shown=shown)
            texts = {"diff": msgspec.json.encode(diff).decode(), "shown": msgspec.json.encode(shown).decode()}
            connection.execute(insert(_g).values({**msgspec.structs.asdict(made), **texts}))
            note(connection, actor=actor, action="generation", subject=str(number), now=now, path=path, changed=str(len(diff)))
            return made

        return await self._writer.run(change)


def difference(before: dict[str, str], after: dict[str, str]) -> _Diff:
    """(key, before, after) of every value that changed, in order of key; None where it was not set."""
    keys = sorted(before.keys() | after.keys())
    return tuple((key, before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key))


def _current(connection: Connection) -> GenerationRecord | None:
    return _first(connection, select(_g).order_by(_g.c.number.desc()).limit(1))


def _first(connection: Connection, wanted: Select[*tuple[object, ...]]) -> GenerationRecord | None:
    row = connection.execute(wanted).mappings().first()
    return None if row is None else _generation(row)


def _generation(row: RowMapping) -> GenerationRecord:
    diff = msgspec.json.decode(row["diff"], type=_Diff)
    shown = msgspec.json.decode(row["shown"], type=dict[str, str])
    return struct({**row, "diff": diff, "shown": shown}, GenerationRecord)


def _entry(row: RowMapping) -> AuditEntry:
    return struct({**row, "detail": msgspec.json.decode(row["detail"], type=dict[str, str])}, AuditEntry)
