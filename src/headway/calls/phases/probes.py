"""Probes: small fixed calls of our own, by which a route can be held against itself. When each is due, and whether its money is there.

A **round** of one route is four calls, one after the other: a short prompt and a long one, each twice. The first of two begins with words that no
prompt had before, so no cache has it (cold); the second is the same text again (warm). So nothing is cold or warm by the clock's chance.

Pure: time is an argument and jitter follows from a seed. At most one round of a route runs at a time.
"""

import hashlib
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final

import msgspec

from headway.calls.pricing import PriceRow, reservation
from headway.kernel.instants import WallMs
from headway.kernel.limits import PROBE_ROUTES_MAX, PROBES_IN_FLIGHT_MAX

DAY_MS: Final = 24 * 3600 * 1000
JITTER_SHARE: Final = 0.1
"""A round comes up to so much of its interval early or late: probes of many gateways do not beat in time."""
SHORT_WORDS: Final = 24
ANSWER_TOKENS_MAX: Final = 16
"""Enough for a pace, and the least that every provider takes."""
BYTES_A_TOKEN_MIN: Final = 2
"""A bound from below for English words, which have 4 to 5 bytes a token: what a call costs at most."""
WORDS: Final = ("amber", "river", "stone", "cloud", "table", "green", "seven", "paper", "light", "north", "apple", "clock")
"""One token each in common vocabularies, so that a prompt's tokens are about its words."""


class ProbeKind(StrEnum):
    SHORT_COLD = "short.cold"
    SHORT_WARM = "short.warm"
    LONG_COLD = "long.cold"
    LONG_WARM = "long.warm"


ROUND: Final = tuple(ProbeKind)
"""In this order: a warm call follows its cold one at once."""
PROMPT_REF: Final = "headway-probe/"
"""Calls are found again by it: ``headway-probe/long.cold``."""


def prompt(kind: ProbeKind, salt: str, number: int, long_tokens: int) -> str:
    """The fixed text. Cold and warm of one round share it; rounds of other numbers or another ``salt`` begin with other words."""
    words = SHORT_WORDS if kind in (ProbeKind.SHORT_COLD, ProbeKind.SHORT_WARM) else long_tokens
    size = kind.partition(".")[0]
    drawn = hashlib.blake2b(f"{salt}\n{number}\n{size}".encode(), digest_size=8).digest()
    first = [WORDS[byte % len(WORDS)] for byte in drawn]
    fixed = [WORDS[index % len(WORDS)] for index in range(max(words - len(first) - 8, 0))]
    return " ".join([*first, *fixed]) + ". Count from one to nine in words."


class ProbePlan(msgspec.Struct, frozen=True, kw_only=True):
    """What is wanted of one route. ``cap`` names the provider's own cap; empty is none."""

    route: str
    """provider/model."""
    every_ms: int
    long_tokens: int
    price: PriceRow | None = None
    unpriced: bool = False
    """Go on where the price is unknown."""
    cap: str = ""
    on: bool = True
    """On the schedule; else only when asked for."""


