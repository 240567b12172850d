"""Reservations from leased blocks, in memory: what stands between a call and its tenant's cap.

Control lends blocks (``ledger.budgets`` holds ``spent + leased <= cap``); a call reserves the most it can cost before it is sent and
settles at its end. What a call used beyond its reservation is taken from the block too, so a block may end overdrawn only by what a provider
reported beyond its own maximum: that is reported as spent, and control counts it as overrun.
"""

from collections import deque
from dataclasses import dataclass, field

from headway.kernel.instants import MonoNs, after_ms
from headway.ledger.model import BudgetUnit, Lease
from headway.link.messages import BudgetScope

LEASE_SAFETY_MS = 2_000
"""A block is not drawn on in its last seconds, so that its settlement arrives before the ledger calls it expired."""
RENEW_BELOW_SHARE = 0.5
"""Ask for the next block when less than this share of one is free."""


@dataclass(slots=True)
class Block:
    lease: Lease
    expires_at: MonoNs
    reserved: int = 0
    spent: int = 0
    closing: bool = False

    @property
    def free(self) -> int:
        return 0 if self.closing else self.lease.amount - self.reserved - self.spent


@dataclass(slots=True)
class Purse:
    """The blocks of one budget at this gateway."""

    scope: BudgetScope
    blocks: list[Block] = field(default_factory=list)
    asked: bool = False
    refused: str = ""
    resets_in_ms: int | None = None

    def free(self, now: MonoNs) -> int:
        return sum(b.free for b in self.blocks if now < b.expires_at)


@dataclass(slots=True)
class Hold:
    block: Block
    amount: int


@dataclass(slots=True, eq=False)
class Reservation:
    holds: list[Hold] = field(default_factory=list)


@dataclass(slots=True, frozen=True)
class Shortfall:
    """This budget cannot cover the call from what is here; ``missing`` more would do."""

    budget: str
    missing: int


NOTHING_RESERVED = Reservation()


