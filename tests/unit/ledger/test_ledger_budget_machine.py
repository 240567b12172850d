"""A ledger, two gateways and a bad network: BUD-1 after every step, and at the end everything that was charged is spent, nothing more."""

import asyncio
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from headway.kernel.instants import WallMs
from headway.kernel.limits import LEASE_TTL_S
from headway.ledger import budgets as rules
from headway.ledger.model import BudgetSpec, BudgetUnit, LeaseRecord, LeaseState
from headway.ledger.store import Ledger, open_ledger, sqlite_url

NOON = WallMs(1_795_521_600_000)
DAY_MS = 86_400_000
EXPIRY_MS = LEASE_TTL_S * 1000 + rules.EXPIRY_SLACK_MS
BUDGET = "tenant:t:nano_usd:day"
GATEWAYS = ("g", "h")


@dataclass
class Block:
    gateway: str
    amount: int
    period: int
    charged: int = 0
    dead: bool = False
    """Its gateway was killed, or has said its last word: nothing more is drawn from it."""


@dataclass
class World:
    blocks: dict[str, Block] = field(default_factory=dict)
    network: list[tuple[str, int, bool]] = field(default_factory=list)
    """Returns on their way: delivered in any order, some twice, some never."""


class Budgets(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.ledger: Ledger = self.runner.run(open_ledger(sqlite_url(Path(self.folder.name) / "ledger.db")))
        self.world, self.now, self.asked, self.overcharged = World(), NOON, 0, False

    def teardown(self) -> None:
        try:
            self.settle_everything()
        finally:
            self.runner.run(self.ledger.close())
            self.runner.close()
            self.folder.cleanup()

    # --- what happens

    @initialize(cap=st.integers(0, 200))
    def state_the_budget(self, cap: int) -> None:
        self.restate(cap)

    @rule(cap=st.integers(0, 200))
    def restate(self, cap: int) -> None:
        spec = BudgetSpec(scope="tenant:t", unit=BudgetUnit.NANO_USD, period="day", cap=cap)
        self.runner.run(self.ledger.budgets.sync([spec], self.now))

    @rule(gateway=st.sampled_from(GATEWAYS), amount=st.integers(1, 90), again=st.booleans())
    def ask(self, gateway: str, amount: int, again: bool) -> None:
        self.asked += not again
        granted = self.runner.run(self.ledger.budgets.grant(BUDGET, amount, gateway=gateway, request=str(self.asked), now=self.now))
        if granted.lease is not None and granted.lease.id not in self.world.blocks:
            assert granted.lease.amount <= amount
            start = rules.period_bounds("day", self.now)[0]
            self.world.blocks[granted.lease.id] = Block(gateway, granted.lease.amount, start)

    @precondition(lambda self: self.living())
    @rule(data=st.data(), share=st.floats(0, 1))
    def charge(self, data: st.DataObject, share: float) -> None:
        block = self.world.blocks[data.draw(st.sampled_from(self.living()))]
        block.charged += round((block.amount - block.charged) * share) if block.charged < block.amount else 0

    @precondition(lambda self: self.living())
    @rule(data=st.data(), more=st.integers(1, 30))
    def charge_more_than_the_block(self, data: st.DataObject, more: int) -> None:
        block = self.world.blocks[data.draw(st.sampled_from(self.living()))]
        block.charged = max(block.charged, block.amount) + more
        self.overcharged = True

    @precondition(lambda self: self.living())
    @rule(data=st.data(), final=st.booleans())
    def report(self, data: st.DataObject, final: bool) -> None:
        lease = data.draw(st.sampled_from(self.living()))
        self.world.network.append((lease, self.world.blocks[lease].charged, final))
        self.world.blocks[lease].dead |= final

    @precondition(lambda self: self.world.network)
    @rule(data=st.data(), keep=st.booleans())
    def deliver(self, data: st.DataObject, keep: bool) -> None:
        at = data.draw(st.integers(0, len(self.world.network) - 1))
        lease, spent, final = self.world.network[at] if keep else self.world.network.pop(at)
        self.runner.run(self.ledger.budgets.give_back(lease, spent, final=final, now=self.now))

    @rule(ms=st.sampled_from([1, 1_000, 30_000, EXPIRY_MS, DAY_MS]))
    def wait(self, ms: int) -> None:
        self.now = WallMs(self.now + ms)
        self.runner.run(self.ledger.budgets.expire(self.now))

    @rule(gateway=st.sampled_from(GATEWAYS), lose=st.booleans())
    def kill_and_restart(self, gateway: str, lose: bool) -> None:
        for lease, block in self.world.blocks.items():
            block.dead |= block.gateway == gateway
            if lose and block.gateway == gateway:
                self.world.network = [m for m in self.world.network if m[0] != lease]
        self.now = WallMs(self.now + 1)
        self.hello(gateway)
        self.reconcile(gateway)

    @rule(gateway=st.sampled_from(GATEWAYS))
    def reconnect(self, gateway: str) -> None:
        self.now = WallMs(self.now + 1)
        self.hello(gateway)

    # --- what must hold

    @invariant()
    def bud_1(self) -> None:
        for state in self.runner.run(self.ledger.budgets.history(BUDGET, 100)):
            assert rules.holds(state)
            assert self.overcharged or state.spent + state.leased <= state.cap
            assert self.overcharged or state.overrun == 0
            drawn = sum(b.charged for b in self.world.blocks.values() if b.period == state.period_start_wall_ms)
            assert drawn <= state.spent + state.leased + self._beyond_blocks(), "what was drawn is never free for others"

    def settle_everything(self) -> None:
        """All messages arrive, whoever is silent expires, all facts come in: spent is what was charged."""
        for lease, block in self.world.blocks.items():
            if not block.dead:
                self.world.network.append((lease, block.charged, True))
        for lease, spent, final in self.world.network:
            self.runner.run(self.ledger.budgets.give_back(lease, spent, final=final, now=self.now))
        self.now = WallMs(self.now + EXPIRY_MS)
        self.runner.run(self.ledger.budgets.expire(self.now))
        charged = {lease: block.charged for lease, block in self.world.blocks.items()}
        self.runner.run(self.ledger.budgets.reconcile(charged, self.now))
        for state in self.runner.run(self.ledger.budgets.history(BUDGET, 100)):
            mine = [b for b in self.world.blocks.values() if b.period == state.period_start_wall_ms]
            assert (state.spent, state.leased) == (sum(b.charged for b in mine), 0)
            assert state.overrun == 0 or self.overcharged

    # --- helpers

    def living(self) -> list[str]:
        return sorted(lease for lease, block in self.world.blocks.items() if not block.dead)

    def hello(self, gateway: str) -> None:
        held = [lease for lease in self.living() if self.world.blocks[lease].gateway == gateway]
        self.runner.run(self.ledger.budgets.hello(gateway, held, said_wall_ms=self.now, now=self.now))

    def reconcile(self, gateway: str) -> None:
        """Only for blocks that nobody can draw on any more, with all their facts: what ``LeaseDesk`` waits for."""
        left: list[LeaseRecord] = list(self.runner.run(self.ledger.budgets.unsettled(gateway, self.now)))
        charged = {
            r.id: self.world.blocks[r.id].charged for r in left if r.id in self.world.blocks and self.world.blocks[r.id].dead
        }
        for record in self.runner.run(self.ledger.budgets.reconcile(charged, self.now)):
            assert record.state is LeaseState.RECONCILED

    def _beyond_blocks(self) -> int:
        return sum(max(0, b.charged - b.amount) for b in self.world.blocks.values())


Budgets.TestCase.settings = settings(
    max_examples=25, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
TestBudgetsOverABadNetwork = Budgets.TestCase
