"""The proof of phases on the lab: what is planned, and that a small one tells what its figures need."""

from headway.calls.phases.model import Cause
from headway.lab.phase_worlds.families import SCORING
from headway.lab.phase_worlds.plan import INJECTED, LOADS, STRENGTHS, Plan
from headway.prove.phases import STRONG, WANTED, injecting, left_alone
from headway.prove.phases_figures import Found, figures
from headway.prove.phases_worlds import alone, touched


def test_every_cause_at_every_strength_and_load_at_both_places() -> None:
    plans = injecting(1, STRENGTHS, LOADS)["one"]
    assert {(p.causes[0], p.strengths[0], p.load, p.hosted) for p in plans} == {
        (cause, strength, load, hosted)
        for cause in INJECTED
        for strength in STRENGTHS
        for load in LOADS
        for hosted in (False, True)
    }
    assert {plan.family for plan in plans} == {SCORING}, "nothing is scored in the family in which thresholds were found"


def test_worlds_left_alone_stand_beside_all_that_are_not() -> None:
    known = {(p.family.name, p.hosted, p.load) for p in left_alone(1, LOADS)}
    for plans in injecting(1, STRENGTHS, LOADS).values():
        assert {(p.family.name, p.hosted, p.load) for p in plans} <= known


def test_a_small_proof_tells_its_figures() -> None:
    quiet = Plan(family=SCORING, hosted=True, load=1, seed=5)
    known = alone(quiet)
    queue, long_prompt, blind = (
        Plan(
            family=SCORING,
            hosted=True,
            load=1,
            seed=5,
            causes=(cause,),
            strengths=(strength,),
            regions=cause is not Cause.NEIGHBOUR,
        )
        for cause, strength in ((Cause.OWN_QUEUE, 8.0), (Cause.LONG_PROMPT, 8.0), (Cause.NEIGHBOUR, 8.0))
    )
    one = {plan.name: touched(plan, known.usual) for plan in (queue, long_prompt)}
    found = Found(
        clean={quiet.name: known.calls},
        by_kind={"one": one, "taught": one, "blind": {blind.name: touched(blind, known.usual)}},
        usual={quiet.name: known.usual},
    )
    told = figures(found, 5)
    assert set(WANTED) - {"s1.accuracy_answered"} <= set(told)
    assert told["s4.accuracy_answered"].value is not None
    assert told["s4.accuracy_answered"].value >= 0.9
    assert told["s4.coverage"].value is not None
    assert told["s4.coverage"].value >= 0.8
    assert told["clean_named"].value is not None
    assert told["clean_named"].value <= 0.05
    assert told["hosted_without_region.cannot_tell"].value is not None
    assert told["hosted_without_region.cannot_tell"].value >= 0.8
    assert told["baseline.always_long_prompt.accuracy"].value == 0.5
    assert "s1.accuracy_answered" not in told, "what was not measured is absent"


def test_strengths_that_count_as_strong() -> None:
    assert STRONG == (4.0, 8.0)
