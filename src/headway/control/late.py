"""A ledger that may not be there yet: control starts without it, says so, and takes it up when it answers."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, cast

from headway.kernel.errors import ConfigError
from headway.kernel.instants import WallMs, wall_ms
from headway.kernel.limits import LEDGER_TICK_MS
from headway.ledger.port import Audit, Budgets, Generations, Keys, LedgerUnavailable, Principals, Sessions
from headway.ledger.store import Ledger, open_ledger

log = logging.getLogger(__name__)
OPEN_TIMEOUT_S = 15.0


class _Subject:
    """Every method of one subject; ``LedgerUnavailable`` from each until the ledger is open."""

    def __init__(self, late: "LateLedger", name: str) -> None:
        self._late, self._name = late, name

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Any]]:
        async def call(*args: object, **named: object) -> Any:
            subject = getattr(self._late.opened(), self._name)
            return await getattr(subject, method)(*args, **named)

        return call


class LateLedger:
    """The ledger's subjects by the same names as ``ledger.store.Ledger``; ``problem`` says why it is away."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._ledger: Ledger | None = None
        self._ready = asyncio.Event()
        self.problem = "the ledger is being opened"
        self.principals = cast(Principals, _Subject(self, "principals"))
        self.keys = cast(Keys, _Subject(self, "keys"))
        self.sessions = cast(Sessions, _Subject(self, "sessions"))
        self.budgets = cast(Budgets, _Subject(self, "budgets"))
        self.audit = cast(Audit, _Subject(self, "audit"))
        self.generations = cast(Generations, _Subject(self, "generations"))

    def opened(self) -> Ledger:
        """The ledger. ``LedgerUnavailable`` while it is away."""
        if self._ledger is None:
            raise LedgerUnavailable(self.problem)
        return self._ledger

    def now(self) -> WallMs:
        """The ledger's time; this process' while the ledger is away."""
        return self._ledger.now() if self._ledger is not None else wall_ms()

    async def try_open(self) -> bool:
        """One attempt; whether the ledger is open now. ``ConfigError`` for an address that can never work."""
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                self._ledger = await open_ledger(self._url)
        except TimeoutError:
            self._away(f"the ledger did not answer within {OPEN_TIMEOUT_S:.0f} s")
        except LedgerUnavailable as error:
            self._away(str(error))
        else:
            self.problem = ""
            self._ready.set()
        return self._ledger is not None

    async def wait(self) -> None:
        """Until the ledger is open."""
        await self._ready.wait()

    async def run(self) -> None:
        """Keep trying until it opens; then look after it: its clock is compared and its absence noticed."""
        while True:
            await asyncio.sleep(LEDGER_TICK_MS / 1000)
            try:
                await self._look()
            except ConfigError as error:
                self._away(str(error))

    async def close(self) -> None:
        """Finish what is queued."""
        if self._ledger is not None:
            await self._ledger.close()

    async def _look(self) -> None:
        if self._ledger is None:
            if await self.try_open():
                log.info("the ledger is open")
            return
        try:
            await self._ledger.ping()
            await self._ledger.compare_clocks()
        except LedgerUnavailable as error:
            self._away(str(error))
        else:
            if self.problem:
                log.info("the ledger answers again")
            self.problem = ""

    def _away(self, problem: str) -> None:
        if problem != self.problem:
            log.warning("%s", problem)
        self.problem = problem
