"""Reservations from leased blocks, in memory: what stands between a call and its tenant's cap.

Control lends blocks (``ledger.budgets`` holds ``spent + leased <= cap``); a call reserves the most it can cost before it is sent and
settles at its end. What a call used beyond its reservation is taken from the block too, so a block may end overdrawn only by what a provider
reported beyond its own maximum: that is reported as spent, and control counts it as overrun.

A block's last word (``final``) is said when nothing more can be drawn from it and no reservation holds it, and it is said for every block:
also for one whose budget has vanished, and for a grant that comes when nobody wants it any more.
"""

from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from headway.kernel.instants import MonoNs, after_ms
from headway.ledger.model import BudgetUnit, Lease
from headway.link.messages import BudgetScope

LEASE_SAFETY_MS = 2_000
"""A block is not drawn on in its last seconds, so that its settlement arrives before the ledger calls it expired."""
RENEW_BELOW_SHARE = 0.5
"""Ask for more when less than this share of a block is free; never for more than makes it one block again, so that a tenant can be
refused early by about one block a gateway."""
LEASES_REMEMBERED_MAX = 4_096
"""Finished blocks known by name, in case their grant is told again. Past it the oldest is forgotten: such a grant would count as new."""


@dataclass(slots=True, eq=False)
class Block:
    lease: Lease
    expires_at: MonoNs
    reserved: int = 0
    spent: int = 0
    holds: int = 0
    """Open reservations on it, those of 0 included."""
    closing: bool = False

    @property
    def free(self) -> int:
        return 0 if self.closing else self.lease.amount - self.reserved - self.spent

    def over(self, now: MonoNs) -> bool:
        """Nothing more is drawn from it."""
        return self.closing or now >= self.expires_at or self.free <= 0


