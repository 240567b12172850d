"""A world to be: which cause, how strong against the noise, at what load; and what is known of the same world left alone."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Final

import msgspec

from headway.calls.phases.model import Cause, Seen
from headway.lab.phase_worlds.families import Family

INJECTED: Final = tuple(cause for cause in Cause if cause is not Cause.CANNOT_TELL)
STRENGTHS: Final = (0.5, 1.0, 2.0, 4.0, 8.0)
LOADS: Final = (0, 1, 2)
WARM_CALLS_A_TENANT: Final = 40
MAIN_CALLS: Final = 400
CLEAN_CALLS: Final = 1_000
TARGETS: Final = 50
SLOW_SHARE, SLOW_MS, SLOW_UNITS = 0.2, 100.0, 3.0
"""A call is told slow from so many deviations on, and from these: noise smaller than a third of them is nobody's measure."""


class Habit(msgspec.Struct, frozen=True, kw_only=True):
    """Of one tenant left alone. ``noise_ms`` is the robust spread of durations less what their tokens take; ``varies_ms`` the same of what a cause would move
    and is never quite the same: the answer's length, the prompt's, the tool's time."""

    noise_ms: float
    varies_ms: Mapping[Cause, float]
    duration_ms: float

    def unit_ms(self, cause: Cause) -> float:
        """In which strengths count: the noise in what the cause moves, or a third of what nobody calls slow, whichever is larger."""
        noise = (self.noise_ms**2 + self.varies_ms.get(cause, 0.0) ** 2) ** 0.5
        return float(max(noise, max(SLOW_SHARE * self.duration_ms, SLOW_MS) / SLOW_UNITS))


class Usual(msgspec.Struct, frozen=True, kw_only=True):
    """A world left alone."""

    tenants: Mapping[str, Habit]
    token_ms: float
    """A token of an answer."""

    def middle(self) -> Habit:
        """The tenant in the middle, by its noise."""
        ordered = sorted(self.tenants.values(), key=lambda habit: habit.noise_ms)
        return ordered[len(ordered) // 2]

    def of(self, tenant: str) -> Habit:
        """Of one that this world did not have, the middle one's."""
        return self.tenants.get(tenant) or self.middle()


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """``causes`` empty: left alone. ``strengths`` as many as causes. ``regions`` False: a provider that does not say where it answers."""

    family: Family
    hosted: bool
    load: int
    seed: int
    causes: tuple[Cause, ...] = ()
    strengths: tuple[float, ...] = ()
    regions: bool = True

    @property
    def name(self) -> str:
        """Seeds what is drawn for it."""
        what = "+".join(f"{cause}x{strength:g}" for cause, strength in zip(self.causes, self.strengths, strict=True)) or "clean"
        return f"{self.family.name}:{self.place}:{self.load}:{what}:{self.seed}"

    @property
    def place(self) -> str:
        return "own" if not self.hosted else "hosted" if self.regions else "hosted_without_region"

    @property
    def per_s(self) -> float:
        return (self.family.hosted_loads_per_s if self.hosted else self.family.own_loads_per_s)[self.load]

    @property
    def warm_calls(self) -> int:
        return WARM_CALLS_A_TENANT * self.family.shape.tenants


def usual_of(plan: Plan, seen: Sequence[Seen]) -> Usual:
    """Of the calls of a world left alone, after its first."""
    paces = [_decode_ms(each) / _steps(each) for each in seen if _steps(each)]
    token_ms = median(paces)
    prompt_ms = plan.family.hosted.token_ms if plan.hosted else plan.family.machine.token_ms
    by_tenant: dict[str, list[Seen]] = {}
    for each in seen:
        by_tenant.setdefault(each.tenant, []).append(each)
    return Usual(tenants={tenant: _habit(calls, token_ms, prompt_ms) for tenant, calls in by_tenant.items()}, token_ms=token_ms)


def _habit(calls: Sequence[Seen], token_ms: float, prompt_ms: float) -> Habit:
    answers = [_steps(c) * token_ms for c in calls]
    prompts = [((c.input_tokens or 0) - (c.cached_tokens or 0)) * prompt_ms for c in calls]
    left = [c.duration_ms - answer - prompt for c, answer, prompt in zip(calls, answers, prompts, strict=True)]
    varies = {
        Cause.LONGER_OUTPUT: _spread(answers),
        Cause.LONG_PROMPT: _spread(prompts),
        Cause.TOOL_WAIT: _spread([c.tool_ms for c in calls if c.tool_ms]),
    }
    return Habit(noise_ms=_spread(left), varies_ms=varies, duration_ms=median(c.duration_ms for c in calls))


def _spread(values: Sequence[float]) -> float:
    """The larger of 1.4826 MAD and (p75 - median) / 0.6745, since noise that makes a call late lies above; 0 of none."""
    if not values:
        return 0.0
    middle = median(values)
    upper = sorted(values)[int(0.75 * len(values))]
    return max(1.4826 * median(abs(each - middle) for each in values), (upper - middle) / 0.6745)


def _steps(seen: Seen) -> int:
    return max((seen.output_tokens or 0) - 1, 0)


def _decode_ms(seen: Seen) -> float:
    return (seen.last_token_ms or 0.0) - (seen.first_token_ms or 0.0)