def round_costs(plan: ProbePlan) -> tuple[int, ...] | None:
    """The most that each call of a round can cost, in nano-dollars; None where the price is unknown."""
    found = []
    for kind in ROUND:
        tokens = len(prompt(kind, plan.route, 0, plan.long_tokens)) // BYTES_A_TOKEN_MIN
        upper = reservation(plan.price, tokens, ANSWER_TOKENS_MAX)
        if upper is None:
            return None
        found.append(int(upper))
    return tuple(found)


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A round that may go now: ``reserved`` nano-dollars are set aside for it until it is settled."""

    route: str
    number: int
    reserved: int
    day: int
    cap: str


class Purse:
    """Nano-dollars a day (UTC). PRB-1: spent + reserved <= cap after every reservation; what is spent never falls within a day."""

    __slots__ = ("cap", "day", "reserved", "spent")

    def __init__(self, cap: int) -> None:
        self.cap, self.day, self.spent, self.reserved = cap, -1, 0, 0

    def turn(self, now: WallMs) -> None:
        """A new day begins empty. What still runs is settled against the day that it began in, so it is dropped here."""
        if (day := now // DAY_MS) != self.day:
            self.day, self.spent, self.reserved = day, 0, 0

    def fits(self, amount: int) -> bool:
        return self.spent + self.reserved + amount <= self.cap

    def settle(self, held: Held, cost: int) -> None:
        if held.day == self.day:
            self.reserved = max(self.reserved - held.reserved, 0)
            self.spent += cost

    def heard(self, spent: int) -> None:
        """What the facts say was spent today, also before this process began and by others."""
        self.spent = max(self.spent, spent)


class Lane:
    """One route: when its next round is due, and why the last one did not go."""

    __slots__ = ("cost", "due_ms", "every_ms", "number", "plan", "refused", "running")

    def __init__(self, plan: ProbePlan) -> None:
        self.plan = plan
        costs = round_costs(plan)
        self.cost: int | None = None if costs is None else sum(costs)
        self.every_ms = plan.every_ms
        self.due_ms, self.number, self.running, self.refused = 0, 0, False, ""


class ProbeSchedule:
    """Which rounds go. Told what is wanted, what was spent and what has ended; asked what is due."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.lanes: dict[str, Lane] = {}
        self.purses: dict[str, Purse] = {"": Purse(0)}
        self.left_out = 0
        """Routes over PROBE_ROUTES_MAX."""

    def want(self, plans: Iterable[ProbePlan], caps: Mapping[str, int], now: WallMs) -> None:
        """What is wanted from now on. Routes that were there keep their turn; caps change at once. ``caps[""]`` is that of all together."""
        listed = list(plans)
        self.left_out = max(len(listed) - PROBE_ROUTES_MAX, 0)
        for name, cap in caps.items():
            self.purses.setdefault(name, Purse(cap)).cap = cap
        self.purses = {name: purse for name, purse in self.purses.items() if name in caps}
        before, self.lanes = self.lanes, {}
        for plan in listed[:PROBE_ROUTES_MAX]:
            lane, old = Lane(plan), before.get(plan.route)
            if old is not None:
                lane.due_ms, lane.number, lane.running, lane.refused = old.due_ms, old.number, old.running, old.refused
            self.lanes[plan.route] = lane
        self._spread()
        self._place(now)

    def spent(self, amounts: Mapping[str, int], now: WallMs) -> None:
        """What the facts say was spent today, by cap."""
        for name, purse in self.purses.items():
            purse.turn(now)
            purse.heard(amounts.get(name, 0))

    def due(self, now: WallMs) -> list[Held]:
        """Rounds that may go now, longest due first; each is under way from here on until ``ended``."""
        self._place(now)
        going = sum(lane.running for lane in self.lanes.values())
        ready = sorted(
            (lane for lane in self.lanes.values() if lane.plan.on and lane.due_ms <= now and not lane.running),
            key=lambda lane: (lane.due_ms, lane.plan.route),
        )
        found: list[Held] = []
        for lane in ready:
            if going + len(found) >= PROBES_IN_FLIGHT_MAX:
                break
            held = self.take(lane.plan.route, now)
            lane.due_ms = now + int(lane.every_ms * (1 + JITTER_SHARE * (2 * self._drawn(lane) - 1)))
            if held is not None:
                found.append(held)
        return found

    def take(self, route: str, now: WallMs) -> Held | None:
        """A round of this route now, due or not; None with the reason in ``refused``. ``KeyError`` for a route that is none."""
        lane = self.lanes[route]
        lane.refused = self._against(lane, now)
        if lane.refused:
            return None
        lane.running, lane.number = True, lane.number + 1
        amount = lane.cost or 0
        for purse in self._purses(lane):
            purse.reserved += amount
        return Held(route=route, number=lane.number, reserved=amount, day=now // DAY_MS, cap=lane.plan.cap)

    def ended(self, held: Held, cost: int, now: WallMs) -> None:
        """A round is over and has cost this much, as far as is known: its upper bound where it is not."""
        if (lane := self.lanes.get(held.route)) is not None:
            lane.running = False
        for name in {"", held.cap}:
            if (purse := self.purses.get(name)) is not None:
                purse.turn(now)
                purse.settle(held, cost)

    def _place(self, now: WallMs) -> None:
        """A first turn for who is new; another for whose turn is too far off: the clock was set back, or the interval was shortened."""
        for lane in self.lanes.values():
            if not lane.due_ms or lane.due_ms > now + 2 * lane.every_ms:
                lane.due_ms = now + int(lane.every_ms * self._drawn(lane))

    def _against(self, lane: Lane, now: WallMs) -> str:
        if lane.running:
            return "a round of it is under way"
        if lane.cost is None:
            return "" if lane.plan.unpriced else "its price is unknown, and probes.unpriced is not set"
        for purse in self._purses(lane):
            purse.turn(now)
            if not purse.fits(lane.cost):
                return "the money of the day does not reach for another round"
        return ""

    def _purses(self, lane: Lane) -> list[Purse]:
        return [purse for name in dict.fromkeys(("", lane.plan.cap)) if (purse := self.purses.get(name)) is not None]

    def _spread(self) -> None:
        """Rounds lie so far apart that the money lasts the day: a control group that ends at noon compares nothing in the evening."""
        for name, purse in self.purses.items():
            lanes = [lane for lane in self.lanes.values() if lane.plan.on and name in ("", lane.plan.cap)]
            a_day = sum((lane.cost or 0) * DAY_MS / lane.plan.every_ms for lane in lanes)
            if purse.cap > 0 and a_day > purse.cap:
                for lane in lanes:
                    if lane.cost:
                        lane.every_ms = min(max(lane.every_ms, int(lane.plan.every_ms * a_day / purse.cap)), DAY_MS)

    def _drawn(self, lane: Lane) -> float:
        """Of [0, 1), from the seed, the route and the number of its round."""
        text = f"{self.seed}\n{lane.plan.route}\n{lane.number}"
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big") / 2**32
