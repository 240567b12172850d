"""Leases over the link: grants, returns and expiry go to the ledger; what a dead gateway left is reconciled from the facts.

A gateway that says Hello again without a block will never settle it: the block expires and counts as spent. Once its spool has been
emptied (a segment begun after the Hello is stored, or nothing has come for LEASE_RECONCILE_QUIET_MS), the facts say what was really drawn.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from headway.kernel.errors import HeadwayError
from headway.kernel.instants import MonoNs, WallMs, mono_ns, ms_between
from headway.kernel.limits import LEASE_RECONCILE_QUIET_MS, LEASE_RETURNS_WAITING_MAX, LEDGER_TICK_MS
from headway.ledger.model import LeaseRecord
from headway.ledger.port import Budgets, LeaseAt, LedgerError
from headway.link.messages import LeaseGranted, LeaseRefused, LeaseReturned, LeaseWanted

log = logging.getLogger(__name__)
Charges = Callable[[Sequence[LeaseRecord]], Awaitable[dict[str, int]]]
"""What the facts say each lease was charged, in its own unit. Raises HeadwayError when they cannot be asked."""


class Closes(Protocol):
    def close_lease(self, gateway: str, lease: str) -> None: ...


@dataclass(slots=True)
class _Life:
    """One gateway since its last Hello."""

    said_hello: WallMs
    kept: frozenset[str]
    last_news: MonoNs
    clock_ms: int | None = None
    """The gateway's own clock at its first heartbeat, which dates its segments."""
    unstored: set[str] = field(default_factory=set)
    emptied: bool = False
    reconciled: bool = False


class LeaseDesk:
    """What the link asks about leases. Nothing here raises LedgerError: the link stays up while the store is away."""

    def __init__(
        self, budgets: Budgets, charges: Charges, *, now: Callable[[], WallMs], mono: Callable[[], MonoNs] = mono_ns
    ) -> None:
        self._budgets, self._charges, self._now, self._mono = budgets, charges, now, mono
        self._lives: dict[str, _Life] = {}
        self._returns: OrderedDict[str, LeaseReturned] = OrderedDict()
        """Not yet in the ledger, the last word of each lease: what is spent only grows, so it says all."""
        self._hellos: dict[str, tuple[tuple[str, ...], WallMs]] = {}
        self.problem = ""
        """Why the last attempt failed; empty when all is well."""

    async def hello(self, gateway: str, open_leases: tuple[str, ...]) -> Sequence[str]:
        """A gateway is there, holding these. Those of them that it must return."""
        now = self._now()
        self._lives[gateway] = _Life(now, frozenset(open_leases), self._mono())
        self._hellos[gateway] = (open_leases, now)
        await self._retry_returns()
        return await self._say_hello(gateway)

    def gone(self, gateway: str) -> None:
        self._lives.pop(gateway, None)
        self._hellos.pop(gateway, None)

    async def wanted(self, gateway: str, wish: LeaseWanted) -> LeaseGranted | LeaseRefused:
        try:
            granted = await self._budgets.grant(wish.budget, wish.amount, gateway=gateway, request=wish.request, now=self._now())
        except LedgerError as error:
            self.problem = str(error)
            return LeaseRefused(budget=wish.budget, request=wish.request, reason=f"the ledger is away: {error}")
        self.problem = ""
        if granted.lease is None:
            return LeaseRefused(budget=wish.budget, request=wish.request, reason=granted.reason, resets_in_ms=granted.resets_in_ms)
        return LeaseGranted(lease=granted.lease, request=wish.request)

    async def returned(self, message: LeaseReturned) -> None:
        waiting = self._returns.pop(message.lease, None)
        if waiting is not None:  # the words come in order, but a final one stays final
            message = LeaseReturned(
                lease=message.lease, spent=max(waiting.spent, message.spent), final=waiting.final or message.final
            )
        self._returns[message.lease] = message
        while len(self._returns) > LEASE_RETURNS_WAITING_MAX:
            lost, _ = self._returns.popitem(last=False)
            log.warning("too many settlements wait for the ledger: lease %s will be reconciled from the facts", lost)
        await self._retry_returns()

    async def undelivered(self, granted: LeaseGranted) -> None:
        """The gateway had gone before a grant could be sent: nothing was drawn from it."""
        await self.returned(LeaseReturned(lease=granted.lease.id, spent=0, final=True))

    def heartbeat(self, gateway: str, at_wall_ms: int) -> None:
        life = self._lives.get(gateway)
        if life is not None and life.clock_ms is None:
            life.clock_ms = at_wall_ms

    def segment_came(self, gateway: str, segment: str) -> None:
        if life := self._lives.get(gateway):
            life.last_news = self._mono()
            life.unstored.add(segment)

    def segment_stored(self, gateway: str, segment: str) -> None:
        if life := self._lives.get(gateway):
            life.last_news = self._mono()
            life.unstored.discard(segment)
            begun = segment.partition("-")[0]
            if life.clock_ms is not None and begun.isdigit() and int(begun) > life.clock_ms and not life.unstored:
                life.emptied = True

    async def tick(self) -> None:
        """Try again what failed, expire what is over, reconcile what can be."""
        await self._retry_returns()
        for gateway in tuple(self._hellos):
            await self._say_hello(gateway)
        try:
            for record in await self._budgets.expire(self._now()):
                log.warning(
                    "lease %s of gateway %s expired with %d of %d reported", record.id, record.gateway, record.spent, record.amount
                )
            self.problem = ""
        except LedgerError as error:
            self.problem = str(error)
            return
        for gateway, life in tuple(self._lives.items()):
            if not life.reconciled and self._emptied(life):
                await self._reconcile(gateway, life)

    async def run(self) -> None:
        while True:
            await self.tick()
            await asyncio.sleep(LEDGER_TICK_MS / 1000)

    def _emptied(self, life: _Life) -> bool:
        quiet = ms_between(life.last_news, self._mono()) >= LEASE_RECONCILE_QUIET_MS
        return life.emptied or (quiet and not life.unstored)

    async def _reconcile(self, gateway: str, life: _Life) -> None:
        try:
            left = [r for r in await self._budgets.unsettled(gateway, life.said_hello) if r.id not in life.kept]
            if left:
                for record in await self._budgets.reconcile(await self._charges(left), self._now()):
                    log.info("lease %s reconciled from the facts: %d of %d spent", record.id, record.spent, record.amount)
        except (HeadwayError, OSError) as error:  # the blocks stay spent, and this is tried again
            self.problem = f"leases of gateway {gateway} could not be reconciled: {error}"
            log.warning("%s", self.problem)
            return
        life.reconciled = True

    async def _say_hello(self, gateway: str) -> Sequence[str]:
        said = self._hellos.get(gateway)
        if said is None:
            return ()
        try:
            back = await self._budgets.hello(gateway, said[0], said_wall_ms=said[1], now=self._now())
        except LedgerError as error:
            self.problem = str(error)
            return ()
        if self._hellos.get(gateway) is said:
            del self._hellos[gateway]
        return back

    async def _retry_returns(self) -> None:
        for lease, message in tuple(self._returns.items()):
            try:
                await self._budgets.give_back(lease, message.spent, final=message.final, now=self._now())
            except LedgerError as error:
                self.problem = str(error)
                return
            if self._returns.get(lease) is message:
                del self._returns[lease]


async def close_all(closing: Sequence[LeaseAt], link: Closes) -> None:
    """Tell the gateways which blocks to return."""
    for at in closing:
        link.close_lease(at.gateway, at.lease)
