"""Which hop owns which quantile: rows of ``TraceTimes`` in, Figures out. Board, API, command line and gate read this one result.

With X_i the critical time of hop i and T their sum, what hop i owns of the quantile q of T is E[X_i | T = q] (Euler's allocation; Tasche 1999):
these sum to q. It is estimated in a window of at least ``WINDOW_TRACES_MIN`` traces around q, weighted by rank, and scaled to q exactly (HOP-2).
Never imported by ``__init__``: the gateway does not load it.
"""

from collections.abc import Iterable, Sequence

import msgspec
import numpy as np

from headway.calls.hops.model import HopTrace
from headway.calls.hops.times import TraceTimes, all_times
from headway.kernel.figure import Figure
from headway.kernel.limits import HOP_HOPS_SHOWN_MAX, HOP_STRATA_SHOWN_MAX
from headway.stats.bootstrap import bootstrap, interval
from headway.stats.quantile import Floats, window_weights

QUANTILES = (0.50, 0.95, 0.99)
WINDOW_TRACES_MIN = 30
RESAMPLES = 200
BY = ("request_type", "tenant", "cache_hit", "prompt_band")
"""What traces can be told apart by."""
OTHER = "(other)"
MIDDLE = (0.40, 0.60)
"""Quantiles between which a trace is of the middle."""


class HopOwns(msgspec.Struct, frozen=True, kw_only=True):
    """One hop at one quantile. ``at`` sums over hops to the quantile, ``tail`` to the mean of the slowest, ``excess`` to their difference
    from the middle."""

    hop: str
    at: Figure
    """E[X | T = q], ms."""
    share: Figure
    """Of the quantile."""
    tail: Figure
    """E[X | T >= q], ms."""
    tail_share: Figure
    """sum X / sum T over T >= q."""
    excess: Figure
    """E[X | T >= q] - E[X | T in the middle fifth], ms."""


class Attribution(msgspec.Struct, frozen=True, kw_only=True):
    """One stratum at one quantile; hops by what they own, the largest first. ``hops`` is empty where too few traces cannot tell."""

    stratum: dict[str, str]
    quantile: float
    n: int
    total: Figure
    """The quantile of T, linear between order statistics, ms."""
    without_model: Figure
    """The same quantile of T less what calls of a model own on the path: a bound; ``whatif`` walks again."""
    hops: tuple[HopOwns, ...]

    @property
    def name(self) -> str:
        """``request_type=checkout, tenant=acme``; ``all`` when nothing is told apart."""
        return ", ".join(f"{key}={value}" for key, value in self.stratum.items()) or "all"


def attribute(
    traces: Iterable[HopTrace | TraceTimes],
    *,
    by: Sequence[str] = ("request_type",),
    quantiles: Sequence[float] = QUANTILES,
    seed: int = 1,
    count: int = RESAMPLES,
) -> tuple[Attribution, ...]:
    """Strata with most traces first, each at every quantile. Past ``HOP_STRATA_SHOWN_MAX`` strata the small ones are one, named (other).

    ValueError for a name that is not in ``BY`` or a quantile outside 0..1. The same seed gives the same intervals.
    """
    unknown = [name for name in by if name not in BY]
    if unknown or not all(0 < share < 1 for share in quantiles):
        raise ValueError(f"cannot tell traces apart by {', '.join(unknown)}" if unknown else "quantiles lie between 0 and 1")
    found: list[Attribution] = []
    for stratum, rows in strata(rows_of(traces), by):
        found += _attributed(stratum, rows, quantiles, seed, count)
    return tuple(found)


def rows_of(traces: Iterable[HopTrace | TraceTimes]) -> list[TraceTimes]:
    """Walks those that are not yet walked."""
    given = list(traces)
    walked = iter(all_times(each for each in given if isinstance(each, HopTrace)))
    return [each if isinstance(each, TraceTimes) else next(walked) for each in given]


def strata(rows: Sequence[TraceTimes], by: Sequence[str]) -> list[tuple[dict[str, str], list[TraceTimes]]]:
    """Rows by the names in ``by``, most first; a cache hit that is not known is ``unknown``."""
    groups: dict[tuple[str, ...], list[TraceTimes]] = {}
    for row in rows:
        groups.setdefault(tuple(_word(getattr(row, name)) for name in by), []).append(row)
    ordered = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
    shown = [(dict(zip(by, key, strict=True)), members) for key, members in ordered[:HOP_STRATA_SHOWN_MAX]]
    rest = [row for _, members in ordered[HOP_STRATA_SHOWN_MAX:] for row in members]
    return [*shown, (dict.fromkeys(by, OTHER), rest)] if rest else shown


def matrix(rows: Sequence[TraceTimes], hops: Sequence[str] | None = None) -> tuple[list[str], Floats, Floats]:
    """Hops, X (n, hops) and T (n,) in ms. Without given ``hops``: those that own most; past ``HOP_HOPS_SHOWN_MAX`` all others are one."""
    if hops is None:
        sums: dict[str, int] = {}
        for row in rows:
            for hop, us in row.by_hop.items():
                sums[hop] = sums.get(hop, 0) + us
        ordered = sorted(sums, key=lambda hop: (-sums[hop], hop))
        hops = ordered[:HOP_HOPS_SHOWN_MAX]
        if len(ordered) > len(hops):
            hops = [*hops, OTHER]
    places = {hop: place for place, hop in enumerate(hops)}
    other = places.get(OTHER)
    times = np.zeros((len(rows), len(places)))
    for line, row in enumerate(rows):
        for hop, us in row.by_hop.items():
            place = places.get(hop, other)
            if place is not None:
                times[line, place] += us / 1_000
    return list(hops), times, np.asarray([row.duration_us / 1_000 for row in rows], dtype=np.float64)


