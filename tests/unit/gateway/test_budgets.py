"""The budget book under everything that can happen to it, in any order: nothing is drawn twice, nothing is forgotten."""

from collections import Counter, defaultdict

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from headway.gateway.budgets import NOTHING_RESERVED, BudgetBook, Reservation, Shortfall
from headway.kernel.instants import MonoNs, after_ms
from headway.ledger.model import BudgetUnit, Lease
from headway.link.messages import BudgetScope

NANO, TOKENS = BudgetUnit.NANO_USD, BudgetUnit.TOKENS
BLOCK = 100
BUDGETS = {
    name: BudgetScope(budget=name, scope=scope, unit=unit, block=BLOCK, cap=2_000)
    for name, scope, unit in (
        ("a:nano:day", "tenant:a", NANO),
        ("a:nano:month", "tenant:a", NANO),
        ("a:tokens:day", "tenant:a", TOKENS),
        ("k:nano:month", "key:k", NANO),
        ("b:tokens:day", "tenant:b", TOKENS),
    )
}
SCOPES = (("tenant:a",), ("tenant:a", "key:k"), ("tenant:b",), ("key:k",), ("tenant:nobody",))
amounts = st.integers(0, 150)


def lease(name: str, budget: str = "a:nano:day", amount: int = 100, ttl_ms: int = 60_000) -> Lease:
    scope = BUDGETS[budget]
    return Lease(id=name, budget=budget, scope=scope.scope, unit=scope.unit, amount=amount, ttl_ms=ttl_ms)


