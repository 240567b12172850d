"""What changed since an instant, with intervals; a change point confirmed: rows of ``window.py`` in, Figures out. Board, API and command line read this.

Never imported by ``__init__``: the gateway does not load it.
"""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from headway.calls.phases.cusum import Alarm
from headway.calls.phases.drift import Drift
from headway.calls.phases.model import Cause
from headway.calls.phases.window import Attributed, Compared
from headway.kernel.figure import Figure
from headway.stats.bootstrap import interval
from headway.stats.quantile import Floats

RESAMPLES = 400
CONFIRM_CALLS, CONFIRM_SIDE_MIN = 200, 10
CONFIRM_MINUTES, CONFIRM_CALLS_MAX = 24, 4_000
CONFIRM_P = 0.001
SHUFFLES = 4_000
MINUTES_MIN = 8
_MS_PER_MINUTE = 60_000
_SIDE_CALLS_MIN = 30
_METHOD = "mean after less mean before; 95 % interval by bootstrap over minutes"


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What one cause added to the mean call. ``share`` of all that was added; None where that is next to nothing."""

    cause: Cause
    added: Figure
    share: float | None
    calls: int
    """Calls after whose verdict it is."""


class Confirmed(msgspec.Struct, frozen=True, kw_only=True):
    """The best split of the last calls of a target, and p that there is none. ``sure``: p is under CONFIRM_P."""

    target: str
    stamp_ms: int | None
    """Of the first call after the split; None where it cannot be tested."""
    shift_units: float
    """Median after less median before, in the residual's own spreads."""
    p: float | None
    n: int
    sure: bool
    problem: str = ""


class WindowReport(msgspec.Struct, frozen=True, kw_only=True):
    """``added`` = ``mix`` + the sum of ``parts``, in ms a call."""

    since_ms: int
    n_before: int
    n_after: int
    before: Figure
    after: Figure
    added: Figure
    mix: Figure
    """Other callers, or ordinary amounts of other size."""
    parts: tuple[Part, ...]
    """Most added first."""
    slow: int
    """Calls after that were slow."""
    verdicts: dict[str, int]
    confirmed: tuple[Confirmed, ...]
    drifts: tuple[Drift, ...]
    alarms: tuple[tuple[str, Alarm], ...]
    left_out: int
    problem: str = ""


def report(compared: Compared, seed: int = 0) -> WindowReport:
    """All figures. With fewer than 30 calls on a side none has a value, and ``problem`` says so."""
    rows = compared.rows
    before = [row for row in rows if not row.after]
    after = [row for row in rows if row.after]
    enough = min(len(before), len(after)) >= _SIDE_CALLS_MIN
    table = _Table(rows, seed) if enough else None
    slow = [verdict for verdict in compared.verdicts if verdict.slow]
    counts: dict[str, int] = {}
    for verdict in slow:
        name = (verdict.cause or Cause.CANNOT_TELL).value
        counts[name] = counts.get(name, 0) + 1
    added = _figure(table, "took", len(rows))
    return WindowReport(
        since_ms=compared.since_ms,
        n_before=len(before),
        n_after=len(after),
        before=_mean(before),
        after=_mean(after),
        added=added,
        mix=_figure(table, "mix", len(rows)),
        parts=_parts(table, added, counts) if table is not None else (),
        slow=len(slow),
        verdicts=dict(sorted(counts.items(), key=lambda item: -item[1])),
        confirmed=confirmed(
            rows, {change.target: change.alarm.stamp_ms for change in reversed(compared.changes)}, compared.since_ms, seed
        ),
        drifts=compared.drifts,
        alarms=tuple((target_words(change.target), change.alarm) for change in compared.changes),
        left_out=compared.left_out,
        problem="" if enough else f"{len(before)} calls before and {len(after)} after; 30 on each side are needed",
    )


def target_words(target: tuple[str, str, str]) -> str:
    provider, model, tier = target
    return f"{provider}/{model}" + (f" ({tier})" if tier else "")


def _parts(table: "_Table", added: Figure, counts: Mapping[str, int]) -> tuple[Part, ...]:
    whole = added.value or 0.0
    found = []
    for cause in table.causes:
        figure = table.figure(cause.value)
        share = None if abs(whole) < 1.0 or figure.value is None else figure.value / whole
        if figure.value or counts.get(cause.value):
            found.append(Part(cause=cause, added=figure, share=share, calls=counts.get(cause.value, 0)))
    return tuple(sorted(found, key=lambda part: -(part.added.value or 0.0)))


def _figure(table: "_Table | None", name: str, n: int) -> Figure:
    if table is None:
        return Figure(value=None, unit="ms a call", n=n, method="30 calls on each side are needed")
    return table.figure(name)


def _mean(rows: Sequence[Attributed]) -> Figure:
    value = sum(row.took_ms for row in rows) / len(rows) if rows else None
    return Figure(value=value, unit="ms", n=len(rows), method="mean duration, the tool wait before it included")