def _attributed(
    stratum: dict[str, str], rows: list[TraceTimes], quantiles: Sequence[float], seed: int, count: int
) -> list[Attribution]:
    hops, times, total = matrix(rows)
    bare = total - np.asarray([row.model_us / 1_000 for row in rows])
    has_model = any(row.model_us for row in rows)
    if len(rows) < WINDOW_TRACES_MIN:
        return [_cannot_tell(stratum, share, len(rows)) for share in quantiles]
    estimates = _Estimates(times, total, bare, quantiles)
    values = estimates.of(np.arange(len(rows)))
    low, high = interval(bootstrap(len(rows), estimates.of, count=count, seed=seed))
    cells = _Cells(values, low, high, len(rows), ", ".join(f"{key}={value}" for key, value in stratum.items()))
    return [
        _one(stratum, share, hops, cells, place * estimates.width, has_model, estimates.window(share))
        for place, share in enumerate(quantiles)
    ]


class _Estimates:
    """All numbers of one stratum as one row, so that a resample is sorted once. Per quantile: T, T without model, then five a hop."""

    __slots__ = ("_bare", "_quantiles", "_times", "_total", "_weights", "width")

    def __init__(self, times: Floats, total: Floats, bare: Floats, quantiles: Sequence[float]) -> None:
        self._times, self._total, self._bare, self._quantiles = times, total, bare, tuple(quantiles)
        self._weights = {share: window_weights(total.size, share, WINDOW_TRACES_MIN) for share in quantiles}
        self.width = 2 + 5 * times.shape[1]

    def window(self, share: float) -> int:
        """How many traces have a weight."""
        return int((self._weights[share] > 0).sum())

    def of(self, drawn: "np.ndarray[tuple[int, ...], np.dtype[np.intp]]") -> Floats:
        order = drawn[np.argsort(self._total[drawn], kind="stable")]
        total, bare = self._total[order], np.sort(self._bare[order])
        first, last = (int(edge * total.size) for edge in MIDDLE)
        middle = self._times[order[first : max(last, first + 1)]].mean(axis=0)
        row: list[Floats] = []
        for share in self._quantiles:
            weights = self._weights[share]
            inside = np.flatnonzero(weights)
            near = weights[inside] @ self._times[order[inside]]
            quantile = float(np.quantile(total, share))
            at = near * (quantile / near.sum()) if near.sum() > 0 else near
            tail_from = int(np.searchsorted(total, quantile))
            tail = self._times[order[tail_from:]].mean(axis=0)
            row += [np.asarray([quantile, np.quantile(bare, share)]), at, _shares(at), tail, _shares(tail), tail - middle]
        return np.concatenate(row)


def _shares(times: Floats) -> Floats:
    whole = times.sum()
    return times / whole if whole > 0 else times


class _Cells:
    """Figures by place in the row of estimates."""

    __slots__ = ("_high", "_low", "_n", "_stratum", "_values")

    def __init__(self, values: Floats, low: Floats, high: Floats, n: int, stratum: str) -> None:
        self._values, self._low, self._high, self._n, self._stratum = values, low, high, n, stratum

    def figure(self, place: int, unit: str, method: str) -> Figure:
        return Figure(
            value=float(self._values[place]),
            unit=unit,
            n=self._n,
            method=method,
            low=float(self._low[place]),
            high=float(self._high[place]),
            stratum=self._stratum,
        )


def _one(
    stratum: dict[str, str], share: float, hops: list[str], cells: _Cells, base: int, has_model: bool, window: int
) -> Attribution:
    percent = f"p{share * 100:g}"
    linear = f"{percent}, linear quantile; 95 % interval by bootstrap of traces"
    near = f"E[X | T = {percent}] over {window} traces weighted by rank, scaled to {percent}; bootstrap of traces"
    tail = f"over traces with T >= {percent}; bootstrap of traces"
    k = len(hops)
    owns = [
        HopOwns(
            hop=hop,
            at=cells.figure(base + 2 + i, "ms", near),
            share=cells.figure(base + 2 + k + i, "share", near),
            tail=cells.figure(base + 2 + 2 * k + i, "ms", f"mean {tail}"),
            tail_share=cells.figure(base + 2 + 3 * k + i, "share", f"sum X / sum T {tail}"),
            excess=cells.figure(base + 2 + 4 * k + i, "ms", f"mean {tail}, less the mean between p40 and p60"),
        )
        for i, hop in enumerate(hops)
    ]
    bare = cells.figure(base + 1, "ms", f"{percent} of T less what calls of a model own on the critical path; bootstrap of traces")
    return Attribution(
        stratum=stratum,
        quantile=share,
        n=cells._n,
        total=cells.figure(base, "ms", linear),
        without_model=bare if has_model else Figure(value=None, unit="ms", n=cells._n, method="no span is a call of a model"),
        hops=tuple(sorted(owns, key=lambda each: -(each.at.value or 0.0))),
    )


def _cannot_tell(stratum: dict[str, str], share: float, n: int) -> Attribution:
    why = Figure(value=None, unit="ms", n=n, method=f"{n} traces, fewer than {WINDOW_TRACES_MIN}")
    return Attribution(stratum=stratum, quantile=share, n=n, total=why, without_model=why, hops=())


def _word(value: object) -> str:
    return {None: "unknown", True: "hit", False: "miss"}[value] if value is None or isinstance(value, bool) else str(value)