class Book(RuleBasedStateMachine):
    """Plays control and the calls; keeps its own account of every lease."""

    reservations: Bundle[tuple[Reservation, tuple[str, ...]]] = Bundle("reservations")
    leases: Bundle[Lease] = Bundle("leases")

    @initialize()
    def begin(self) -> None:
        self.book = BudgetBook()
        self.book.install(tuple(BUDGETS.values()))
        self.now = MonoNs(0)
        self.n = 0
        self.granted: dict[str, Lease] = {}
        self.good_until: dict[str, MonoNs] = {}
        self.taken_back: set[str] = set()
        self.charged: Counter[str] = Counter()
        self.finals: defaultdict[str, list[int]] = defaultdict(list)
        self.open: list[Reservation] = []
        self.overdrawn: set[str] = set()
        self.asked_again: set[str] = set()

    # --- control

    @rule(names=st.sets(st.sampled_from(sorted(BUDGETS))))
    def reload(self, names: set[str]) -> None:
        gone = set(BUDGETS) - names
        self.book.install(tuple(b for name, b in BUDGETS.items() if name in names))
        self.taken_back |= {g.id for g in self.granted.values() if g.budget in gone}

    @rule(
        target=leases,
        amount=st.integers(1, 300),
        ttl_ms=st.sampled_from([1_000, 5_000, 60_000]),
        late=st.none() | st.sampled_from(sorted(BUDGETS)),
    )
    def grant(self, amount: int, ttl_ms: int, late: str | None) -> object:
        if late is None and not self.book.to_ask:
            return multiple()
        budget = late or self.book.to_ask.popleft()[0]
        self.n += 1
        new = lease(f"l{self.n}", budget, amount, ttl_ms)
        self.granted[new.id] = new
        self.good_until[new.id] = after_ms(self.now, ttl_ms)
        if self.book.purse(budget) is None:
            self.taken_back.add(new.id)
        self.book.granted(new, self.now)
        return new

    @rule(again=leases)
    def grant_told_twice(self, again: Lease) -> None:
        if again.id in self.finals:
            self.asked_again.add(again.id)
        self.book.granted(again, self.now)

    @rule()
    def refuse(self) -> None:
        if self.book.to_ask:
            self.book.refused(self.book.to_ask.popleft()[0], "spent", 1_000)

    @rule(which=leases)
    def close(self, which: Lease) -> None:
        self.taken_back.add(which.id)
        if which.id in self.finals:
            self.asked_again.add(which.id)
        self.book.closed(which.id)

    @rule()
    def link_breaks(self) -> None:
        self.book.forget_asked()

    @rule(ms=st.sampled_from([1, 500, 3_000, 61_000]))
    def time_passes(self, ms: int) -> None:
        self.now = after_ms(self.now, ms)

    @rule()
    def report(self) -> None:
        held = {hold.block.lease.id for r in self.open for hold in r.holds}
        for name, spent, final in self.book.reports(self.now):
            assert spent == self.charged[name], "what was used is what is told"
            if final:
                assert name not in held, "a block that a call still holds has no last word"
                self.finals[name].append(spent)

    # --- calls

    @rule(target=reservations, scopes=st.sampled_from(SCOPES), nano=amounts, tokens=amounts)
    def reserve(self, scopes: tuple[str, ...], nano: int, tokens: int) -> object:
        budgets = [b for b in BUDGETS.values() if b.scope in scopes and self.book.purse(b.budget) is not None]
        before = {name: (b.reserved, b.holds) for name, b in self.blocks()}
        got = self.book.reserve(scopes, nano, tokens, self.now)
        if isinstance(got, Shortfall):
            assert {name: (b.reserved, b.holds) for name, b in self.blocks()} == before, "in all budgets or in none"
            purse = self.book.purse(got.budget)
            assert purse is not None
            assert purse.asked
            return multiple()
        if not budgets:
            assert got is NOTHING_RESERVED
            return multiple()
        for budget in budgets:
            held = [h for h in got.holds if h.block.lease.budget == budget.budget]
            assert sum(h.amount for h in held) == (nano if budget.unit is NANO else tokens)
            for hold in held:
                assert hold.block.lease.id not in self.taken_back
                assert hold.block.lease.id not in self.finals
                assert self.now < self.good_until[hold.block.lease.id]
        self.open.append(got)
        return got, tuple(b.budget for b in budgets if any(h.block.lease.budget == b.budget for h in got.holds))

    @rule(which=consumes(reservations), nano=st.integers(0, 250), tokens=st.integers(0, 250))
    def settle(self, which: tuple[Reservation, tuple[str, ...]], nano: int, tokens: int) -> None:
        self.settled(*which, nano, tokens)

    def settled(self, reservation: Reservation, budgets: tuple[str, ...], nano: int, tokens: int) -> None:
        reserved = Counter[str]()
        for hold in reservation.holds:
            reserved[hold.block.lease.budget] += hold.amount
        charges = self.book.settle(reservation, nano, tokens)
        self.open.remove(reservation)
        by_budget = Counter[str]()
        for name, amount in charges.items():
            self.charged[name] += amount
            by_budget[self.granted[name].budget] += amount
        for budget in budgets:
            used = nano if BUDGETS[budget].unit is NANO else tokens
            assert by_budget[budget] == used, "each budget is charged the whole of what was used"
            if used > reserved[budget]:
                self.overdrawn |= {n for n in charges if self.granted[n].budget == budget}
        before = [(b.reserved, b.spent, b.holds) for _, b in self.blocks()]
        assert self.book.settle(reservation, nano, tokens) == {}
        assert [(b.reserved, b.spent, b.holds) for _, b in self.blocks()] == before

    # --- always

    def blocks(self):  # type: ignore[no-untyped-def]
        return [(b.lease.id, b) for b in self.book._blocks()]

    @invariant()
    def nothing_is_lent_twice(self) -> None:
        if not hasattr(self, "book"):
            return
        held, holds = Counter[str](), Counter[str]()
        for reservation in self.open:
            for hold in reservation.holds:
                held[hold.block.lease.id] += hold.amount
                holds[hold.block.lease.id] += 1
        known = dict(self.blocks())
        assert len(known) == len(self.blocks()), "a block stands in the book once"
        for name, block in known.items():
            assert (block.reserved, block.holds) == (held[name], holds[name])
            assert block.spent == self.charged[name]
            if name not in self.overdrawn:
                assert block.reserved + block.spent <= block.lease.amount
        assert set(held) <= set(known), "a block that a call holds is never dropped"
        assert set(self.granted) == set(known) | set(self.finals), "a block is in the book or its last word was said"
        assert set(self.book.open_leases()) == set(known)

    def teardown(self) -> None:
        """Every call ends, time passes: each lease has had its last word, once, with all that was charged to it."""
        if not hasattr(self, "book"):
            return
        for reservation in tuple(self.open):
            budgets = tuple({h.block.lease.budget for h in reservation.holds})
            self.settled(reservation, budgets, 1, 1)
        self.time_passes(120_000)
        self.report()
        assert not self.blocks()
        for name in self.granted:
            said = self.finals[name]
            assert set(said) == {self.charged[name]}
            assert len(said) == 1 or name in self.asked_again


Book.TestCase.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
TestBook = Book.TestCase


def book(*names: str) -> BudgetBook:
    made = BudgetBook()
    made.install(tuple(BUDGETS[n] for n in names or ("a:nano:day",)))
    return made


NOW = MonoNs(0)