class _Table:
    """Differences of means of every column, with intervals. Minutes are drawn, since calls of one minute are alike."""

    def __init__(self, rows: Sequence[Attributed], seed: int) -> None:
        self.causes = tuple(cause for cause in Cause if any(cause in row.by_cause for row in rows))
        self.names = ("took", "mix", *(cause.value for cause in self.causes))
        columns = [[row.took_ms, row.expected_ms, *(row.by_cause.get(cause, 0.0) for cause in self.causes)] for row in rows]
        self._values = np.array(columns, dtype=np.float64)
        self._after = np.array([row.after for row in rows])
        self._n = len(rows)
        seen = self._values[self._after].mean(axis=0) - self._values[~self._after].mean(axis=0)
        minutes = np.array([row.at_ms // _MS_PER_MINUTE for row in rows])
        draw = np.random.default_rng(seed)
        sides = [self._drawn(minutes, side, draw) for side in (self._after, ~self._after)]
        low, high = interval(sides[0] - sides[1])
        self._seen, self._low, self._high = seen, low, high

    def _drawn(self, minutes: NDArray[np.int64], side: NDArray[np.bool_], draw: np.random.Generator) -> Floats:
        """(RESAMPLES, columns) means of one side."""
        values, blocks = self._values[side], np.unique(minutes[side], return_inverse=True)[1]
        count = int(blocks.max()) + 1
        sums = np.zeros((count, values.shape[1]))
        np.add.at(sums, blocks, values)
        sizes = np.bincount(blocks, minlength=count).astype(np.float64)
        picked = draw.integers(0, count, size=(RESAMPLES, count))
        return np.asarray(sums[picked].sum(axis=1) / sizes[picked].sum(axis=1)[:, None], dtype=np.float64)

    def figure(self, name: str) -> Figure:
        at = self.names.index(name)
        return Figure(
            value=float(self._seen[at]),
            unit="ms a call",
            n=self._n,
            method=_METHOD,
            low=float(self._low[at]),
            high=float(self._high[at]),
        )


def confirmed(
    rows: Sequence[Attributed], stamps: Mapping[tuple[str, str, str], int], otherwise_ms: int, seed: int = 0
) -> tuple[Confirmed, ...]:
    """Each target's calls around the first stamp of its change, else around ``otherwise_ms``: did their level change? Residuals are ranked within
    prompt bands, so that other prompts are no other speed."""
    by_target: dict[tuple[str, str, str], list[Attributed]] = {}
    for row in rows:
        by_target.setdefault(row.target, []).append(row)
    found = [
        _confirm(target, _around(sorted(own, key=lambda r: r.at_ms), stamps.get(target, otherwise_ms)), seed)
        for target, own in by_target.items()
    ]
    return tuple(sorted(found, key=lambda c: 1.0 if c.p is None else c.p))


def _around(rows: list[Attributed], at_ms: int) -> list[Attributed]:
    """CONFIRM_CALLS calls on both sides of ``at_ms``; more of a busy target, up to CONFIRM_MINUTES on both sides, for there are no more orders of few
    minutes than would come by chance."""
    split = sum(row.at_ms < at_ms for row in rows)
    half, reach = CONFIRM_CALLS // 2, CONFIRM_MINUTES // 2 * _MS_PER_MINUTE
    return [
        row
        for place, row in enumerate(rows)
        if abs(place - split + 0.5) < half or (abs(place - split + 0.5) < CONFIRM_CALLS_MAX // 2 and abs(row.at_ms - at_ms) < reach)
    ]


def _confirm(target: tuple[str, str, str], last: list[Attributed], seed: int) -> Confirmed:
    words = target_words(target)
    if len(last) < 2 * CONFIRM_SIDE_MIN:
        problem = f"{len(last)} calls; {2 * CONFIRM_SIDE_MIN} are needed"
        return Confirmed(target=words, stamp_ms=None, shift_units=0.0, p=None, n=len(last), sure=False, problem=problem)
    values = np.array([row.residual_units for row in last])
    ranks = _ranked(values, np.array([row.band for row in last]))
    minutes = np.array([row.at_ms // _MS_PER_MINUTE for row in last])
    at, p = split_test(ranks, minutes, seed)
    few = len(np.unique(minutes)) < MINUTES_MIN
    return Confirmed(
        target=words,
        stamp_ms=last[at].at_ms,
        shift_units=float(np.median(values[at:]) - np.median(values[:at])),
        p=p,
        n=len(last),
        sure=p < CONFIRM_P,
        problem=f"calls of fewer than {MINUTES_MIN} minutes: too few orders to tell one from chance" if few else "",
    )


def _ranked(values: Floats, bands: NDArray[np.int64]) -> Floats:
    """Ranks within each band, from -1 to 1."""
    out = np.zeros(values.size)
    for band in np.unique(bands):
        own = np.flatnonzero(bands == band)
        places = np.empty(own.size)
        places[np.argsort(values[own], kind="stable")] = np.arange(own.size)
        out[own] = (2 * places + 1) / own.size - 1
    return out


def split_test(ranks: Floats, minutes: NDArray[np.int64], seed: int, shuffles: int = SHUFFLES) -> tuple[int, float]:
    """The split (index of the first value after it) with the largest rank sum, and p by exchanging whole minutes, which are not independent
    within. ``ranks`` (n,) have mean 0 and are in order of time."""
    split, seen = _best(ranks)
    blocks = [np.flatnonzero(minutes == minute) for minute in np.unique(minutes)]
    draw = np.random.default_rng(seed)
    as_large = 0
    for _ in range(shuffles):
        order = np.concatenate([blocks[i] for i in draw.permutation(len(blocks))])
        as_large += _best(ranks[order])[1] >= seen - 1e-12
    return split, (as_large + 1) / (shuffles + 1)


def _best(ranks: Floats) -> tuple[int, float]:
    n = ranks.size
    at = np.arange(CONFIRM_SIDE_MIN, n - CONFIRM_SIDE_MIN + 1)
    sums = np.cumsum(ranks)[at - 1]
    scores = np.abs(sums - ranks.mean() * at) / np.sqrt(at * (n - at) / n)
    best = int(np.argmax(scores))
    return int(at[best]), float(scores[best])
