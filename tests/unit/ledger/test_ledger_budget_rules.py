"""The pure rules of budgets: BUD-1 after every step, blocks, periods, and what a lease counts as."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from headway.config.model import Tenant
from headway.kernel.instants import WallMs
from headway.kernel.limits import LEASE_TTL_S
from headway.ledger import budgets as rules
from headway.ledger.model import BudgetSpec, BudgetState, BudgetUnit, LeaseState

NOON = WallMs(1_795_521_600_000)
DAY_MS = 86_400_000


def budget(cap: int = 100, period: str = "day") -> BudgetState:
    return rules.opened(BudgetSpec(scope="tenant:t", unit=BudgetUnit.NANO_USD, period=period, cap=cap), NOON)


def lend(state: BudgetState, amount: int, name: str = "l1") -> rules.Step:
    step = rules.granted(state, amount, lease=name, gateway="g", request=name, now=NOON)
    assert step is not None
    return step


def figures(state: BudgetState) -> tuple[int, int, int, int]:
    return state.cap, state.spent, state.leased, state.overrun


def test_budgets_of_the_settings_are_exact_to_the_nano_dollar() -> None:
    tenants = {
        "a": Tenant(budget_usd_per_day="0.1", budget_tokens_per_month=5),
        "b": Tenant(),
        "c": Tenant(budget_usd_per_month=400.000000001, budget_tokens_per_day=0),
    }
    found = {spec.id: spec.cap for spec in rules.specs(tenants)}
    assert found == {
        "tenant:a:nano_usd:day": 100_000_000,
        "tenant:a:tokens:month": 5,
        "tenant:c:nano_usd:month": 400_000_000_001,
        "tenant:c:tokens:day": 0,
    }


@pytest.mark.parametrize(
    ("period", "at", "start", "end"),
    [
        ("day", 1_795_521_600_000, 1_795_478_400_000, 1_795_564_800_000),
        ("day", 1_795_478_400_000, 1_795_478_400_000, 1_795_564_800_000),
        ("day", 1_795_564_799_999, 1_795_478_400_000, 1_795_564_800_000),
        ("month", 1_795_521_600_000, 1_793_491_200_000, 1_796_083_200_000),  # November 2026
        ("month", 1_798_761_599_999, 1_796_083_200_000, 1_798_761_600_000),  # the last moment of the year
        ("month", 1_835_395_200_000, 1_832_976_000_000, 1_835_481_600_000),  # 29 February 2028
    ],
)
def test_periods_are_days_and_months_in_utc(period: str, at: int, start: int, end: int) -> None:
    assert rules.period_bounds(period, WallMs(at)) == (start, end)


def test_an_unknown_period_is_refused() -> None:
    with pytest.raises(ValueError, match="day or month"):
        rules.period_bounds("week", NOON)


@pytest.mark.parametrize(("cap", "block"), [(0, 0), (1, 1), (19, 1), (20, 1), (40, 2), (1_000_000, 50_000)])
def test_a_block_is_a_named_share_of_the_cap(cap: int, block: int) -> None:
    assert rules.block_size(cap) == block


def test_a_grant_is_what_is_left_and_then_nothing() -> None:
    state, lease = lend(budget(100), 70)
    assert (lease.amount, figures(state)) == (70, (100, 0, 70, 0))
    state, lease = lend(state, 70, "l2")
    assert (lease.amount, rules.left(state)) == (30, 0)
    assert rules.granted(state, 1, lease="l3", gateway="g", request="r", now=NOON) is None
    assert rules.granted(budget(100), 0, lease="l3", gateway="g", request="r", now=NOON) is None


def test_a_lease_does_not_reach_into_the_next_period_but_is_always_of_use() -> None:
    state = budget()
    assert state.period_end_wall_ms is not None
    assert rules.lease_ttl_ms(state, NOON) == LEASE_TTL_S * 1000
    assert rules.lease_ttl_ms(state, WallMs(state.period_end_wall_ms - 20_000)) == 20_000
    assert rules.lease_ttl_ms(state, WallMs(state.period_end_wall_ms - 1)) == rules.TTL_MS_MIN


def test_the_life_of_a_block() -> None:
    state, lease = lend(budget(100), 40)
    state, lease = rules.reported(state, lease, 10, WallMs(NOON + 50_000))
    assert (figures(state), lease.state) == ((100, 10, 30, 0), LeaseState.OPEN)
    assert lease.expires_wall_ms == NOON + 50_000 + LEASE_TTL_S * 1000 + rules.EXPIRY_SLACK_MS, "a report renews it"
    assert rules.reported(state, lease, 7, NOON) == (state, lease), "an old report changes nothing"
    state, lease = rules.returned(state, lease, 25)
    assert (figures(state), lease.state) == ((100, 25, 0, 0), LeaseState.SETTLED)
    assert rules.returned(state, lease, 25) == (state, lease)
    assert rules.expired(state, lease) == (state, lease)
    assert rules.reconciled(state, lease, 40) == (state, lease)


def test_an_expired_block_is_wholly_spent_until_the_facts_are_in() -> None:
    state, lease = lend(budget(100), 40)
    state, lease = rules.reported(state, lease, 10, NOON)
    state, lease = rules.expired(state, lease)
    assert figures(state) == (100, 40, 0, 0)
    freed, done = rules.reconciled(state, lease, 15)
    assert (figures(freed), done.state) == ((100, 15, 0, 0), LeaseState.RECONCILED)
    assert figures(rules.reconciled(state, lease, 3).budget) == (100, 10, 0, 0), "never less than was reported"
    assert figures(rules.reconciled(freed, done, 20).budget) == (100, 20, 0, 0), "facts that come later count too"
    late, settled = rules.returned(state, lease, 12)
    assert (figures(late), settled.state) == ((100, 12, 0, 0), LeaseState.SETTLED), "the gateway's last word stands"


def test_more_than_the_block_is_overrun_and_counts_as_spent() -> None:
    state, lease = lend(budget(100), 100)
    state, lease = rules.returned(state, lease, 130)
    assert figures(state) == (100, 130, 0, 30)
    assert rules.holds(state)
    assert rules.left(state) == 0


def test_facts_after_a_reconciliation_cannot_be_undone_and_show_as_overrun() -> None:
    state, lease = lend(budget(100), 100)
    state, lease = rules.expired(state, lease)
    state, lease = rules.reconciled(state, lease, 20)
    state, _ = lend(state, 80, "l2")
    state, lease = rules.returned(state, lease, 50)
    assert figures(state) == (100, 50, 80, 30)
    assert rules.holds(state)


def test_a_lowered_cap_grants_nothing_takes_back_and_follows_down() -> None:
    state, lease = lend(budget(100), 60)
    state = rules.recapped(state, 30)
    assert figures(state) == (60, 0, 60, 0), "in force is what is out"
    assert rules.must_close(state)
    assert rules.left(state) == 0
    state, lease = rules.returned(state, lease, 20)
    assert (figures(state), rules.left(state), rules.must_close(state)) == ((30, 20, 0, 0), 10, False)
    raised = rules.recapped(state, 200)
    assert (raised.cap, rules.left(raised)) == (200, 180)
    ended = rules.recapped(replace(lend(raised, 50, "l2").budget), 200, active=False)
    assert (rules.left(ended), rules.must_close(ended)) == (0, True)


_steps = st.lists(
    st.tuples(
        st.sampled_from(["grant", "report", "return", "expire", "reconcile", "recap"]), st.integers(0, 7), st.integers(0, 120)
    ),
    max_size=40,
)


@given(_steps)
@settings(max_examples=300)
def test_bud_1_holds_after_any_steps_in_any_order(steps: list[tuple[str, int, int]]) -> None:
    state, leases = budget(100), {}
    for what, which, amount in steps:
        known = leases.get(which % max(1, len(leases)))
        if what == "grant":
            before = state
            step = rules.granted(state, amount, lease=f"l{len(leases)}", gateway="g", request="r", now=NOON)
            if step is None:
                assert amount == 0 or rules.left(before) == 0
                continue
            state, leases[len(leases)] = step
            assert state.spent + state.leased <= state.cap_wanted, "no grant goes over what the settings say"
        elif what == "recap":
            state = rules.recapped(state, amount)
        elif known is not None:
            change = {
                "report": lambda lease: rules.reported(state, lease, amount, NOON),  # noqa: B023
                "return": lambda lease: rules.returned(state, lease, amount),  # noqa: B023
                "expire": lambda lease: rules.expired(state, lease),  # noqa: B023
                "reconcile": lambda lease: rules.reconciled(state, lease, amount),  # noqa: B023
            }[what]
            state, leases[which % len(leases)] = change(known)
        assert rules.holds(state)
        assert state.cap >= state.cap_wanted
        counted = [rules.counted(lease) for lease in leases.values()]
        assert (state.spent, state.leased) == (sum(c[0] for c in counted), sum(c[1] for c in counted))
