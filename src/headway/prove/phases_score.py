"""What verdicts were given to calls whose cause is known, and the figures of that: how often right, how often answered, how much misattributed."""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from headway.calls.phases.model import Cause, Verdict
from headway.kernel.figure import Figure
from headway.lab.phase_worlds.model import Truth

CANNOT_TELL: Final = Cause.CANNOT_TELL.value
QUIET: Final = "not slow"
CLEAN: Final = "clean"
RESAMPLES: Final = 400
INTERVAL: Final = (0.025, 0.975)


class Scored(msgspec.Struct, frozen=True):
    """One call. ``world`` names where it was; ``causes`` are empty where nothing was done to it, ``said`` is a cause, CANNOT_TELL or QUIET."""

    world: str
    causes: tuple[str, ...]
    ms: tuple[float, ...]
    strength: float
    said: str
    explained_ms: float
    duration_ms: float

    @property
    def answered(self) -> bool:
        return self.said not in (CANNOT_TELL, QUIET)

    @property
    def right(self) -> bool:
        return self.said in self.causes


def scored(world: str, truth: Truth, verdict: Verdict, duration_ms: float) -> Scored:
    """A call with too short a history is no quiet one: nobody could tell."""
    said = verdict.cause.value if verdict.cause is not None else QUIET
    return Scored(
        world=world,
        causes=tuple(cause.value for cause in truth.causes),
        ms=truth.ms,
        strength=truth.strength,
        said=said,
        explained_ms=verdict.explained_ms,
        duration_ms=duration_ms,
    )


Statistic = Callable[[Sequence[Scored]], float | None]


def accuracy_answered(calls: Sequence[Scored]) -> float | None:
    """Right among those that were given a cause; None where none was."""
    answered = [call for call in calls if call.answered]
    return sum(call.right for call in answered) / len(answered) if answered else None


def coverage(calls: Sequence[Scored]) -> float | None:
    """Given a cause, of all."""
    return sum(call.answered for call in calls) / len(calls) if calls else None


def accuracy(calls: Sequence[Scored]) -> float | None:
    """Given the right cause, of all."""
    return sum(call.right for call in calls) / len(calls) if calls else None


def cannot_tell(calls: Sequence[Scored]) -> float | None:
    return sum(call.said == CANNOT_TELL for call in calls) / len(calls) if calls else None


def wrong_ms_share(calls: Sequence[Scored]) -> float | None:
    """Milliseconds attributed wrongly, of all that were caused: too many or too few at the right cause, all at a wrong one."""
    caused = sum(sum(call.ms) for call in calls)
    wrong = sum(abs(call.explained_ms - call.ms[0]) if call.right else call.explained_ms for call in calls if call.answered)
    return wrong / caused if caused else None


def figure(calls: Sequence[Scored], statistic: Statistic, seed: int, method: str, unit: str = "share") -> Figure:
    """With a bootstrap over worlds: calls of one world are not independent. ``n`` are calls."""
    value = statistic(calls)
    if value is None:
        return Figure(value=None, unit=unit, n=0, method=method)
    by_world: dict[str, list[Scored]] = {}
    for call in calls:
        by_world.setdefault(call.world, []).append(call)
    low, high = _interval(list(by_world.values()), statistic, seed)
    return Figure(value=round(value, 4), unit=unit, n=len(calls), low=low, high=high, method=method)


def _interval(worlds: list[list[Scored]], statistic: Statistic, seed: int) -> tuple[float | None, float | None]:
    if len(worlds) < 2:
        return None, None
    rng = random.Random(f"figures:{seed}")
    drawn = sorted(
        value
        for _ in range(RESAMPLES)
        if (value := statistic([call for world in rng.choices(worlds, k=len(worlds)) for call in world])) is not None
    )
    if not drawn:
        return None, None
    low, high = (drawn[min(int(share * len(drawn)), len(drawn) - 1)] for share in INTERVAL)
    return round(low, 4), round(high, 4)


def matrix(calls: Iterable[Scored], rows: Sequence[str]) -> Mapping[str, Mapping[str, int]]:
    """How many calls of each true cause were given each verdict. Calls of one cause only, and those that were left alone as CLEAN."""
    found: dict[str, dict[str, int]] = {row: {} for row in rows}
    for call in calls:
        row = call.causes[0] if call.causes else CLEAN
        if len(call.causes) <= 1 and row in found:
            found[row][call.said] = found[row].get(call.said, 0) + 1
    return found


def nearest_duration(known: Sequence[Scored], asked: Sequence[Scored]) -> float | None:
    """The share that a rule gets right which knows durations only: the cause of the known call whose duration is nearest."""
    if not known or not asked:
        return None
    ordered = sorted(known, key=lambda call: call.duration_ms)
    return sum(_nearest(ordered, call.duration_ms).causes == call.causes for call in asked) / len(asked)


def _nearest(ordered: Sequence[Scored], duration_ms: float) -> Scored:
    low, high = 0, len(ordered) - 1
    while low < high:
        middle = (low + high) // 2
        if ordered[middle].duration_ms < duration_ms:
            low = middle + 1
        else:
            high = middle
    near = ordered[max(low - 1, 0) : low + 1]
    return min(near, key=lambda call: abs(call.duration_ms - duration_ms))
