"""Sessions, logins and one-time login tokens. Tokens are stored as digests; failed logins slow the next ones down."""

from sqlalchemy import Connection, delete, func, insert, select

from headway.kernel.ids import new_id
from headway.kernel.instants import WallMs
from headway.kernel.limits import (
    LOGIN_FAILURES_PER_MINUTE_MAX,
    LOGIN_LINK_TTL_S,
    LOGIN_LINKS_MAX,
    LOGIN_SUBJECTS_MAX,
    SESSION_TTL_S,
)
from headway.ledger import schema
from headway.ledger.keys import new_token, token_digest
from headway.ledger.model import Principal, Session
from headway.ledger.port import LoginResult, NotFound, Refused
from headway.ledger.sql import principals
from headway.ledger.sql.base import Store, note

SESSION_PREFIX = "hws"
LOGIN_PREFIX = "hwl"
FAILURE_WINDOW_MS = 60_000
NOBODY = LoginResult("", None)
_s, _p, _f = schema.sessions, schema.principals, schema.login_failures


class SqlSessions(Store):
    async def login(self, name: str, password: str, *, address: str = "", now: WallMs) -> LoginResult:
        # What is typed as a name may be a password: it is stored as a digest only.
        subjects = (f"name:{token_digest(name)}", *((f"address:{address[:180]}",) if address else ()))
        wait_ms = await self._reader.run(lambda c: _throttle_ms(c, subjects, now))
        if wait_ms:
            return LoginResult("", None, wait_ms)
        principal = await principals.authenticate(self._reader, name, password)
        if principal is None:
            await self._writer.run(lambda c: _failed(c, subjects, name, now))
            return NOBODY

        def change(connection: Connection) -> LoginResult:
            connection.execute(delete(_f).where(_f.c.subject == subjects[0]))
            return _open(connection, principal, actor=principal.id, action="session.login", now=now)

        return await self._writer.run(change)

    async def open(self, principal: str, *, actor: str, now: WallMs) -> LoginResult:
        return await self._writer.run(lambda c: _open(c, _able(c, principal), actor=actor, action="session.open", now=now))

    async def find(self, token: str, now: WallMs) -> Session | None:
        wanted = (
            select(_s.c.id.label("session"), _s.c.created_wall_ms.label("opened"), _s.c.expires_wall_ms, _s.c.principal)
            .where(_s.c.token_digest == token_digest(token), _s.c.expires_wall_ms > now, _s.c.once.is_(False))
            .limit(1)
        )

        def read(connection: Connection) -> Session | None:
            row = connection.execute(wanted).first()
            principal = principals.find(connection, _p.c.id == row.principal) if row is not None else None
            if row is None or principal is None or principal.disabled:
                return None
            return Session(id=row.session, principal=principal, created_wall_ms=row.opened, expires_wall_ms=row.expires_wall_ms)

        return await self._reader.run(read)

    async def revoke(self, token: str, *, now: WallMs) -> bool:
        def change(connection: Connection) -> bool:
            ended = delete(_s).where(_s.c.token_digest == token_digest(token)).returning(_s.c.id, _s.c.principal)
            row = connection.execute(ended).first()
            if row is not None:
                note(connection, actor=row.principal, action="session.end", subject=row.id, now=now)
            return row is not None

        return await self._writer.run(change)

    async def revoke_all(self, principal: str, *, actor: str, now: WallMs) -> int:
        def change(connection: Connection) -> int:
            ended = principals.end_sessions(connection, principal)
            note(connection, actor=actor, action="session.end_all", subject=principal, now=now, ended=str(ended))
            return ended

        return await self._writer.run(change)

    async def login_token(self, principal: str, *, actor: str, now: WallMs) -> str:
        token = new_token(LOGIN_PREFIX)

        def change(connection: Connection) -> str:
            able = _able(connection, principal)
            _insert(connection, token, able, now, LOGIN_LINK_TTL_S * 1000, once=True)
            waiting = (
                select(_s.c.id)
                .where(_s.c.principal == principal, _s.c.once.is_(True))
                .order_by(_s.c.id.desc())
                .offset(LOGIN_LINKS_MAX)
            )
            connection.execute(delete(_s).where(_s.c.id.in_([row.id for row in connection.execute(waiting)])))
            note(connection, actor=actor, action="session.login_token", subject=principal, now=now)
            return token

        return await self._writer.run(change)

    async def redeem(self, login_token: str, now: WallMs) -> LoginResult:
        def change(connection: Connection) -> LoginResult:
            used = delete(_s).where(_s.c.token_digest == token_digest(login_token), _s.c.once.is_(True))
            row = connection.execute(used.returning(_s.c.principal, _s.c.expires_wall_ms)).first()
            principal = principals.find(connection, _p.c.id == row.principal) if row is not None else None
            if row is None or row.expires_wall_ms <= now or principal is None or principal.disabled:
                return NOBODY
            return _open(connection, principal, actor=principal.id, action="session.redeem", now=now)

        return await self._writer.run(change)


