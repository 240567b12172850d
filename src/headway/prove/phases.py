"""``headway prove phases --engine lab``: calls that are slow for a known cause, and what the verdicts say of them.

Each cause at five strengths and three loads, on a simulated engine and at a hosted provider, in a family of worlds on which no threshold was
found. Beside them the same worlds left alone, pairs of causes, and hosted providers that do not say where they answer. Two processes work at
once; Ctrl-C ends both.
"""

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from types import MappingProxyType
from typing import Final, TypeVar

import msgspec

from headway.calls.phases.model import Cause
from headway.kernel.figure import Proof
from headway.lab.phase_worlds.families import FITTING, SCORING, Family
from headway.lab.phase_worlds.plan import INJECTED, LOADS, STRENGTHS, Plan, Unit, Usual
from headway.prove.phases_figures import Found, confusion, figures
from headway.prove.phases_proved import Proved
from headway.prove.phases_score import Scored
from headway.prove.phases_worlds import Alone, alone, touched
from headway.prove.report import Wanted

WORKERS_MAX: Final = 2
STRONG: Final = (4.0, 8.0)
PAIRS: Final = (
    (Cause.OWN_QUEUE, Cause.LONG_PROMPT),
    (Cause.THROTTLING, Cause.SLOW_DECODE),
    (Cause.COLD_CACHE, Cause.LONGER_OUTPUT),
    (Cause.NEIGHBOUR, Cause.SLOW_READER),
    (Cause.ROUTE_CHANGE, Cause.LONGER_OUTPUT),
    (Cause.RETRY, Cause.TOOL_WAIT),
)
RESIDUAL_STRENGTHS: Final = (1.0, 4.0, 8.0)
UNEQUAL: Final = (8.0, 2.0)
EQUAL: Final = (4.0, 4.0)
PAIR_LOAD: Final = 1
WANTED: Final[Mapping[str, Wanted]] = MappingProxyType(
    {
        "s4.accuracy_answered": Wanted(at_least=0.95),
        "s4.coverage": Wanted(at_least=0.85),
        "s1.accuracy_answered": Wanted(at_least=0.85),
        "clean_named": Wanted(at_most=0.02),
        "hosted_without_region.cannot_tell": Wanted(at_least=0.80),
        "baseline.always_long_prompt.below_ours": Wanted(at_least=0.2),
        "baseline.nearest_duration.below_ours": Wanted(at_least=0.2),
    }
)

Say = Callable[[str], None]
T = TypeVar("T", Alone, list[Scored])
Key = tuple[str, str, int]
"""Family, place and load."""


def prove(seed: int, say: Say, *, strengths: Sequence[float] = STRENGTHS, loads: Sequence[int] = LOADS) -> Proved:
    """KeyboardInterrupt after its processes have ended."""
    began = time.monotonic()
    found = lived(seed, say, strengths=strengths, loads=loads)
    proof = Proof(
        pillar="phases",
        engine="lab",
        seed=seed,
        figures=figures(found, seed),
        control_alarms=0,
        took_s=round(time.monotonic() - began, 1),
    )
    return Proved(proof, confusion(found))


def left_alone(seed: int, loads: Sequence[int]) -> list[Plan]:
    """The scored family at all loads, the other one in the middle: that is what the rule is taught that knows durations only."""
    scored = [_plan(SCORING, hosted, load, seed) for hosted in (False, True) for load in loads]
    return scored + [_plan(FITTING, hosted, PAIR_LOAD, seed) for hosted in (False, True)]


def injecting(seed: int, strengths: Sequence[float], loads: Sequence[int]) -> dict[str, list[Plan]]:
    """Plans by what they are for."""
    places = (False, True)
    one = [
        _plan(SCORING, hosted, load, seed, (cause,), (strength,))
        for hosted in places
        for load in loads
        for cause in INJECTED
        for strength in strengths
    ]
    taught = [
        _plan(FITTING, hosted, PAIR_LOAD, seed, (cause,), (strength,))
        for hosted in places
        for cause in INJECTED
        for strength in STRONG
    ]
    blind = [
        msgspec.structs.replace(_plan(SCORING, True, load, seed, (cause,), (strength,)), regions=False)
        for load in loads
        for cause in (Cause.NEIGHBOUR, Cause.ROUTE_CHANGE)
        for strength in STRONG
    ]
    load = PAIR_LOAD if PAIR_LOAD in loads else loads[0]
    pairs = {
        name: [_plan(SCORING, hosted, load, seed, pair, each) for hosted in places for pair in PAIRS for each in orders]
        for name, orders in (("unequal", (UNEQUAL, UNEQUAL[::-1])), ("equal", (EQUAL,)))
    }
    residual = [msgspec.structs.replace(plan, unit=Unit.RESIDUAL) for plan in one if plan.strengths[0] in RESIDUAL_STRENGTHS]
    return {"one": one, "taught": taught, "blind": blind, "residual": residual, **pairs}


def _plan(
    family: Family, hosted: bool, load: int, seed: int, causes: tuple[Cause, ...] = (), strengths: tuple[float, ...] = ()
) -> Plan:
    return Plan(family=family, hosted=hosted, load=load, seed=seed, causes=causes, strengths=strengths)


def _key(plan: Plan) -> Key:
    return (plan.family.name, "hosted" if plan.hosted else "own", plan.load)


def lived(seed: int, say: Say, *, strengths: Sequence[float] = STRENGTHS, loads: Sequence[int] = LOADS) -> Found:
    """All worlds, each judged. First those left alone, in whose noise strengths count."""
    kinds = injecting(seed, strengths, loads)
    quiet = left_alone(seed, loads)
    whole = len(quiet) + sum(len(plans) for plans in kinds.values())
    with ProcessPoolExecutor(_workers(), mp_context=get_context("spawn"), initializer=_leave_stopping_to_parent) as pool:
        try:
            known = _gathered({pool.submit(alone, plan): plan for plan in quiet}, 0, whole, say)
            usual = {_key(plan): each.usual for plan, each in known}
            jobs = {pool.submit(touched, plan, _usual(usual, plan)): plan for plans in kinds.values() for plan in plans}
            lived = dict(_named(_gathered(jobs, len(quiet), whole, say)))
        except BaseException:
            _stop(pool)
            raise
    return Found(
        clean={plan.name: each.calls for plan, each in known if plan.family is SCORING},
        by_kind={kind: {plan.name: lived[plan.name] for plan in plans} for kind, plans in kinds.items()},
        usual={plan.name: each.usual for plan, each in known},
    )


def _usual(known: Mapping[Key, Usual], plan: Plan) -> Usual:
    return known[_key(plan)]


def _named(lived: list[tuple[Plan, list[Scored]]]) -> list[tuple[str, list[Scored]]]:
    return [(plan.name, calls) for plan, calls in lived]


def _gathered(jobs: "dict[Future[T], Plan]", before: int, whole: int, say: Say) -> list[tuple[Plan, T]]:
    """In the order in which they were asked for, whatever order they end in."""
    for count, ended in enumerate(as_completed(jobs), 1):
        ended.result()
        say(f"{before + count} of {whole} worlds")
    return [(plan, job.result()) for job, plan in jobs.items()]


def _workers() -> int:
    return max(1, min(WORKERS_MAX, os.cpu_count() or 1))


def _stop(pool: ProcessPoolExecutor) -> None:
    """At once: what its processes were at is of no use any more."""
    processes = tuple((getattr(pool, "_processes", None) or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()


def _leave_stopping_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
