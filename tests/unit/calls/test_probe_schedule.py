"""When probes go, and that they never cost more than they may."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.calls.phases.probes import (
    DAY_MS,
    JITTER_SHARE,
    ROUND,
    Held,
    ProbeKind,
    ProbePlan,
    ProbeSchedule,
    prompt,
    round_costs,
)
from headway.calls.pricing import FREE, PriceRow
from headway.kernel.instants import WallMs
from headway.kernel.limits import PROBE_ROUTES_MAX, PROBES_IN_FLIGHT_MAX

NOON = WallMs(1_790_000_000_000 // DAY_MS * DAY_MS + DAY_MS // 2)
PRICE = PriceRow(provider="openai", model="m", input_pico=1_000_000, output_pico=4_000_000)
OWN = PriceRow(provider=FREE, model="", input_pico=0, output_pico=0)
MINUTE = 60_000


def plan(route: str = "p/m", **more: object) -> ProbePlan:
    values: dict[str, object] = {"route": route, "every_ms": 10 * MINUTE, "long_tokens": 1_500, "price": PRICE}
    return ProbePlan(**{**values, **more})  # type: ignore[arg-type]


def at(ms: float) -> WallMs:
    return WallMs(NOON + int(ms))


def schedule(*plans: ProbePlan, cap: int = 10**12, seed: int = 7, **caps: int) -> ProbeSchedule:
    made = ProbeSchedule(seed)
    made.want(plans or [plan()], {"": cap, **caps}, NOON)
    return made


def walk(made: ProbeSchedule, until_ms: int, cost: int | None = None, step_ms: int = 1_000) -> list[tuple[int, Held]]:
    """Each round ends at once. ``cost`` None: at its upper bound."""
    gone = []
    for ms in range(0, until_ms, step_ms):
        for held in made.due(at(ms)):
            gone.append((ms, held))
            made.ended(held, held.reserved if cost is None else cost, at(ms))
    return gone


def test_rounds_come_at_their_interval_within_the_jitter() -> None:
    times = [ms for ms, _ in walk(schedule(), 5 * 3600 * 1000)]
    assert 0 <= times[0] <= 10 * MINUTE + 1_000
    gaps = [b - a for a, b in zip(times, times[1:], strict=False)]
    assert len(gaps) > 20
    assert all((1 - JITTER_SHARE) * 10 * MINUTE <= gap <= (1 + JITTER_SHARE) * 10 * MINUTE + 1_000 for gap in gaps)
    assert len(set(gaps)) > 10, "not in step with anything"


def test_jitter_is_the_seeds() -> None:
    one, same, other = (walk(schedule(seed=seed), 2 * 3600 * 1000) for seed in (1, 1, 2))
    assert [ms for ms, _ in one] == [ms for ms, _ in same]
    assert [ms for ms, _ in one] != [ms for ms, _ in other]


def test_one_round_of_a_route_at_a_time_and_few_routes_at_once() -> None:
    made = schedule(*[plan(f"p/m{i}") for i in range(9)])
    first = made.due(at(11 * MINUTE))
    assert len(first) == PROBES_IN_FLIGHT_MAX
    assert made.due(at(12 * MINUTE)) == []
    assert made.due(at(60 * MINUTE)) == []
    for held in first:
        made.ended(held, 0, at(61 * MINUTE))
    second = made.due(at(61 * MINUTE))
    assert len(second) == PROBES_IN_FLIGHT_MAX
    assert {held.route for held in second}.isdisjoint({held.route for held in first}), "who waited longest goes first"


def test_what_is_off_the_schedule_goes_only_when_asked() -> None:
    made = schedule(plan(on=False))
    assert walk(made, 3600 * 1000) == []
    held = made.take("p/m", NOON)
    assert held is not None
    assert made.take("p/m", NOON) is None
    assert "under way" in made.lanes["p/m"].refused
    with pytest.raises(KeyError):
        made.take("p/other", NOON)


def test_unknown_prices_are_refused_unless_allowed() -> None:
    made = schedule(plan(price=None))
    assert walk(made, 3600 * 1000) == []
    assert "price is unknown" in made.lanes["p/m"].refused
    assert len(walk(schedule(plan(price=None, unpriced=True)), 3600 * 1000)) >= 5
    half = PriceRow(provider="x", model="m", input_pico=5)
    assert round_costs(plan(price=half)) is not None, "embeddings have no output price"
    assert round_costs(plan(price=PriceRow(provider="x", model="m", output_pico=5))) is None


def test_own_engines_cost_nothing_and_need_no_money() -> None:
    assert round_costs(plan(price=OWN)) == (0, 0, 0, 0)
    assert len(walk(schedule(plan(price=OWN), cap=0), 3600 * 1000)) >= 5


def test_a_round_costs_at_most_what_its_prompts_can() -> None:
    costs = round_costs(plan())
    assert costs is not None
    assert costs[0] == costs[1] < costs[2] == costs[3]
    longest = len(prompt(ProbeKind.LONG_COLD, "s", 3, 1_500))
    assert costs[2] >= (longest // 4) * 1_000 + 16 * 4_000, "four bytes a token, and the whole answer"


@pytest.mark.parametrize("share", [0.3, 0.01])
def test_the_cap_of_a_day_holds_and_lasts_the_day(share: float) -> None:
    costs = round_costs(plan())
    assert costs is not None
    whole_day = sum(costs) * 144
    cap = int(whole_day * share)
    made = ProbeSchedule(3)
    midnight = WallMs(NOON - DAY_MS // 2)
    made.want([plan()], {"": cap}, midnight)
    spent: Counter[int] = Counter()
    hours: set[int] = set()
    for ms in range(0, 2 * DAY_MS, 10_000):
        now = WallMs(midnight + ms)
        for held in made.due(now):
            spent[held.day] += held.reserved
            hours.add(ms % DAY_MS // 3_600_000)
            made.ended(held, held.reserved, now)
    assert all(amount <= cap for amount in spent.values())
    if share == 0.3:
        assert min(spent.values()) > 0.8 * cap
        assert max(hours) >= 21, "the last hours of a day have a control group too"


def test_money_of_the_day_that_is_gone_says_so_and_comes_back() -> None:
    costs = round_costs(plan())
    assert costs is not None
    made = schedule(cap=sum(costs))
    made.spent({"": 1}, NOON)
    assert made.take("p/m", NOON) is None
    assert "money" in made.lanes["p/m"].refused
    assert made.take("p/m", at(DAY_MS / 2)) is not None, "a new day"


def test_a_providers_own_cap_binds_besides() -> None:
    costs = round_costs(plan())
    assert costs is not None
    made = schedule(plan(cap="p"), plan("q/m"), p=sum(costs))
    first = made.take("p/m", NOON)
    assert first is not None
    made.ended(first, first.reserved, NOON)
    assert made.take("p/m", NOON) is None
    assert made.take("q/m", NOON) is not None


def test_settled_at_less_leaves_more() -> None:
    costs = round_costs(plan())
    assert costs is not None
    made = schedule(cap=sum(costs) + 10)
    held = made.take("p/m", NOON)
    assert held is not None
    made.ended(held, 10, NOON)
    assert made.take("p/m", NOON) is not None
    assert made.purses[""].spent == 10


def test_a_round_over_midnight_is_settled_on_its_own_day() -> None:
    made = schedule(cap=10**12)
    held = made.take("p/m", at(DAY_MS / 2 - 1))
    assert held is not None
    made.ended(held, 5_000, at(DAY_MS / 2 + 1))
    assert (made.purses[""].spent, made.purses[""].reserved) == (0, 0)


def test_new_settings_keep_the_turn_and_what_runs() -> None:
    made = schedule(plan(), plan("q/m"))
    due = made.lanes["p/m"].due_ms
    held = made.take("q/m", NOON)
    assert held is not None
    made.want([plan(long_tokens=100), plan("q/m")], {"": 5}, at(1))
    assert made.lanes["p/m"].due_ms == due
    assert made.lanes["q/m"].running
    assert made.purses[""].cap == 5
    assert made.purses[""].reserved == held.reserved
    made.want([plan()], {"": 5}, at(2))
    made.ended(held, 1, at(3))
    assert "q/m" not in made.lanes


def test_a_clock_set_back_does_not_silence_a_route() -> None:
    made = schedule()
    earlier = WallMs(NOON - 30 * DAY_MS)
    assert made.due(earlier) == []
    assert made.lanes["p/m"].due_ms <= earlier + 10 * MINUTE


def test_more_routes_than_the_bound_are_counted() -> None:
    made = schedule(*[plan(f"p/m{i}") for i in range(PROBE_ROUTES_MAX + 3)])
    assert (len(made.lanes), made.left_out) == (PROBE_ROUTES_MAX, 3)


def test_texts_are_fixed_cold_and_warm() -> None:
    def text(kind: ProbeKind, number: int = 1, salt: str = "s") -> str:
        return prompt(kind, salt, number, 400)

    assert text(ProbeKind.LONG_COLD) == text(ProbeKind.LONG_WARM) == text(ProbeKind.LONG_COLD)
    assert text(ProbeKind.SHORT_COLD) == text(ProbeKind.SHORT_WARM)
    heads = {text(ProbeKind.LONG_COLD, number).split()[0:8].__repr__() for number in range(500)}
    assert len(heads) == 500, "no round begins as another did"
    assert text(ProbeKind.LONG_COLD, salt="t") != text(ProbeKind.LONG_COLD), "nor after a restart"
    lengths = {len(text(ProbeKind.LONG_COLD, number).split()) for number in range(50)}
    assert lengths == {399}, "the same size each time"
    assert len(text(ProbeKind.SHORT_COLD).split()) == 23
    assert list(ROUND) == ["short.cold", "short.warm", "long.cold", "long.warm"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30), st.integers(0, 150)), max_size=60),
    st.integers(0, 40),
    st.integers(0, 10),
)
def test_prb_1_spent_and_reserved_stay_under_the_cap(steps: list[tuple[int, int, int]], cap_rounds: int, own_rounds: int) -> None:
    costs = round_costs(plan())
    assert costs is not None
    one = sum(costs)
    plans = [plan(f"p/m{i}", cap="p" if i % 2 else "") for i in range(4)]
    made = ProbeSchedule(1)
    made.want(plans, {"": cap_rounds * one, "p": own_rounds * one}, NOON)
    now, running = int(NOON), []
    for which, minutes, percent in steps:
        now += minutes * MINUTE
        held = made.take(f"p/m{which}", WallMs(now))
        if held is not None:
            running.append(held)
        if len(running) > 2:
            ending = running.pop(0)
            made.ended(ending, ending.reserved * min(percent, 100) // 100, WallMs(now))
        for purse in made.purses.values():
            assert 0 <= purse.spent + purse.reserved <= purse.cap
