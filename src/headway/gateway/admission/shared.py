"""Several gateways in front of one endpoint, fair together: each tells a shared store what it charged and has in flight, and hears the others.

No call waits for it. Every SHARED_EXCHANGE_MS each endpoint's counters are exchanged; when the store has been away for SHARED_AWAY_MS each
gateway goes on by its own counters with its part of the endpoint, says so (``/health/ready``, metric, board), and tells what it charged meanwhile
when the store is back.
"""

import asyncio
import logging
from typing import Protocol

from headway.calls.admission.counters import Counters, SharedCounters
from headway.calls.admission.others import Others
from headway.gateway.admission.shared_counters import Exchange, Store, StoreAway, Told
from headway.kernel.instants import MonoNs, mono_ns, ms_between
from headway.kernel.limits import SHARED_AWAY_MS, SHARED_EXCHANGE_MS, SHARED_TENANTS_A_TIME_MAX

PROBLEM = "shared counters"
log = logging.getLogger(__name__)


class Admitting(Protocol):
    """What is asked of admission. ``others_told`` carries out what may go now."""

    def own(self, endpoint: str, now: MonoNs) -> Others: ...

    def others_told(self, endpoint: str, others: Others, now: MonoNs) -> None: ...


class SharedEndpoint:
    """One endpoint's exchange. ``pending`` is one whose answer never came: it is sent again before anything else."""

    def __init__(self, counters: SharedCounters, now: MonoNs) -> None:
        self.counters = counters
        self.pending: Exchange | None = None
        self.number = 0
        self.heard_at: MonoNs = now
        self.others = Others()
        self.cursor = 0

    def next(self, own: Others) -> Exchange:
        """What is to be said now, of at most SHARED_TENANTS_A_TIME_MAX tenants: those with news, then the others in turn."""
        if self.pending is not None:
            return self.pending._replace(own=own)
        told, self.cursor = self.counters.telling(SHARED_TENANTS_A_TIME_MAX, self.cursor)
        self.number += 1
        self.pending = Exchange(self.number, own, {tenant: Told(*words) for tenant, words in told.items()})
        return self.pending


class SharedAdmission:
    """Makes each endpoint's counters (``counters_for``, called by admission) and keeps them exchanged (``run``)."""

    def __init__(self, store: Store, *, first_number: int, problems: dict[str, str]) -> None:
        """``first_number`` must be larger than any number of this gateway's earlier lives: wall milliseconds are. ``problems`` is where it is
        said that the store is away."""
        self._store, self._first, self._problems = store, first_number, problems
        self._endpoints: dict[str, SharedEndpoint] = {}
        self.exchanges = self.failures = 0

    def counters_for(self, endpoint: str) -> Counters:
        shared = self._endpoints.get(endpoint)
        if shared is None:
            shared = self._endpoints[endpoint] = SharedEndpoint(SharedCounters(), mono_ns())
            shared.number = self._first
        return shared.counters

    async def run(self, admitting: Admitting) -> None:
        while True:
            await asyncio.sleep(SHARED_EXCHANGE_MS / 1000)
            await asyncio.gather(*[self.exchange(admitting, name) for name in self._endpoints])

    async def close(self) -> None:
        await self._store.close()

    async def exchange(self, admitting: Admitting, name: str) -> None:
        """One round trip about one endpoint."""
        endpoint = self._endpoints[name]
        exchange = endpoint.next(admitting.own(name, mono_ns()))
        try:
            others, values = await self._store.exchange(name, exchange)
        except StoreAway as error:
            self.failures += 1
            self._failed(admitting, name, endpoint, str(error), mono_ns())
            return
        self.exchanges += 1
        now = mono_ns()
        if self._problems.pop(PROBLEM, None) is not None:
            log.warning("the shared store is back: tenants are shared out by all gateways together again")
        endpoint.pending, endpoint.heard_at, endpoint.others = None, now, others
        endpoint.counters.merge(values)
        endpoint.counters.mode = "shared"
        admitting.others_told(name, others, now)

    def _failed(self, admitting: Admitting, name: str, endpoint: SharedEndpoint, why: str, now: MonoNs) -> None:
        if PROBLEM not in self._problems and ms_between(endpoint.heard_at, now) >= SHARED_AWAY_MS:
            self._problems[PROBLEM] = f"{why}; each gateway shares out its own part of every endpoint until it is back"
            log.warning("shared counters: %s", self._problems[PROBLEM])
        if endpoint.counters.mode == "shared" and ms_between(endpoint.heard_at, now) >= SHARED_AWAY_MS:
            endpoint.counters.mode = "degraded"
            admitting.others_told(name, Others(gateways=endpoint.others.gateways, away=True), now)