class BudgetBook:
    """All budgets of one gateway. Single-threaded; every method is synchronous."""

    def __init__(self) -> None:
        self._purses: dict[str, Purse] = {}
        self._by_scope: dict[str, tuple[Purse, ...]] = {}
        self.to_ask: deque[tuple[str, int]] = deque(maxlen=1_024)
        """(budget, amount) to ask control for; the link empties it. Full: the oldest wish is dropped and made again by the next call."""

    def install(self, scopes: tuple[BudgetScope, ...]) -> None:
        """Take the budgets of a new generation; blocks of budgets that still exist are kept."""
        purses: dict[str, Purse] = {}
        by_scope: dict[str, list[Purse]] = {}
        for scope in scopes:
            purse = self._purses.get(scope.budget) or Purse(scope)
            purse.scope, purse.refused = scope, ""
            purses[scope.budget] = purse
            by_scope.setdefault(scope.scope, []).append(purse)
        self._purses = purses
        self._by_scope = {name: tuple(found) for name, found in by_scope.items()}

    def scoped(self, scope: str) -> bool:
        return scope in self._by_scope

    def units(self, *scopes: str) -> set[BudgetUnit]:
        return {p.scope.unit for s in scopes for p in self._by_scope.get(s, ())}

    def reserve(self, scopes: tuple[str, ...], nano_usd: int, tokens: int, now: MonoNs) -> Reservation | Shortfall:
        """Reserve in every budget of every scope, or in none."""
        purses = [p for s in scopes for p in self._by_scope.get(s, ())]
        if not purses:
            return NOTHING_RESERVED
        wanted = [(p, nano_usd if p.scope.unit is BudgetUnit.NANO_USD else tokens) for p in purses]
        for purse, amount in wanted:
            if (missing := amount - purse.free(now)) > 0:
                self._ask(purse, missing)
                return Shortfall(purse.scope.budget, missing)
        reservation = Reservation()
        for purse, amount in wanted:
            reservation.holds.extend(self._take(purse, amount, now))
            if purse.free(now) < purse.scope.block * RENEW_BELOW_SHARE:
                self._ask(purse, purse.scope.block)
        return reservation

    def settle(self, reservation: Reservation, nano_usd: int, tokens: int) -> dict[str, int]:
        """Turn a reservation into what was really used; the rest is free again. What each lease was charged, in its budget's unit.

        A second settle of one reservation does nothing.
        """
        charges: dict[str, int] = {}
        left = {BudgetUnit.NANO_USD: nano_usd, BudgetUnit.TOKENS: tokens}
        by_budget: dict[str, list[Hold]] = {}
        for hold in reservation.holds:
            by_budget.setdefault(hold.block.lease.budget, []).append(hold)
        for holds in by_budget.values():
            used = left[holds[0].block.lease.unit]
            for i, hold in enumerate(holds):
                hold.block.reserved -= hold.amount
                part = used if i == len(holds) - 1 else min(used, hold.amount)
                hold.block.spent += part
                used -= part
                lease = hold.block.lease.id
                charges[lease] = charges.get(lease, 0) + part
        reservation.holds.clear()
        return charges

    def granted(self, lease: Lease, now: MonoNs) -> None:
        purse = self._purses.get(lease.budget)
        if purse is None:
            return
        purse.asked, purse.refused, purse.resets_in_ms = False, "", None
        if all(b.lease.id != lease.id for b in purse.blocks):
            purse.blocks.append(Block(lease, after_ms(now, lease.ttl_ms - LEASE_SAFETY_MS)))

    def refused(self, budget: str, reason: str, resets_in_ms: int | None) -> None:
        if purse := self._purses.get(budget):
            purse.asked, purse.refused, purse.resets_in_ms = False, reason, resets_in_ms

    def closed(self, lease: str) -> None:
        """Control takes a block back: reserve nothing more from it."""
        for block in self._blocks():
            if block.lease.id == lease:
                block.closing = True

    def purse(self, budget: str) -> Purse | None:
        return self._purses.get(budget)

    def forget_asked(self) -> None:
        """The link broke: what was asked will not be answered."""
        for purse in self._purses.values():
            purse.asked = False

    def reports(self, now: MonoNs) -> list[tuple[str, int, bool]]:
        """(lease, spent, final) to tell control; blocks that are over and owe nothing are dropped here."""
        out = []
        for purse in self._purses.values():
            kept = []
            for block in purse.blocks:
                over = block.closing or now >= block.expires_at or block.free <= 0
                final = over and block.reserved == 0
                out.append((block.lease.id, block.spent, final))
                if not final:
                    kept.append(block)
            purse.blocks = kept
        return out

    def give_back(self) -> list[tuple[str, int, bool]]:
        """At a clean stop: every block with what it spent, final."""
        out = [(b.lease.id, b.spent + b.reserved, True) for b in self._blocks()]
        for purse in self._purses.values():
            purse.blocks = []
        return out

    def open_leases(self) -> tuple[str, ...]:
        return tuple(b.lease.id for b in self._blocks())

    def _blocks(self) -> list[Block]:
        return [b for p in self._purses.values() for b in p.blocks]

    def _ask(self, purse: Purse, missing: int) -> None:
        if not purse.asked:
            purse.asked = True
            self.to_ask.append((purse.scope.budget, max(missing, purse.scope.block)))

    def _take(self, purse: Purse, amount: int, now: MonoNs) -> list[Hold]:
        holds = []
        for block in purse.blocks:
            if now < block.expires_at and (part := min(block.free, amount)) > 0:
                block.reserved += part
                amount -= part
                holds.append(Hold(block, part))
                if not amount:
                    return holds
        if not holds and purse.blocks:  # a call that costs nothing is still tied to a block, for the facts
            holds.append(Hold(purse.blocks[-1], 0))
        return holds