def _open(connection: Connection, principal: Principal, *, actor: str, action: str, now: WallMs) -> LoginResult:
    token = new_token(SESSION_PREFIX)
    session = _insert(connection, token, principal, now, SESSION_TTL_S * 1000, once=False)
    connection.execute(delete(_s).where(_s.c.expires_wall_ms <= now))
    note(connection, actor=actor, action=action, subject=session.id, now=now, name=principal.name)
    return LoginResult(token, session)


def _insert(connection: Connection, token: str, principal: Principal, now: WallMs, ttl_ms: int, *, once: bool) -> Session:
    session = Session(id=new_id("ses", now), principal=principal, created_wall_ms=now, expires_wall_ms=now + ttl_ms)
    row = {"id": session.id, "token_digest": token_digest(token), "principal": principal.id, "once": once}
    connection.execute(insert(_s).values(created_wall_ms=now, expires_wall_ms=session.expires_wall_ms, **row))
    return session


def _able(connection: Connection, principal: str) -> Principal:
    found = principals.find(connection, _p.c.id == principal)
    if found is None:
        raise NotFound(f"no principal {principal!r}")
    if found.disabled:
        raise Refused(f"{found.name} is disabled")
    return found


def _throttle_ms(connection: Connection, subjects: tuple[str, ...], now: WallMs) -> int:
    """Until the oldest failure that counts against a subject falls out of the window; 0 when a try is free."""
    wait_ms = 0
    for subject in subjects:
        recent = (
            select(_f.c.at_wall_ms)
            .where(_f.c.subject == subject, _f.c.at_wall_ms > now - FAILURE_WINDOW_MS)
            .order_by(_f.c.at_wall_ms.desc())
            .limit(LOGIN_FAILURES_PER_MINUTE_MAX)
        )
        times = [row.at_wall_ms for row in connection.execute(recent)]
        if len(times) == LOGIN_FAILURES_PER_MINUTE_MAX:
            wait_ms = max(wait_ms, times[-1] + FAILURE_WINDOW_MS - now)
    return wait_ms


def _failed(connection: Connection, subjects: tuple[str, ...], name: str, now: WallMs) -> None:
    connection.execute(delete(_f).where(_f.c.at_wall_ms <= now - FAILURE_WINDOW_MS))
    if (
        int(connection.execute(select(func.count()).select_from(_f)).scalar_one())
        >= LOGIN_SUBJECTS_MAX * LOGIN_FAILURES_PER_MINUTE_MAX
    ):
        oldest = select(_f.c.id).order_by(_f.c.at_wall_ms).limit(len(subjects))
        connection.execute(delete(_f).where(_f.c.id.in_([row.id for row in connection.execute(oldest)])))
    for subject in subjects:
        connection.execute(insert(_f).values(id=new_id("lgf", now), subject=subject, at_wall_ms=now))
    known = principals.find(connection, _p.c.name == name)
    note(connection, actor=known.id if known else "nobody", action="session.login_failed", subject=subjects[-1], now=now)
