"""A world to be: which cause, how strong against the noise, at what load; and what is known of the same world left alone."""

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
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
LATE_UNITS: Final = 3.0
SLOW_SHARE, SLOW_MS, SLOW_UNITS = 0.2, 100.0, 3.0
"""A call is told slow from so many deviations on, and from these: noise smaller than a third of them is nobody's measure."""


class Unit(StrEnum):
    """What the noise is of in which strengths count."""

    DURATION = "duration"
    """A tenant's calls as one span shows them."""
    RESIDUAL = "residual"
    """The same less what their tokens take: what is left once the verdicts' model has said its part."""


class Habit(msgspec.Struct, frozen=True, kw_only=True):
    """Of one tenant left alone. Spreads are 1.4826 MAD."""

    noise_ms: float
    """Of its calls' durations."""
    residual_ms: float
    """Of durations less what the tokens of prompt and answer take."""
    tool_ms: float
    """The same of its tools, which lie before the call."""
    duration_ms: float

    def unit_ms(self, cause: Cause, unit: Unit) -> float:
        """In which strengths count: the noise, of a tool's wait with the tool's own, or a third of what nobody calls slow, whichever is larger."""
        noise = self.noise_ms if unit is Unit.DURATION else self.residual_ms
        noise = (noise**2 + (self.tool_ms if cause is Cause.TOOL_WAIT else 0.0) ** 2) ** 0.5
        return float(max(noise, max(SLOW_SHARE * self.duration_ms, SLOW_MS) / SLOW_UNITS))


class Usual(msgspec.Struct, frozen=True, kw_only=True):
    """A world left alone."""

    tenants: Mapping[str, Habit]
    token_ms: float
    """A token of an answer."""
    late: frozenset[str]
    """Calls that chance made late, in their first token, their pace or the tool before them: nothing is done to them, for then two things would have slowed them."""

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
    unit: Unit = Unit.DURATION

    @property
    def name(self) -> str:
        """Seeds what is drawn for it."""
        what = "+".join(f"{cause}x{strength:g}" for cause, strength in zip(self.causes, self.strengths, strict=True)) or "clean"
        return f"{self.family.name}:{self.place}:{self.load}:{what}:{self.seed}" + (
            f":{self.unit}" if self.unit is not Unit.DURATION else ""
        )

    @property
    def traffic(self) -> str:
        """Seeds who calls and for what: the same in all worlds of a family, a place and a load, so that one can be held against the one left alone."""
        return f"{self.family.name}:{self.hosted}:{self.load}:{self.seed}"

    @property
    def place(self) -> str:
        return "own" if not self.hosted else "hosted" if self.regions else "hosted_without_region"

    @property
    def prompt_token_ms(self) -> float:
        """A token of a prompt that is in no cache."""
        return self.family.hosted.token_ms if self.hosted else self.family.machine.token_ms

    @property
    def per_s(self) -> float:
        return (self.family.hosted_loads_per_s if self.hosted else self.family.own_loads_per_s)[self.load]

    @property
    def warm_calls(self) -> int:
        return WARM_CALLS_A_TENANT * self.family.shape.tenants


def usual_of(seen: Sequence[Seen], prompt_token_ms: float) -> Usual:
    """Of the calls of a world left alone, after its first, where a token of a prompt that no cache holds takes ``prompt_token_ms``."""
    by_tenant: dict[str, list[Seen]] = {}
    for each in seen:
        by_tenant.setdefault(each.tenant, []).append(each)
    token_ms = median(_pace_ms(each) for each in seen if _steps(each))
    return Usual(
        tenants={tenant: _habit(calls, token_ms, prompt_token_ms) for tenant, calls in by_tenant.items()},
        token_ms=token_ms,
        late=frozenset(name for calls in by_tenant.values() for name in _chance_late(calls)),
    )


def _chance_late(calls: Sequence[Seen]) -> list[str]:
    with_tools = [call for call in calls if call.tool_ms]
    return [
        *_late(calls, _first_ms),
        *_late(calls, _pace_ms),
        *(_late(with_tools, lambda call: call.tool_ms) if with_tools else ()),
    ]


def _late(calls: Sequence[Seen], took_ms: Callable[[Seen], float]) -> list[str]:
    """Those that took more than LATE_UNITS spreads over the median."""
    took = [took_ms(call) for call in calls]
    most = median(took) + LATE_UNITS * _spread(took)
    return [call.call for call, ms in zip(calls, took, strict=True) if ms > most]


def _habit(calls: Sequence[Seen], token_ms: float, prompt_token_ms: float) -> Habit:
    return Habit(
        noise_ms=_spread([call.duration_ms for call in calls]),
        residual_ms=_spread([call.duration_ms - _steps(call) * token_ms - _uncached(call) * prompt_token_ms for call in calls]),
        tool_ms=_spread([call.tool_ms for call in calls if call.tool_ms]),
        duration_ms=median(call.duration_ms for call in calls),
    )


def _spread(values: Sequence[float]) -> float:
    """1.4826 MAD; 0 of none."""
    middle = median(values) if values else 0.0
    return 1.4826 * median(abs(each - middle) for each in values) if values else 0.0


def _uncached(seen: Seen) -> int:
    return (seen.input_tokens or 0) - (seen.cached_tokens or 0)


def _steps(seen: Seen) -> int:
    return max((seen.output_tokens or 0) - 1, 0)


def _first_ms(seen: Seen) -> float:
    return (seen.first_token_ms or 0.0) - seen.sent_ms


def _pace_ms(seen: Seen) -> float:
    return ((seen.last_token_ms or 0.0) - (seen.first_token_ms or 0.0)) / max(_steps(seen), 1)
