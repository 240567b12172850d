"""A plan made a world, and lived through: rows as a gateway would have stored them, each with its truth."""

import random
from collections.abc import Sequence
from typing import Final

import msgspec

from headway.calls.phases.model import Cause
from headway.lab.phase_worlds.episodes import (
    AWAY_MS,
    NEIGHBOUR_CALLS,
    ROUNDS,
    ROUTE_CALLS,
    TOGETHER,
    burst,
    sleepers,
    stretches,
    take_routes,
    wait_all,
)
from headway.lab.phase_worlds.hosted import HostedPlace
from headway.lab.phase_worlds.inject import ALONE, may_meet
from headway.lab.phase_worlds.model import Asked, Row, Truth
from headway.lab.phase_worlds.own import OwnEngine
from headway.lab.phase_worlds.places import USUAL, Place
from headway.lab.phase_worlds.plan import CLEAN_CALLS, MAIN_CALLS, TARGETS, Plan, Usual
from headway.lab.phase_worlds.seeing import Sight, rows
from headway.lab.phase_worlds.traffic import PAPERS, Tenant, call, calls, tenants

SPACED_MS: Final = 2_000.0
"""Between calls that burden the engine, beside twice what each costs: it is to be itself again."""
IN_STRETCHES: Final = round(1.2 * TARGETS)
"""Calls that stand in stretches: chance makes some of them late, and those do not count."""
QUIET_PER_S: Final = 0.03
BURDENS: Final = frozenset({Cause.NEIGHBOUR, Cause.LONG_PROMPT, Cause.COLD_CACHE})


def live(plan: Plan, usual: Usual | None = None) -> list[Row]:
    """``usual`` of the same world left alone; None only for that one."""
    asked, places = _Making(plan, usual).made()
    asked.sort(key=lambda each: each.at_ms)
    upstream = HostedPlace(plan.family, places, plan.traffic) if plan.hosted else OwnEngine(plan.family, places, plan.name)
    sight = Sight(hosted=plan.hosted, regions=plan.regions)
    return rows(asked, upstream.run(asked), places, sight, plan.family.noise, plan.traffic)