@dataclass(slots=True)
class Purse:
    """The blocks of one budget at this gateway."""

    scope: BudgetScope
    blocks: list[Block] = field(default_factory=list)
    asked: bool = False
    refused: str = ""
    resets_in_ms: int | None = None
    away: bool = False
    """Refused because control could not be asked, not because the budget has no room."""
    refusals: int = 0
    """How often control had nothing to lend: who waits compares it with what it was."""

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
        self._retired: list[Block] = []
        """Of no purse any more: they wait for their reservations and for their last word."""
        self._finished: OrderedDict[str, int] = OrderedDict()
        """Blocks whose last word was said, with what they spent."""
        self._say_again: list[str] = []
        self._stopped = False
        self.to_ask: deque[tuple[str, int]] = deque()
        """(budget, amount) to ask control for; the link empties it. At most one a budget, see ``Purse.asked``."""

    def install(self, scopes: tuple[BudgetScope, ...]) -> None:
        """Take the budgets of a new generation. Blocks of budgets that still exist are kept, those of others go back."""
        purses: dict[str, Purse] = {}
        by_scope: dict[str, list[Purse]] = {}
        for scope in scopes:
            purse = self._purses.get(scope.budget) or Purse(scope)
            purse.scope, purse.refused = scope, ""
            purses[scope.budget] = purse
            by_scope.setdefault(scope.scope, []).append(purse)
        for name, purse in self._purses.items():
            if name not in purses:
                self._retire(purse)
        self._purses = purses
        self._by_scope = {name: tuple(found) for name, found in by_scope.items()}

    def scoped(self, scope: str) -> bool:
        return scope in self._by_scope

    def units(self, *scopes: str) -> set[BudgetUnit]:
        return {p.scope.unit for s in scopes for p in self._by_scope.get(s, ())}

    def reserve(self, scopes: tuple[str, ...], nano_usd: int, tokens: int, now: MonoNs) -> Reservation | Shortfall:
        """Reserve in every budget of every scope, or in none. Amounts below 0 count as 0."""
        purses = [p for s in scopes for p in self._by_scope.get(s, ())]
        if not purses:
            return NOTHING_RESERVED
        wanted = [(p, max(0, nano_usd if p.scope.unit is BudgetUnit.NANO_USD else tokens)) for p in purses]
        for purse, amount in wanted:
            free = purse.free(now)
            if amount > free:
                self._ask(purse, max(amount - free, purse.scope.block - free))
                return Shortfall(purse.scope.budget, amount - free)
        reservation = Reservation()
        for purse, amount in wanted:
            reservation.holds.extend(self._take(purse, amount, now))
            free = purse.free(now)
            if free < purse.scope.block * RENEW_BELOW_SHARE:
                self._ask(purse, purse.scope.block - free)
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
                block = hold.block
                block.reserved -= hold.amount
                block.holds -= 1
                part = used if i == len(holds) - 1 else min(used, hold.amount)
                block.spent += part
                used -= part
                charges[block.lease.id] = charges.get(block.lease.id, 0) + part
        reservation.holds.clear()
        return charges

    def granted(self, lease: Lease, now: MonoNs) -> None:
        """A block has come. Told twice it counts once; one that nobody wants any more goes back unspent with the next reports."""
        purse = self._purses.get(lease.budget)
        if purse is not None:
            purse.asked, purse.refused, purse.resets_in_ms, purse.away = False, "", None, False
        if lease.id in self._finished:
            self._say_again.append(lease.id)
        elif all(b.lease.id != lease.id for b in self._blocks()):
            block = Block(lease, after_ms(now, lease.ttl_ms - LEASE_SAFETY_MS))
            if purse is None or self._stopped:
                block.closing = True
                self._retired.append(block)
            else:
                purse.blocks.append(block)

    def refused(self, budget: str, reason: str, resets_in_ms: int | None, *, away: bool = False) -> None:
        """No block: ``reason`` is for people. ``away``: because control or its store is, which says nothing of the budget."""
        if purse := self._purses.get(budget):
            purse.asked, purse.refused, purse.resets_in_ms, purse.away = False, reason, resets_in_ms, away
            purse.refusals += 1

    def closed(self, lease: str) -> None:
        """Control takes a block back: reserve nothing more from it."""
        if lease in self._finished:
            self._say_again.append(lease)
        for block in self._blocks():
            if block.lease.id == lease:
                block.closing = True

    def purse(self, budget: str) -> Purse | None:
        return self._purses.get(budget)

    def forget_asked(self) -> None:
        """The link broke: what was asked will not be answered."""
        self.to_ask.clear()
        for purse in self._purses.values():
            purse.asked = False

    def reports(self, now: MonoNs) -> list[tuple[str, int, bool]]:
        """(lease, spent, final) to tell control; blocks that are over and held by no reservation are dropped here."""
        out = [(lease, self._finished[lease], True) for lease in self._say_again if lease in self._finished]
        self._say_again.clear()
        for purse in self._purses.values():
            self._give_up_excess(purse, now)
            purse.blocks = self._report(purse.blocks, now, out)
        self._retired = self._report(self._retired, now, out)
        return out

    def give_back(self) -> list[tuple[str, int, bool]]:
        """At a clean stop: every block, final. What is still reserved counts as spent: nobody will be here to settle it."""
        self._stopped = True
        out = [(b.lease.id, b.spent + b.reserved, True) for b in self._blocks()]
        for lease, spent, _ in out:
            self._remember(lease, spent)
        for purse in self._purses.values():
            purse.blocks = []
        self._retired = []
        return out

    def open_leases(self) -> tuple[str, ...]:
        return tuple(b.lease.id for b in self._blocks())

    def _blocks(self) -> Iterator[Block]:
        for purse in self._purses.values():
            yield from purse.blocks
        yield from self._retired

    def _retire(self, purse: Purse) -> None:
        for block in purse.blocks:
            block.closing = True
        self._retired += purse.blocks
        purse.blocks = []

    def _report(self, blocks: list[Block], now: MonoNs, out: list[tuple[str, int, bool]]) -> list[Block]:
        kept = []
        for block in blocks:
            final = block.holds == 0 and block.over(now)
            out.append((block.lease.id, block.spent, final))
            if final:
                self._remember(block.lease.id, block.spent)
            else:
                kept.append(block)
        return kept

    def _give_up_excess(self, purse: Purse, now: MonoNs) -> None:
        """After a rush: a block that no call holds goes back while the others have a whole block free."""
        free = purse.free(now)
        for block in purse.blocks:
            if block.holds == 0 and not block.over(now) and free - block.free >= purse.scope.block:
                free -= block.free
                block.closing = True

    def _remember(self, lease: str, spent: int) -> None:
        self._finished[lease] = spent
        if len(self._finished) > LEASES_REMEMBERED_MAX:
            self._finished.popitem(last=False)

    def _ask(self, purse: Purse, amount: int) -> None:
        if not purse.asked and amount > 0:
            purse.asked, purse.away = True, False
            self.to_ask.append((purse.scope.budget, amount))

    def _take(self, purse: Purse, amount: int, now: MonoNs) -> list[Hold]:
        holds = []
        usable = [b for b in purse.blocks if not b.over(now)]
        for block in usable:
            if part := min(block.free, amount):
                block.reserved += part
                amount -= part
                holds.append(Hold(block, part))
        if not holds and usable:  # a call that costs nothing is still tied to a block, for the facts
            holds.append(Hold(usable[-1], 0))
        for hold in holds:
            hold.block.holds += 1
        return holds
