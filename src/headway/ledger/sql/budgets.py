"""Budgets and leases: each change loads a budget's period under a row lock, asks the rules in ``ledger/budgets.py``, and stores what they say.

Two controls on one Postgres take turns at the lock, so they never lend the same money twice. Budgets are always locked in order of id.
"""

from collections.abc import Iterable, Sequence

from msgspec.structs import asdict
from sqlalchemy import Connection, RowMapping, and_, delete, insert, select, update

from headway.kernel.ids import new_id
from headway.kernel.instants import WallMs
from headway.kernel.limits import LEASES_KEPT_DAYS
from headway.ledger import budgets as rules
from headway.ledger import schema
from headway.ledger.model import BudgetSpec, BudgetState, Lease, LeaseRecord, LeaseState
from headway.ledger.port import Granted, LeaseAt
from headway.ledger.sql.base import Store, note, struct

FROM_SETTINGS = "settings"
FROM_LEDGER = "ledger"
DAY_MS = 86_400_000
_b, _p, _l = schema.budgets, schema.budget_periods, schema.leases
_STATE = (_b.c.id, _b.c.scope, _b.c.unit, _b.c.period, _b.c.cap_wanted, _b.c.active)
_PERIOD = (_p.c.period_start_wall_ms, _p.c.period_end_wall_ms, _p.c.cap, _p.c.spent, _p.c.leased, _p.c.overrun)


class SqlBudgets(Store):
    async def sync(self, specs: Sequence[BudgetSpec], now: WallMs) -> Sequence[LeaseAt]:
        def change(connection: Connection) -> list[LeaseAt]:
            named = {spec.id: spec for spec in specs}
            known = select(_b.c.id, _b.c.scope, _b.c.unit, _b.c.period, _b.c.cap_wanted.label("cap")).where(
                _b.c.source == FROM_SETTINGS
            )
            gone = [
                struct(row, BudgetSpec, without=("id",)) for row in connection.execute(known).mappings() if row["id"] not in named
            ]
            back: list[LeaseAt] = []
            for spec in sorted((*specs, *gone), key=lambda s: s.id):
                back += _restate(connection, spec, active=spec.id in named, source=FROM_SETTINGS, now=now)
            return back

        return await self._writer.run(change, locks=None)

    async def set_one(self, spec: BudgetSpec, *, active: bool = True, actor: str, now: WallMs) -> Sequence[LeaseAt]:
        def change(connection: Connection) -> list[LeaseAt]:
            note(
                connection,
                actor=actor,
                action="budget.set" if active else "budget.end",
                subject=spec.id,
                now=now,
                cap=str(spec.cap),
            )
            return _restate(connection, spec, active=active, source=FROM_LEDGER, now=now)

        return await self._writer.run(change, locks=spec.id)

    async def states(self, now: WallMs) -> Sequence[BudgetState]:
        def read(connection: Connection) -> list[BudgetState]:
            rows = connection.execute(select(*_STATE).where(_b.c.active.is_(True)).order_by(_b.c.id)).mappings().all()
            return [_read_period(connection, row, now) for row in rows]

        return await self._reader.run(read)

    async def history(self, budget: str, limit: int) -> Sequence[BudgetState]:
        wanted = select(*_STATE, *_PERIOD).join(_p, _p.c.budget == _b.c.id).where(_b.c.id == budget)
        newest = wanted.order_by(_p.c.period_start_wall_ms.desc()).limit(limit)
        return await self._reader.run(lambda c: [struct(row, BudgetState) for row in c.execute(newest).mappings()])

    async def grant(self, budget: str, amount: int, *, gateway: str, request: str, now: WallMs) -> Granted:
        lease = new_id("lea", now)
        return await self._writer.run(lambda c: _grant(c, budget, amount, lease, gateway, request, now), locks=budget)

    async def give_back(self, lease: str, spent: int, *, final: bool, now: WallMs) -> LeaseRecord | None:
        at = await self._reader.run(lambda c: _place_of(c, lease))
        if at is None:
            return None

        def change(connection: Connection) -> LeaseRecord:
            state = _locked(connection, *at)
            record = _lease(connection, lease)
            return _store(
                connection, rules.returned(state, record, spent) if final else rules.reported(state, record, spent, now), record
            )

        return await self._writer.run(change, locks=at[0])

    async def hello(self, gateway: str, open_leases: Sequence[str], *, said_wall_ms: WallMs, now: WallMs) -> Sequence[str]:
        def change(connection: Connection) -> list[str]:
            mine = _leases(connection, and_(_l.c.gateway == gateway, _l.c.state == LeaseState.OPEN))
            held = set(open_leases)
            _expire(connection, [r for r in mine if r.id not in held and r.granted_wall_ms < said_wall_ms])
            for record in sorted((r for r in mine if r.id in held), key=_order):
                state = _locked(connection, *_at(record))
                fresh = _lease(connection, record.id)
                _store(connection, rules.reported(state, fresh, fresh.spent, now), fresh)
            good = {record.id for record in mine if not record.closing}
            return [lease for lease in open_leases if lease not in good]

        return await self._writer.run(change, locks=None)

    async def expire(self, now: WallMs) -> Sequence[LeaseRecord]:
        def change(connection: Connection) -> list[LeaseRecord]:
            old = and_(_l.c.state != LeaseState.OPEN, _l.c.expires_wall_ms <= now - LEASES_KEPT_DAYS * DAY_MS)
            connection.execute(delete(_l).where(old))
            return _expire(connection, _leases(connection, and_(_l.c.state == LeaseState.OPEN, _l.c.expires_wall_ms <= now)))

        return await self._writer.run(change, locks=None)

    async def unsettled(self, gateway: str, granted_before: WallMs) -> Sequence[LeaseRecord]:
        running = select(_b.c.period).distinct()

        def read(connection: Connection) -> list[LeaseRecord]:
            periods = [row.period for row in connection.execute(running)]
            oldest = min((rules.period_bounds(period, granted_before)[0] for period in periods), default=granted_before)
            waiting = _l.c.state.in_([LeaseState.EXPIRED, LeaseState.RECONCILED])
            return _leases(
                connection,
                and_(_l.c.gateway == gateway, waiting, _l.c.granted_wall_ms <= granted_before, _l.c.period_start_wall_ms >= oldest),
            )

        return await self._reader.run(read)

    async def reconcile(self, charged: dict[str, int], now: WallMs) -> Sequence[LeaseRecord]:
        def change(connection: Connection) -> list[LeaseRecord]:
            changed = []
            for record in sorted(_leases(connection, _l.c.id.in_(list(charged))), key=_order):
                state = _locked(connection, *_at(record))
                fresh = _lease(connection, record.id)
                after = _store(connection, rules.reconciled(state, fresh, charged[fresh.id]), fresh)
                if after != fresh:
                    changed.append(after)
            return changed

        return await self._writer.run(change, locks=None)