class _Making:
    """What will be asked in one world."""

    def __init__(self, plan: Plan, usual: Usual | None) -> None:
        self._plan, self._usual = plan, usual
        self._rng = random.Random(f"world:{plan.name}")
        self._traffic = random.Random(f"traffic:{plan.traffic}")
        self._who = tenants(plan.family.shape, self._traffic)
        self._places: dict[int, Place] = {0: USUAL}

    def made(self) -> tuple[list[Asked], dict[int, Place]]:
        plan = self._plan
        if not plan.causes:
            return self._calls(plan.warm_calls + CLEAN_CALLS), self._places
        if Cause.COLD_CACHE in plan.causes:
            asked, targets = self._with_sleepers()
        else:
            asked = self._calls(plan.warm_calls + self._main_calls())
            targets = self._targets(asked)
        extras = self._touch(asked, targets)
        return asked + extras, self._places

    def _calls(self, count: int, start_ms: float = 0.0, name: str = "call", per_s: float = 0.0) -> list[Asked]:
        return calls(
            self._plan.family.shape,
            self._who,
            self._traffic,
            count=count,
            per_s=per_s or self._plan.per_s,
            start_ms=start_ms,
            name=name,
        )

    @property
    def _late(self) -> frozenset[str]:
        return self._usual.late if self._usual is not None else frozenset()

    def _unit_ms(self, tenant: str, cause: Cause) -> float:
        assert self._usual is not None, "strengths count in units of the world left alone"
        return self._usual.of(tenant).unit_ms(cause, self._plan.unit)

    def _apart_ms(self) -> float:
        """How far apart calls must come that keep an engine of one's own from others."""
        if self._plan.hosted or not BURDENS & set(self._plan.causes):
            return 0.0
        assert self._usual is not None
        habits = self._usual.tenants.values()
        most = max(
            h.unit_ms(c, self._plan.unit) * s for h in habits for c, s in zip(self._plan.causes, self._plan.strengths, strict=True)
        )
        asked_ms = self._plan.family.scrape_ms if Cause.NEIGHBOUR in self._plan.causes else 0.0
        return SPACED_MS + 2 * most + asked_ms + self._usual.middle().duration_ms

    def _main_calls(self) -> int:
        return max(MAIN_CALLS, round(1.2 * TARGETS * self._apart_ms() / 1_000 * self._plan.per_s))

    def _targets(self, asked: Sequence[Asked]) -> list[int]:
        plan, first = self._plan, self._plan.warm_calls
        if Cause.ROUTE_CHANGE in plan.causes:
            return [n for stretch in stretches(first, len(asked), ROUTE_CALLS, IN_STRETCHES) for n in stretch]
        if Cause.NEIGHBOUR in plan.causes and plan.hosted:
            return [n for stretch in stretches(first, len(asked), NEIGHBOUR_CALLS, IN_STRETCHES) for n in stretch]
        able = [n for n in range(first, len(asked)) if all(may_meet(cause, asked[n]) for cause in plan.causes)]
        able = [n for n in able if asked[n].tenant != PAPERS and asked[n].call not in self._late]
        if apart_ms := self._apart_ms():
            return _spaced(able, asked, apart_ms)
        return sorted(self._rng.sample(able, min(TARGETS, len(able))))

    def _with_sleepers(self) -> tuple[list[Asked], list[int]]:
        """Tenants that come back, again and again, after their prompt has left the cache."""
        plan, rng = self._plan, self._rng
        warm, who = sleepers(plan, self._cold_ms(), rng, self._like())
        asked = [*warm, *self._calls(plan.warm_calls, warm[-1].at_ms, "early")]
        at_ms, targets = asked[-1].at_ms, list[int]()
        back_ms = at_ms + AWAY_MS
        for round_ in range(ROUNDS):
            quiet = self._calls(max(1, round((back_ms - at_ms) / 1_000 * QUIET_PER_S)), at_ms, f"quiet-{round_}", QUIET_PER_S)
            main = self._calls(self._main_calls() // ROUNDS, back_ms, f"main-{round_}")
            at_ms = main[-1].at_ms
            step_ms = (at_ms - back_ms) / len(who)
            back = [
                call(plan.family.shape, each, rng, f"back-{round_}-{n}", back_ms + step_ms * (n + rng.random() / 2))
                for n, each in enumerate(who)
            ]
            asked += [*quiet, *main, *back]
            targets += range(len(asked) - len(back), len(asked))
            back_ms = at_ms + AWAY_MS
        return asked, targets

    def _like(self) -> Tenant:
        """The tenant in the middle."""
        assert self._usual is not None
        middle = self._usual.middle()
        return next(each for each in self._who if self._usual.of(each.name) == middle)

    def _cold_ms(self) -> float:
        assert self._usual is not None
        return self._plan.strengths[self._plan.causes.index(Cause.COLD_CACHE)] * self._usual.middle().unit_ms(
            Cause.COLD_CACHE, self._plan.unit
        )

    def _touch(self, asked: list[Asked], targets: Sequence[int]) -> list[Asked]:
        """Do all causes to the targets; the calls that others make on their behalf."""
        plan = self._plan
        extras: list[Asked] = []
        done: list[dict[int, float]] = []
        for cause, strength in zip(plan.causes, plan.strengths, strict=True):
            ms = {n: strength * self._unit_ms(asked[n].tenant, cause) for n in targets}
            done.append(ms)
            if cause in TOGETHER:
                extras += self._together(cause, strength, asked, targets, ms)
            else:
                assert self._usual is not None
                for n in targets:
                    asked[n] = ALONE[cause](asked[n], ms[n], plan, self._usual)
        for n in targets:
            if asked[n].call in self._late:
                continue
            truth = Truth(causes=plan.causes, ms=tuple(ms[n] for ms in done), strength=max(plan.strengths))
            asked[n] = msgspec.structs.replace(asked[n], truth=truth)
        return extras

    def _together(
        self, cause: Cause, strength: float, asked: list[Asked], targets: Sequence[int], ms: dict[int, float]
    ) -> list[Asked]:
        plan = self._plan
        if cause is Cause.COLD_CACHE:
            for n in targets:
                asked[n] = msgspec.structs.replace(asked[n], evicted=True)
        elif cause is Cause.ROUTE_CHANGE:
            assert self._usual is not None
            middle = self._usual.middle()
            slower = 1 + strength * middle.unit_ms(cause, plan.unit) / middle.duration_ms
            self._places |= take_routes(slower, asked, targets, ms, only_far=not plan.regions)
        elif plan.hosted:
            wait_all(asked, targets, ms, self._rng)
        else:
            return [each for number, n in enumerate(targets) for each in burst(plan, asked[n], ms[n], number)]
        return []


def _spaced(able: Sequence[int], asked: Sequence[Asked], apart_ms: float) -> list[int]:
    """The first of ``able`` that come far enough after the one before."""
    chosen: list[int] = []
    for n in able:
        if len(chosen) < TARGETS and (not chosen or asked[n].at_ms - asked[chosen[-1]].at_ms >= apart_ms):
            chosen.append(n)
    return chosen
