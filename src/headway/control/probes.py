"""Control's probe job: asks the schedule what is due and sends it through the gateway's own door, with a key that control made and nobody else has.

Calls with that key are of origin ``probe``, charged to ``probes.tenant`` and stand in the facts like all others; reports about clients leave them out. What a
round costs is set aside before it begins (invariant PRB-1, ``calls/phases/probes.py``), then settled with what the answers report, and each look at the facts
corrects it: after a restart, and where several controls probe on one account.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from headway.calls.phases.probes import DAY_MS, PROMPT_REF, ROUND, Held, Lane, ProbeKind, ProbeSchedule, round_costs
from headway.calls.pricing import PriceRow, PriceTable, cost
from headway.config.addresses import reach
from headway.config.model import Settings
from headway.control.errors import Refused
from headway.control.probes_http import ProbeCall, send
from headway.control.probes_plan import body, caps, plans
from headway.facts.answers import FactsAway
from headway.facts.probes import ProbeSpent
from headway.kernel.instants import WallMs
from headway.kernel.limits import HEADER_VALUE_CHARS_MAX, PROBE_RESULTS_KEPT_MAX, PROBE_TIMEOUT_MS, PROBES_IN_FLIGHT_MAX
from headway.ledger.keys import mint
from headway.ledger.model import KeyRecord

log = logging.getLogger(__name__)
TICK_S = 1.0
FACTS_EVERY_MS = 60_000
FACTS_LATE_MS = 15 * 60_000
PRINCIPAL = "headway-probes"


class ProbeFacts(Protocol):
    async def probe_spent(self, since_wall_ms: int, until_wall_ms: int) -> Sequence[ProbeSpent]:
        """What probes have cost, by route. May raise ``FactsAway``."""
        ...


class ProbeResult(msgspec.Struct, frozen=True, kw_only=True):
    """One call of a round. ``cost_nano_usd``: as its answer reports it, else its upper bound; None where the price is unknown."""

    at_wall_ms: int
    kind: str
    call: str
    problem: str
    cost_nano_usd: int | None


class ProbeView(msgspec.Struct, frozen=True, kw_only=True):
    """A route as page and command show it."""

    route: str
    on: bool
    every_ms: int
    due_wall_ms: int | None
    """None while it is not on the schedule."""
    running: bool
    refused: str
    """Why the last round did not go; empty when it went."""
    round_nano_usd_max: int | None
    """None: the price is unknown."""
    results: tuple[ProbeResult, ...] = ()
    """Newest first."""


class ProbesView(msgspec.Struct, frozen=True, kw_only=True):
    tenant: str
    cap_nano_usd: int
    spent_nano_usd: int
    reserved_nano_usd: int
    routes: tuple[ProbeView, ...]
    left_out: int = 0
    problem: str = ""


class ProbeJob:
    """Lives on control's loop. ``own_key`` goes into each snapshot; its text stays here."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        prices: Callable[[], PriceTable],
        facts: ProbeFacts,
        *,
        seed: int,
        clock: Callable[[], WallMs],
    ) -> None:
        self._settings, self._prices, self._facts, self._clock = settings, prices, facts, clock
        self._key = mint(clock())
        self._schedule = ProbeSchedule(seed)
        self._wanted: tuple[Settings, PriceTable] | None = None
        self._read_ms: int | None = None
        self._results: dict[str, deque[ProbeResult]] = {}
        self._rounds: set[asyncio.Task[None]] = set()
        self._at_once = asyncio.Semaphore(PROBES_IN_FLIGHT_MAX)
        self.problem = ""
        """Why nothing is probed now; empty when probes go, or none are wanted."""

    def own_key(self, settings: Settings) -> KeyRecord:
        """The record that gateways know. Whoever reads a snapshot has its digest and no more."""
        tenant = settings.probes.tenant
        return KeyRecord(id=self._key.id, digest=self._key.digest, principal=PRINCIPAL, tenant=tenant, name=PRINCIPAL)

    async def run(self) -> None:
        try:
            while True:
                await asyncio.sleep(TICK_S)
                await self.tick()
        finally:
            for task in self._rounds:
                task.cancel()
            await asyncio.gather(*self._rounds, return_exceptions=True)

    async def tick(self) -> None:
        """Start what is due."""
        self._install()
        if not any(lane.plan.on for lane in self._schedule.lanes.values()):
            self.problem = ""
            return
        if await self._money_known():
            for held in self._schedule.due(self._clock()):
                self._begin(held)

    async def start(self, route: str) -> Sequence[str]:
        """Begin a round of one route, or of all on the schedule, now. ``Refused`` for a route that is none, and where nothing may go."""
        self._install()
        lanes = self._schedule.lanes
        routes = [route] if route else [name for name, lane in lanes.items() if lane.plan.on]
        if route and route not in lanes:
            known = ", ".join(lanes) or "none: name models under providers or in features"
            raise Refused.missing(f"route {route[:HEADER_VALUE_CHARS_MAX]!r} to probe", f"routes are {known}")
        if not routes:
            raise Refused.bad("no route is on the schedule", "name one, or set probes.on")
        if not await self._money_known():
            raise Refused.away("what probes have cost today", self.problem)
        holds = [held for name in routes if (held := self._schedule.take(name, self._clock())) is not None]
        if not holds:
            raise Refused.bad(f"{routes[0]} is not probed: {lanes[routes[0]].refused}", "headway probes list")
        for held in holds:
            self._begin(held)
        return [held.route for held in holds]

    def view(self) -> ProbesView:
        self._install()
        purse = self._schedule.purses[""]
        purse.turn(self._clock())
        return ProbesView(
            tenant=self._settings().probes.tenant,
            cap_nano_usd=purse.cap,
            spent_nano_usd=purse.spent,
            reserved_nano_usd=purse.reserved,
            routes=tuple(self._view(lane) for lane in self._schedule.lanes.values()),
            left_out=self._schedule.left_out,
            problem=self.problem,
        )

    def _view(self, lane: Lane) -> ProbeView:
        plan = lane.plan
        return ProbeView(
            route=plan.route,
            on=plan.on,
            every_ms=lane.every_ms,
            due_wall_ms=lane.due_ms if plan.on else None,
            running=lane.running,
            refused=lane.refused,
            round_nano_usd_max=lane.cost,
            results=tuple(self._results.get(plan.route, ())),
        )

    def _install(self) -> None:
        """Take up settings and prices when either has changed."""
        now = (self._settings(), self._prices())
        if self._wanted is None or now[0] is not self._wanted[0] or now[1] is not self._wanted[1]:
            self._schedule.want(plans(*now), caps(now[0]), self._clock())
            self._results = {route: kept for route, kept in self._results.items() if route in self._schedule.lanes}
            self._wanted, self._read_ms = now, None

    async def _money_known(self) -> bool:
        """Whether the facts have told lately what was spent today. Before they ever did, nothing goes."""
        now = self._clock()
        # What runs now may be in the facts in part, and would count twice: they are read between rounds, as long as that can be had.
        fresh_ms = FACTS_LATE_MS if self._rounds else FACTS_EVERY_MS
        if self._read_ms is not None and now // DAY_MS == self._read_ms // DAY_MS and now - self._read_ms < fresh_ms:
            return True
        day = now // DAY_MS * DAY_MS
        try:
            rows = await self._facts.probe_spent(day, day + DAY_MS)
        except FactsAway as away:
            self.problem = f"probes wait, since it is not known what they have cost today: {away}"
            return False
        spent: dict[str, int] = {"": 0}
        for row in rows:
            provider = row.route.partition("/")[0]
            spent[""] += row.nano_usd
            spent[provider] = spent.get(provider, 0) + row.nano_usd
        self._schedule.spent(spent, now)
        self._read_ms, self.problem = now, ""
        return True

    def _begin(self, held: Held) -> None:
        task = asyncio.create_task(self._round(held, self._schedule.lanes[held.route]))
        self._rounds.add(task)
        task.add_done_callback(self._rounds.discard)

    async def _round(self, held: Held, lane: Lane) -> None:
        uppers = round_costs(lane.plan)
        spent = 0
        try:
            async with self._at_once:
                for kind in ROUND:
                    upper = uppers[ROUND.index(kind)] if uppers is not None else None
                    spent += await self._one(held, kind, lane.plan.price, upper)
        finally:
            self._schedule.ended(held, spent, self._clock())

    async def _one(self, held: Held, kind: ProbeKind, price: PriceRow | None, upper: int | None) -> int:
        settings = self._settings()
        at = self._clock()
        asked = body(settings, held.route, kind, f"{self._schedule.seed}/{held.route}", held.number)
        headers = {"x-headway-prompt": PROMPT_REF + kind, "x-headway-deadline-ms": str(PROBE_TIMEOUT_MS)}
        found = await send(settings.probes.gateway or reach(settings.gateway.listen), self._key.text, asked, headers)
        paid = _paid(found, price, upper)
        if found.problem:
            log.warning("a probe of %s failed: %s", held.route, found.problem, extra={"fields": {"call": found.call, "kind": kind}})
        kept = self._results.setdefault(held.route, deque(maxlen=PROBE_RESULTS_KEPT_MAX))
        kept.appendleft(ProbeResult(at_wall_ms=at, kind=kind, call=found.call, problem=found.problem, cost_nano_usd=paid))
        return paid or 0


def _paid(found: ProbeCall, price: PriceRow | None, upper: int | None) -> int | None:
    """What a call cost: by its usage; nothing where the gateway refused it; the upper bound where nobody knows."""
    if 400 <= found.status < 500:
        return 0
    known = cost(found.usage, price).nano_usd if found.usage is not None else None
    return int(known) if known is not None else upper