def _grant(connection: Connection, budget: str, amount: int, lease: str, gateway: str, request: str, now: WallMs) -> Granted:
    row = connection.execute(select(*_STATE).where(_b.c.id == budget)).mappings().first()
    if row is None or not row["active"]:
        return Granted(None, "there is no such budget any more")
    state = _current(connection, row, now)
    same = and_(
        _l.c.gateway == gateway,
        _l.c.request == request,
        _l.c.budget == budget,
        _l.c.state == LeaseState.OPEN,
        _l.c.closing.is_(False),
    )
    known = [record for record in _leases(connection, same) if record.period_start_wall_ms == state.period_start_wall_ms]
    if known:
        return Granted(_told(known[0], max(0, min(rules.lease_ttl_ms(state, now), known[0].expires_wall_ms - now))))
    step = rules.granted(state, amount, lease=lease, gateway=gateway, request=request, now=now)
    if step is None:
        resets_in_ms = None if state.period_end_wall_ms is None else state.period_end_wall_ms - now
        return Granted(None, f"the {state.period}'s budget of {state.scope} is spent or lent out", resets_in_ms)
    connection.execute(insert(_l).values(asdict(step.lease)))
    _save(connection, step.budget)
    return Granted(_told(step.lease, rules.lease_ttl_ms(state, now)))


def _told(record: LeaseRecord, ttl_ms: int) -> Lease:
    return Lease(id=record.id, budget=record.budget, scope=record.scope, unit=record.unit, amount=record.amount, ttl_ms=ttl_ms)


def _restate(connection: Connection, spec: BudgetSpec, *, active: bool, source: str, now: WallMs) -> list[LeaseAt]:
    """Write what is stated of a budget and let its running period follow. Leases that must come back, each named once and marked."""
    stated = {"cap_wanted": spec.cap, "active": active, "source": source}
    if connection.execute(update(_b).where(_b.c.id == spec.id).values(**stated)).rowcount == 0:
        connection.execute(insert(_b).values(id=spec.id, scope=spec.scope, unit=spec.unit, period=spec.period, **stated))
    row = connection.execute(select(*_STATE).where(_b.c.id == spec.id)).mappings().one()
    state = rules.recapped(_current(connection, row, now), spec.cap, active=active)
    _save(connection, state)
    if not rules.must_close(state):
        return []
    out = and_(_l.c.budget == spec.id, _l.c.state == LeaseState.OPEN, _l.c.period_start_wall_ms == state.period_start_wall_ms)
    connection.execute(update(_l).where(out).values(closing=True))
    return [LeaseAt(record.gateway, record.id) for record in _leases(connection, out)]


