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
    """Of one tenant left alone. ``noise_ms`` is 1.4826 MAD of durations less what their tokens take; ``unit_ms``, in which strengths count, that or a
    third of what nobody calls slow, whichever is larger."""

    noise_ms: float
    unit_ms: float
    duration_ms: float


class Usual(msgspec.Struct, frozen=True, kw_only=True):
    """A world left alone."""

    tenants: Mapping[str, Habit]
    token_ms: float
    """A token of an answer."""

    def middle(self) -> Habit:
        """The tenant in the middle, by its unit."""
        ordered = sorted(self.tenants.values(), key=lambda habit: habit.unit_ms)
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
    left = [c.duration_ms - _steps(c) * token_ms - ((c.input_tokens or 0) - (c.cached_tokens or 0)) * prompt_ms for c in calls]
    middle = median(left)
    noise = 1.4826 * median(abs(each - middle) for each in left)
    duration = median(c.duration_ms for c in calls)
    return Habit(noise_ms=noise, unit_ms=max(noise, max(SLOW_SHARE * duration, SLOW_MS) / SLOW_UNITS), duration_ms=duration)


def _steps(seen: Seen) -> int:
    return max((seen.output_tokens or 0) - 1, 0)


def _decode_ms(seen: Seen) -> float:
    return (seen.last_token_ms or 0.0) - (seen.first_token_ms or 0.0)
