"""Calls of a range in, the page "Slow calls" shows out: verdicts in order of time, causes with their sums, calls that took alike for other reasons."""

from collections.abc import Iterable, Sequence

import msgspec

from headway.calls.phases.history import History
from headway.calls.phases.model import Cause, Seen, Split, Verdict
from headway.calls.phases.settings import Settings
from headway.calls.phases.split import split
from headway.calls.phases.verdict import Judge
from headway.facts.phases import Read

AFTER_MS = 150_000
"""What went on so long after a call still tells of it, as where one call is looked at alone."""
ROWS_SHOWN, TWINS_MAX = 30, 4
ALIKE = 1.03
"""Longest over shortest of calls that took about the same."""


class SlowRow(msgspec.Struct, frozen=True, kw_only=True):
    """One call that was slow."""

    call: str
    at_wall_ms: int
    tenant: str
    feature: str
    model: str
    split: Split
    verdict: Verdict

    @property
    def cause(self) -> Cause:
        return self.verdict.cause or Cause.CANNOT_TELL


class CauseRow(msgspec.Struct, frozen=True, kw_only=True):
    """Slow calls with one verdict. ``excess_ms`` over what was expected of them, all together."""

    cause: Cause
    calls: int
    excess_ms: float
    share: float
    """Of the excess of all slow calls."""


class SlowWindow(msgspec.Struct, frozen=True, kw_only=True):
    """Everything judged of a range. ``unknown`` calls had too few before them to say what is usual; ``left_out`` ones were not read."""

    at_wall_ms: int
    judged: int
    unknown: int
    left_out: int
    rows: tuple[SlowRow, ...]
    tenants: tuple[str, ...]
    features: tuple[str, ...]
    models: tuple[str, ...]


class SlowFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Empty is all; ``model`` matches in part."""

    tenant: str = ""
    feature: str = ""
    model: str = ""
    cause: str = ""

    def holds(self, row: SlowRow, *, any_cause: bool = False) -> bool:
        return (
            self.tenant in ("", row.tenant)
            and self.feature in ("", row.feature)
            and self.model.lower() in row.model.lower()
            and (any_cause or self.cause in ("", row.cause.value))
        )


def window_of(read: Read, since_ms: int, at_wall_ms: int, tenant: str, settings: Settings | None = None) -> SlowWindow:
    """Every call from ``since_ms`` on is judged by what was known ``AFTER_MS`` after it; those before are the measure. ``tenant`` of a caller who
    sees no other: then only its calls are told of, though all are learnt from."""
    judge, history = Judge(settings), History(settings or Settings())
    features = {prompt.call: prompt.feature for prompt in read.prompts}
    learnt, judged, unknown = 0, 0, 0
    rows: list[SlowRow] = []
    told: list[Seen] = []
    for seen in read.seen:
        if seen.at_ms < since_ms or seen.probe or tenant not in ("", seen.tenant):
            continue
        while learnt < len(read.seen) and read.seen[learnt].at_ms <= seen.at_ms + AFTER_MS:
            history.learn(read.seen[learnt])
            learnt += 1
        verdict = judge.verdict(seen, history)
        told.append(seen)
        judged += 1
        unknown += not verdict.slow and verdict.cause is Cause.CANNOT_TELL
        if verdict.slow:
            rows.append(_row(seen, features.get(seen.call, ""), verdict))
    return SlowWindow(
        at_wall_ms=at_wall_ms,
        judged=judged,
        unknown=unknown,
        left_out=read.left_out,
        rows=tuple(sorted(rows, key=lambda row: -row.verdict.excess_ms)),
        tenants=_names(seen.tenant for seen in told),
        features=_names(features.get(seen.call, "") for seen in told),
        models=_names(_target(seen) for seen in told),
    )


def causes_of(rows: Sequence[SlowRow]) -> tuple[CauseRow, ...]:
    """What cost most first, and last those of which nobody can tell."""
    whole = sum(row.verdict.excess_ms for row in rows)
    sums: dict[Cause, list[float]] = {}
    for row in rows:
        of_cause = sums.setdefault(row.cause, [0, 0.0])
        of_cause[0] += 1
        of_cause[1] += row.verdict.excess_ms
    found = [
        CauseRow(cause=cause, calls=int(calls), excess_ms=excess, share=excess / whole if whole else 0.0)
        for cause, (calls, excess) in sums.items()
    ]
    return tuple(sorted(found, key=lambda row: (row.cause is Cause.CANNOT_TELL, -row.excess_ms)))


def twins_of(rows: Sequence[SlowRow]) -> tuple[SlowRow, ...]:
    """Calls that took about the same for the most different causes, at most TWINS_MAX; empty where there are no two."""
    ordered = sorted((row for row in rows if row.cause is not Cause.CANNOT_TELL), key=lambda row: row.split.duration_ms)
    best: dict[Cause, SlowRow] = {}
    begin = 0
    for end, row in enumerate(ordered):
        while row.split.duration_ms > ordered[begin].split.duration_ms * ALIKE:
            begin += 1
        if end - begin + 1 > len(best) and len({each.cause for each in ordered[begin : end + 1]}) > len(best):
            best = _clearest(ordered[begin : end + 1])
    if len(best) < 2:
        return ()
    return tuple(_unlike(sorted(best.values(), key=_explained, reverse=True))[:TWINS_MAX])


def _unlike(rows: Sequence[SlowRow]) -> list[SlowRow]:
    """Those whose longest phase no other one before them has, first: four bars that look alike show nothing."""
    first: dict[str, SlowRow] = {}
    for row in rows:
        first.setdefault(max(row.split.parts_ms, key=lambda phase: row.split.parts_ms[phase]), row)
    return [*first.values(), *(row for row in rows if row not in first.values())]


def _clearest(rows: Iterable[SlowRow]) -> dict[Cause, SlowRow]:
    """Of each cause the call that it explains most of."""
    found: dict[Cause, SlowRow] = {}
    for row in rows:
        if row.cause not in found or _explained(row) > _explained(found[row.cause]):
            found[row.cause] = row
    return found


def _explained(row: SlowRow) -> float:
    return row.verdict.explained_ms / max(row.verdict.excess_ms, 0.001)


def _row(seen: Seen, feature: str, verdict: Verdict) -> SlowRow:
    return SlowRow(
        call=seen.call,
        at_wall_ms=seen.at_ms,
        tenant=seen.tenant,
        feature=feature,
        model=_target(seen),
        split=split(seen),
        verdict=verdict,
    )


def _target(seen: Seen) -> str:
    return f"{seen.provider}/{seen.model}".strip("/")


def _names(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({name for name in names if name}))
