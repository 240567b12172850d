"""Puts a snapshot together and keeps the gateways at it: configuration, usable keys, prices of the day, budget scopes.

One lock orders all that goes down, so that a snapshot read before a revocation can never follow it: after each snapshot the keys are
pushed from the version it was read at.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from headway.calls.pricing import PriceTable
from headway.config.model import Control, Settings
from headway.kernel.instants import WallMs
from headway.kernel.limits import LEDGER_TICK_MS
from headway.ledger.budgets import block_size
from headway.ledger.model import BudgetState, KeyRecord
from headway.ledger.port import Budgets, Keys, LedgerError
from headway.link.messages import BudgetScope, KeysChanged, Snapshot

log = logging.getLogger(__name__)
CompilePrices = Callable[[Settings, WallMs], PriceTable]


class Down(Protocol):
    """The link, as far as this is concerned."""

    def publish(self, snapshot: Snapshot) -> None: ...
    def publish_keys(self, changed: KeysChanged) -> None: ...


class Publisher:
    """``put_in_force`` with each generation, ``republish`` when a budget beside the settings changed, ``push_keys`` when a key did."""

    def __init__(
        self,
        keys: Keys,
        budgets: Budgets,
        link: Down,
        compile_prices: CompilePrices,
        *,
        now: Callable[[], WallMs],
        own_key: Callable[[Settings], KeyRecord] | None = None,
    ) -> None:
        self._keys, self._budgets, self._link, self._compile, self._now = keys, budgets, link, compile_prices, now
        self._own_key = own_key
        self._lock = asyncio.Lock()
        self._settings: Settings | None = None
        self._generation = 0
        self._keys_version = 0
        self._behind = False
        """Budgets have changed and could not be sent."""
        self.prices = PriceTable(version="none")
        self.problem = ""
        """Why the last attempt failed; empty when all is well."""

    async def put_in_force(self, settings: Settings, generation: int) -> None:
        """Send a new generation. Raises LedgerError when keys or budgets cannot be read: the old one stays."""
        prices = await asyncio.to_thread(self._compile, settings, self._now())
        async with self._lock:
            await self._publish(settings, generation, prices)

    async def republish(self) -> None:
        """Send the generation in force again with fresh keys, budgets and prices. Raises LedgerError."""
        async with self._lock:  # from here on the generation in force stays what it is
            if self._settings is not None:
                prices = await asyncio.to_thread(self._compile, self._settings, self._now())
                await self._publish(self._settings, self._generation, prices)
                self._behind = False

    async def budgets_changed(self) -> None:
        """Send the budgets now; where the ledger does not answer, at the next tick that it does."""
        self._behind = True
        try:
            await self.republish()
        except LedgerError as error:
            self.problem = str(error)

    async def push_keys(self) -> None:
        """Send the keys that changed since the last look. Raises LedgerError."""
        async with self._lock:
            await self._push_keys()

    async def run(self) -> None:
        """Look for keys that another process changed, and for prices that are due, each second."""
        while True:
            await asyncio.sleep(LEDGER_TICK_MS / 1000)
            await self.tick()

    async def tick(self) -> None:
        try:
            await self.push_keys()
            due = self.prices.valid_until_wall_ms
            if self._behind or (due is not None and self._now() >= due):
                await self.republish()
            self.problem = ""
        except LedgerError as error:
            if not self.problem:
                log.warning("changes of keys are not seen: %s", error)
            self.problem = str(error)

    async def _publish(self, settings: Settings, generation: int, prices: PriceTable) -> None:
        now = self._now()
        keys = await self._keys.for_gateways(now)
        states = await self._budgets.states(now)
        own = self._own_key(settings) if self._own_key is not None else None
        snapshot = Snapshot(
            generation=generation,
            made_wall_ms=now,
            settings=for_gateways(settings),
            keys=keys.upserted if own is None else (*keys.upserted, own),
            prices=prices,
            budgets=scopes(states),
            probe_key=own.id if own is not None else "",
        )
        self._link.publish(snapshot)
        self._settings, self._generation, self.prices = settings, generation, prices
        self._keys_version = keys.version
        await self._push_keys()

    async def _push_keys(self) -> None:
        if self._settings is None:
            return
        changed = await self._keys.since(self._keys_version)
        if changed.upserted or changed.removed:
            self._link.publish_keys(KeysChanged(upserted=changed.upserted, removed=changed.removed))
        self._keys_version = changed.version


def scopes(states: Sequence[BudgetState]) -> tuple[BudgetScope, ...]:
    return tuple(
        BudgetScope(budget=s.id, scope=s.scope, unit=s.unit, block=block_size(s.cap_wanted), cap=s.cap_wanted) for s in states
    )


def for_gateways(settings: Settings) -> Settings:
    """Without control's own table: the address of its store may hold a password, and no gateway reads it."""
    return msgspec.structs.replace(settings, control=Control())