def test_a_call_that_costs_nothing_keeps_its_block_until_it_ends() -> None:
    b = book()
    b.granted(lease("l1"), NOW)
    reservation = b.reserve(("tenant:a",), 0, 0, NOW)
    assert isinstance(reservation, Reservation)
    late = after_ms(NOW, 120_000)
    assert b.reports(late) == [("l1", 0, False)]
    assert b.settle(reservation, 7, 0) == {"l1": 7}
    assert b.reports(late) == [("l1", 7, True)]


def test_blocks_of_a_budget_that_vanished_go_back_with_what_was_drawn() -> None:
    b = book()
    b.granted(lease("l1"), NOW)
    b.granted(lease("l2"), NOW)
    reservation = b.reserve(("tenant:a",), 60, 0, NOW)
    assert isinstance(reservation, Reservation)
    b.install(())
    assert b.reports(NOW) == [("l1", 0, False), ("l2", 0, True)]
    assert b.open_leases() == ("l1",)
    b.settle(reservation, 42, 0)
    assert b.reports(NOW) == [("l1", 42, True)]


def test_a_grant_that_nobody_wants_any_more_goes_back() -> None:
    b = book("b:tokens:day")
    b.granted(lease("late"), NOW)
    assert b.reports(NOW) == [("late", 0, True)]


def test_a_grant_told_again_after_its_last_word_is_no_new_money() -> None:
    b = book()
    b.granted(lease("l1"), NOW)
    reservation = b.reserve(("tenant:a",), 100, 0, NOW)
    assert isinstance(reservation, Reservation)
    b.settle(reservation, 100, 0)
    assert b.reports(NOW) == [("l1", 100, True)]
    b.granted(lease("l1"), NOW)
    assert isinstance(b.reserve(("tenant:a",), 1, 0, NOW), Shortfall)
    assert b.reports(NOW) == [("l1", 100, True)]


def test_a_stop_gives_everything_back_and_takes_nothing_more() -> None:
    b = book()
    b.granted(lease("l1"), NOW)
    b.reserve(("tenant:a",), 30, 0, NOW)
    assert b.give_back() == [("l1", 30, True)]
    assert b.open_leases() == ()
    b.granted(lease("l2"), NOW)
    assert isinstance(b.reserve(("tenant:a",), 1, 0, NOW), Shortfall)
    assert b.reports(NOW) == [("l2", 0, True)]


def test_what_is_asked_for_makes_one_block_and_no_more() -> None:
    b = book()
    assert isinstance(b.reserve(("tenant:a",), 10, 0, NOW), Shortfall)
    assert b.to_ask.popleft() == ("a:nano:day", BLOCK)
    b.granted(lease("l1"), NOW)
    b.reserve(("tenant:a",), 70, 0, NOW)
    assert b.to_ask.popleft() == ("a:nano:day", 70)
    assert isinstance(b.reserve(("tenant:a",), 500, 0, NOW), Shortfall)
    assert not b.to_ask, "one wish at a time"
    b.granted(lease("l2", amount=70), NOW)
    assert isinstance(b.reserve(("tenant:a",), 500, 0, NOW), Shortfall)
    assert b.to_ask.popleft() == ("a:nano:day", 400)


def test_after_a_rush_all_but_a_block_goes_back() -> None:
    b = book()
    reservations = []
    for i in range(10):
        b.granted(lease(f"l{i}"), NOW)
    for _ in range(10):
        reservations.append(b.reserve(("tenant:a",), 100, 0, NOW))
    for each in reservations:
        assert isinstance(each, Reservation)
        b.settle(each, 1, 0)
    back = [r for r in b.reports(NOW) if r[2]]
    purse = b.purse("a:nano:day")
    assert purse is not None
    assert len(back) == 8
    assert BLOCK <= purse.free(NOW) < 2 * BLOCK


def test_amounts_below_zero_lend_nothing() -> None:
    b = book()
    b.granted(lease("l1"), NOW)
    got = b.reserve(("tenant:a",), -1_000, -1_000, NOW)
    assert isinstance(got, Reservation)
    purse = b.purse("a:nano:day")
    assert purse is not None
    assert purse.free(NOW) == 100


def test_wishes_are_one_a_budget_and_made_again_after_a_break() -> None:
    b = book()
    for _ in range(5):
        b.reserve(("tenant:a",), 10, 0, NOW)
    assert len(b.to_ask) == 1
    b.forget_asked()
    assert not b.to_ask
    b.reserve(("tenant:a",), 10, 0, NOW)
    assert len(b.to_ask) == 1