def _current(connection: Connection, row: RowMapping, now: WallMs) -> BudgetState:
    """The running period, locked; opened when this is its first moment."""
    fresh = rules.opened(BudgetSpec(scope=row["scope"], unit=row["unit"], period=row["period"], cap=row["cap_wanted"]), now)
    if _period(connection, row["id"], fresh.period_start_wall_ms) is None:
        _open_period(connection, fresh)
    return _locked(connection, row["id"], fresh.period_start_wall_ms)


def _open_period(connection: Connection, fresh: BudgetState) -> None:
    """Insert unless another control has. The budget's own row serves as lock: it is there, the period's is not yet."""
    cap = connection.execute(select(_b.c.cap_wanted).where(_b.c.id == fresh.id).with_for_update()).scalar_one()
    if _period(connection, fresh.id, fresh.period_start_wall_ms) is None:
        row = {c.name: getattr(fresh, c.name) for c in _PERIOD} | {"cap": cap}
        connection.execute(insert(_p).values(budget=fresh.id, **row))


def _period(connection: Connection, budget: str, start: int) -> RowMapping | None:
    return connection.execute(select(*_PERIOD).where(_p.c.budget == budget, _p.c.period_start_wall_ms == start)).mappings().first()


def _read_period(connection: Connection, row: RowMapping, now: WallMs) -> BudgetState:
    """Like ``_current`` for readers: a period that has not been opened is shown as it would open."""
    fresh = rules.opened(BudgetSpec(scope=row["scope"], unit=row["unit"], period=row["period"], cap=row["cap_wanted"]), now)
    known = _period(connection, row["id"], fresh.period_start_wall_ms)
    return fresh if known is None else struct(dict(row) | dict(known), BudgetState)


def _locked(connection: Connection, budget: str, start: int) -> BudgetState:
    """Both rows are locked: Postgres reads a row afresh after waiting only if it waited for that row."""
    wanted = select(*_STATE, *_PERIOD).join(_p, _p.c.budget == _b.c.id).where(_b.c.id == budget, _p.c.period_start_wall_ms == start)
    return struct(connection.execute(wanted.with_for_update(of=(_b, _p))).mappings().one(), BudgetState)


def _save(connection: Connection, state: BudgetState) -> None:
    assert rules.holds(state), "BUD-1"
    row = {"cap": state.cap, "spent": state.spent, "leased": state.leased, "overrun": state.overrun}
    at = and_(_p.c.budget == state.id, _p.c.period_start_wall_ms == state.period_start_wall_ms)
    connection.execute(update(_p).where(at).values(**row))


def _store(connection: Connection, step: rules.Step, before: LeaseRecord) -> LeaseRecord:
    if step.lease != before:
        row = {"spent": step.lease.spent, "state": step.lease.state, "expires_wall_ms": step.lease.expires_wall_ms}
        connection.execute(update(_l).where(_l.c.id == before.id).values(**row))
        _save(connection, step.budget)
    return step.lease


def _expire(connection: Connection, records: Iterable[LeaseRecord]) -> list[LeaseRecord]:
    gone = []
    for record in sorted(records, key=_order):
        state = _locked(connection, *_at(record))
        fresh = _lease(connection, record.id)
        if (
            fresh.expires_wall_ms <= record.expires_wall_ms and fresh.state is LeaseState.OPEN
        ):  # not renewed while this waited for the lock
            gone.append(_store(connection, rules.expired(state, fresh), fresh))
    return gone


def _leases(connection: Connection, where: object) -> list[LeaseRecord]:
    wanted = select(_l).where(where).order_by(_l.c.budget, _l.c.id)  # type: ignore[arg-type]
    return [struct(row, LeaseRecord) for row in connection.execute(wanted).mappings()]


def _lease(connection: Connection, lease: str) -> LeaseRecord:
    return struct(connection.execute(select(_l).where(_l.c.id == lease)).mappings().one(), LeaseRecord)


def _place_of(connection: Connection, lease: str) -> tuple[str, int] | None:
    row = connection.execute(select(_l.c.budget, _l.c.period_start_wall_ms).where(_l.c.id == lease)).first()
    return None if row is None else (row.budget, row.period_start_wall_ms)


def _at(record: LeaseRecord) -> tuple[str, int]:
    return record.budget, record.period_start_wall_ms


def _order(record: LeaseRecord) -> tuple[str, int, str]:
    return record.budget, record.period_start_wall_ms, record.id
