"""Figures of the proof on the lab's worlds, and its confusion matrix as people read it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from headway.calls.phases.model import Cause
from headway.kernel.figure import Figure
from headway.lab.phase_worlds.plan import INJECTED, Usual
from headway.prove.phases_score import (
    CLEAN,
    QUIET,
    Scored,
    accuracy,
    accuracy_answered,
    cannot_tell,
    coverage,
    figure,
    matrix,
    nearest_duration,
    wrong_ms_share,
)

STRONG_MIN: Final = 4.0
WORLDS: Final = "scored family of worlds, eleven causes at three loads, own engine and hosted; "


class Found(msgspec.Struct, frozen=True):
    """What was said, world by world: of those left alone, and by kind (one, taught, blind, residual, unequal, equal) of those that were not."""

    clean: Mapping[str, list[Scored]]
    by_kind: Mapping[str, Mapping[str, list[Scored]]]
    usual: Mapping[str, Usual]

    def of(self, kind: str, wanted: Callable[[Scored], bool] = lambda _: True) -> list[Scored]:
        return [call for calls in self.by_kind.get(kind, {}).values() for call in calls if wanted(call)]

    @property
    def strong(self) -> list[Scored]:
        return self.of("one", lambda call: call.strength >= STRONG_MIN)


def figures(found: Found, seed: int) -> dict[str, Figure]:
    """Those of the issue first."""
    out = _main(found, seed)
    out |= _baselines(found, seed)
    out |= _more(found, seed)
    return {name: each for name, each in out.items() if each.value is not None}


def _main(found: Found, seed: int) -> dict[str, Figure]:
    one = found.of("one", lambda call: call.strength == 1)
    clean = [call for calls in found.clean.values() for call in calls]
    blind = found.of("blind")
    return {
        "s4.accuracy_answered": figure(
            found.strong, accuracy_answered, seed, WORLDS + "strengths 4 and 8: the injected cause, of calls given a cause"
        ),
        "s4.coverage": figure(found.strong, coverage, seed, WORLDS + "strengths 4 and 8: given a cause, of all injected"),
        "s1.accuracy_answered": figure(
            one, accuracy_answered, seed, WORLDS + "strength 1: the injected cause, of calls given a cause; n are all injected"
        ),
        "clean_named": figure(clean, coverage, seed, "worlds left alone, three loads, own engine and hosted: calls given a cause"),
        "hosted_without_region.cannot_tell": figure(
            [call for call in blind if call.said != QUIET],
            cannot_tell,
            seed,
            "hosted, no region and no fingerprint in its answers: neighbour or route change at strengths 4 and 8, of calls found slow",
        ),
    }


def _baselines(found: Found, seed: int) -> dict[str, Figure]:
    strong = found.strong
    ours = accuracy(strong)
    taught = found.of("taught")
    rules = {
        "always_long_prompt": (
            sum(call.causes == (Cause.LONG_PROMPT.value,) for call in strong) / len(strong) if strong else None,
            "says long prompt of every call",
        ),
        "nearest_duration": (
            nearest_duration(taught, strong),
            "says the cause of the call of the other family whose duration is nearest",
        ),
    }
    out = {}
    for name, (value, what) in rules.items():
        method = f"{what}; of all injected calls at strengths 4 and 8"
        out[f"baseline.{name}.accuracy"] = Figure(value=_rounded(value), unit="share", n=len(strong), method=method)
        below = None if value is None or ours is None else ours - value
        method = "the verdicts' share of right causes among all injected calls, less the rule's"
        out[f"baseline.{name}.below_ours"] = Figure(value=_rounded(below), unit="share", n=len(strong), method=method)
    out["s4.accuracy"] = figure(strong, accuracy, seed, WORLDS + "strengths 4 and 8: the injected cause, of all injected")
    return out


def _more(found: Found, seed: int) -> dict[str, Figure]:
    out = {
        "s4.wrong_ms": figure(
            found.strong,
            wrong_ms_share,
            seed,
            "milliseconds given to a wrong cause, and too many or too few given to the right one, of all injected",
        )
    }
    for strength in (0.5, 1.0, 2.0, 8.0):
        calls = found.of("one", lambda call, strength=strength: call.strength == strength)  # type: ignore[misc]
        out[f"s{strength:g}.coverage"] = figure(calls, coverage, seed, f"strength {strength:g}: given a cause, of all injected")
        if strength != 1:
            method = f"strength {strength:g}: the injected cause, of calls given a cause"
            out[f"s{strength:g}.accuracy_answered"] = figure(calls, accuracy_answered, seed, method)
    for cause in INJECTED:
        calls = [call for call in found.strong if call.causes == (cause.value,)]
        out[f"{cause}.accuracy_answered"] = figure(calls, accuracy_answered, seed, "strengths 4 and 8")
        out[f"{cause}.coverage"] = figure(calls, coverage, seed, "strengths 4 and 8")
    taught = found.of("taught")
    out["fitting.s4.accuracy_answered"] = figure(
        taught, accuracy_answered, seed, "the same on the other family, at the middle load"
    )
    out["fitting.s4.coverage"] = figure(taught, coverage, seed, "the same on the other family, at the middle load")
    return out | _residual(found, seed) | _pairs(found, seed)


def _residual(found: Found, seed: int) -> dict[str, Figure]:
    """The same with strengths counted in the spread of what is left of durations after their tokens. A call is slow from three of these on, so at
    strength 1 chance has done the larger part of whatever is found slow: only the rest may be named, and it is rarely enough."""
    weak = found.of("residual", lambda call: call.strength == 1)
    strong = found.of("residual", lambda call: call.strength >= STRONG_MIN)
    unit = "; a unit is the spread of durations less what their tokens take"
    return {
        "residual_unit.s4.accuracy_answered": figure(strong, accuracy_answered, seed, "strengths 4 and 8" + unit),
        "residual_unit.s4.coverage": figure(strong, coverage, seed, "strengths 4 and 8" + unit),
        "residual_unit.s1.accuracy_answered": figure(
            weak, accuracy_answered, seed, f"strength 1{unit}; {sum(call.answered for call in weak)} were given a cause"
        ),
        "residual_unit.s1.coverage": figure(weak, coverage, seed, "strength 1" + unit),
    }


def _pairs(found: Found, seed: int) -> dict[str, Figure]:
    unequal, equal = found.of("unequal"), found.of("equal")
    return {
        "pairs.unequal.larger_named": figure(
            [call for call in unequal if call.answered],
            _larger,
            seed,
            "two causes at 8 and 2: the larger one, of calls given a cause",
        ),
        "pairs.unequal.coverage": figure(unequal, coverage, seed, "two causes at 8 and 2: given a cause"),
        "pairs.equal.neither_alone": figure(
            equal, _one_or_none, seed, "two causes at 4 each: cannot tell, or one of the two named"
        ),
    }


def _larger(calls: Sequence[Scored]) -> float | None:
    return sum(call.said == call.causes[call.ms.index(max(call.ms))] for call in calls) / len(calls) if calls else None


def _one_or_none(calls: Sequence[Scored]) -> float | None:
    return sum(call.right or not call.answered for call in calls) / len(calls) if calls else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def confusion(found: Found) -> Mapping[str, Mapping[str, int]]:
    """Injected calls at strengths 4 and 8, and those left alone."""
    calls = found.strong + [call for each in found.clean.values() for call in each]
    return matrix(calls, [*(cause.value for cause in INJECTED), CLEAN])
