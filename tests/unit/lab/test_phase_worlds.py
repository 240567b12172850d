"""Worlds of phases: each cause does to calls what it says, nothing of the truth is seen, and a seed is a world."""

from statistics import median

import msgspec
import pytest

from headway.calls.phases.model import Cause, Seen
from headway.calls.phases.split import split
from headway.lab.phase_worlds.families import FAMILIES, FITTING, SCORING
from headway.lab.phase_worlds.model import Row
from headway.lab.phase_worlds.plan import INJECTED, Plan, Unit, Usual, usual_of
from headway.lab.phase_worlds.world import IN_STRETCHES, live

STRENGTH = 8.0
SEED = 3


def alone(*, hosted: bool, load: int = 1) -> Plan:
    return Plan(family=SCORING, hosted=hosted, load=load, seed=SEED)


@pytest.fixture(scope="module", params=[False, True], ids=["own", "hosted"])
def world(request: pytest.FixtureRequest) -> tuple[Plan, Usual, list[Row]]:
    plan = alone(hosted=request.param)
    rows = live(plan)
    return plan, usual_of([row.seen for row in rows[plan.warm_calls :]], plan.prompt_token_ms), rows


def touched(plan: Plan, usual: Usual, cause: Cause, strength: float = STRENGTH) -> list[Row]:
    return live(msgspec.structs.replace(plan, causes=(cause,), strengths=(strength,)), usual)


@pytest.mark.parametrize("cause", INJECTED)
def test_a_cause_costs_about_what_it_was_to_cost(cause: Cause, world: tuple[Plan, Usual, list[Row]]) -> None:
    """At the median over calls, in the whole from the tool wait on."""
    plan, usual, quiet = world
    rows = touched(plan, usual, cause)
    injected = [row for row in rows if row.truth.causes]
    assert 35 <= len(injected) <= IN_STRETCHES + 13
    assert {row.truth.causes for row in injected} == {(cause,)}
    ordinary = {t: median(_whole(r.seen) for r in quiet if r.seen.tenant == t) for t in {r.seen.tenant for r in quiet}}
    like = ordinary.get("tenant-1", 0.0)
    over = [_whole(row.seen) - ordinary.get(row.seen.tenant, like) for row in injected]
    if cause is Cause.COLD_CACHE:  # by tenants that the quiet world lacks: their own warm calls are the measure
        warm = [_whole(r.seen) for r in rows if r.seen.tenant.startswith("sleeper") and r.seen.cached_tokens]
        over = [_whole(row.seen) - median(warm) for row in injected]
    meant = median(row.truth.ms[0] for row in injected)
    assert median(over) == pytest.approx(meant, rel=0.5), f"{median(over):.0f} ms of {meant:.0f}"


def _whole(seen: Seen) -> float:
    return split(seen).duration_ms


def test_each_cause_is_where_phases_look_for_it(world: tuple[Plan, Usual, list[Row]]) -> None:
    plan, usual, _ = world

    def of(cause: Cause) -> list[Seen]:
        return [row.seen for row in touched(plan, usual, cause) if row.truth.causes]

    assert all(seen.queue_ms > 50 for seen in of(Cause.OWN_QUEUE))
    assert all(seen.attempts == 2 and seen.throttled_ms == seen.attempts_ms > 0 for seen in of(Cause.THROTTLING))
    assert all(seen.attempts == 2 and seen.throttled_ms == 0 < seen.attempts_ms for seen in of(Cause.RETRY))
    assert all(seen.blocked_ms > 0 and seen.blocked_at_ms for seen in of(Cause.SLOW_READER))
    assert all(seen.tool_ms > 0 for seen in of(Cause.TOOL_WAIT))
    assert all(seen.cached_tokens == 0 and (seen.idle_ms or 0) > 600_000 for seen in of(Cause.COLD_CACHE))
    places = {seen.region or seen.address for seen in of(Cause.ROUTE_CHANGE)}
    assert len(places) == 5
    assert not any(place.startswith("place-0") for place in places)


def test_a_neighbour_on_an_own_engine_leaves_what_gateways_see() -> None:
    plan = alone(hosted=False)
    quiet = live(plan)
    usual = usual_of([row.seen for row in quiet[plan.warm_calls :]], plan.prompt_token_ms)
    seen = [row.seen for row in touched(plan, usual, Cause.NEIGHBOUR) if row.truth.causes]
    crowded = [
        each for each in seen if (each.beside_tokens or 0) > 2_000 or (each.engine_waiting or 0) + (each.engine_running or 0) > 3
    ]
    assert len(crowded) >= 0.7 * len(seen)
    own = [each for each in seen if (each.beside_tokens or 0) > 2_000]
    assert 0.3 * len(seen) <= len(own) <= 0.8 * len(seen), "every other burst is of callers that our gateway does not carry"


def test_a_seed_is_a_world() -> None:
    plan = alone(hosted=True)
    assert live(plan) == live(plan)
    assert live(plan) != live(msgspec.structs.replace(plan, seed=SEED + 1))


def test_a_world_without_regions_tells_none() -> None:
    blind = Plan(family=SCORING, hosted=True, load=1, seed=SEED, regions=False)
    assert {(row.seen.region, row.seen.fingerprint, row.seen.edge, row.seen.address) for row in live(blind)} == {("", "", "", "")}


def test_families_share_no_engine_and_no_provider() -> None:
    assert FAMILIES == (FITTING, SCORING)
    assert FITTING.machine != SCORING.machine
    assert FITTING.engine != SCORING.engine
    assert FITTING.hosted != SCORING.hosted
    assert FITTING.noise != SCORING.noise
    assert FITTING.shape != SCORING.shape


@pytest.mark.parametrize("unit", Unit)
def test_a_unit_is_never_less_than_a_third_of_what_nobody_calls_slow(unit: Unit) -> None:
    plan = alone(hosted=False)
    usual = usual_of([row.seen for row in live(plan)], plan.prompt_token_ms)
    for habit in usual.tenants.values():
        assert habit.unit_ms(Cause.RETRY, unit) >= max(0.2 * habit.duration_ms, 100.0) / 3
        assert habit.unit_ms(Cause.TOOL_WAIT, unit) >= habit.unit_ms(Cause.RETRY, unit)
        assert habit.residual_ms < habit.noise_ms, "tokens explain a part of what durations differ by"
