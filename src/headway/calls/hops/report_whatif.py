"""What-ifs as Figures: new p50, p95 and p99, what the next millisecond of a hop buys, and the model's time below which none is bought."""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import msgspec
import numpy as np

from headway.calls.hops.model import HopTrace
from headway.calls.hops.pairs import PairKey, Seen, find_pairs, together_us
from headway.calls.hops.report import QUANTILES, RESAMPLES
from headway.calls.hops.retime import Layout
from headway.calls.hops.whatif import Scene, WhatIf, durations_us
from headway.kernel.figure import Figure
from headway.kernel.limits import HOP_PAIRS_SHOWN_MAX, HOP_WHATIF_TRACES_MAX
from headway.stats.bootstrap import bootstrap, interval
from headway.stats.quantile import Floats

STEPS = tuple(step / 10 for step in range(9, -1, -1))
SLOPE_MIN = 0.2
"""Milliseconds of the call bought by one millisecond of the model, below which a faster model is not worth asking for."""
MODEL_STEPS = 20
METHOD = "each trace laid out again; bootstrap of traces, in pairs"


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Of one question, by quantile as in ``quantiles``; ms. ``saved`` is before less after, on the same traces."""

    question: str
    quantiles: tuple[float, ...]
    before: tuple[Figure, ...]
    after: tuple[Figure, ...]
    saved: tuple[Figure, ...]


class Diminishing(msgspec.Struct, frozen=True, kw_only=True):
    """The first tenth of a hop's time saves ``first_ms``; from ``factor`` on a tenth saves less than half of that: another path takes over.
    None: it goes on to the end, or nothing is saved at all."""

    hop: str
    quantile: float
    first_ms: float
    factor: float | None


class BreakEven(msgspec.Struct, frozen=True, kw_only=True):
    """``at`` ms of a model's call: below it the quantile falls by less than ``SLOPE_MIN`` ms for each ms."""

    quantile: float
    at: Figure
    slope_now: Figure
    """At what calls of the model take now, the median of them."""


Confirmed = Callable[[PairKey], bool]
"""Whether somebody who knows has said that a pair is safe."""


def nobody_said(_: PairKey) -> bool:
    return False


class PairRow(msgspec.Struct, frozen=True, kw_only=True):
    """Two calls that could run together. ``safe`` only where a person confirmed it."""

    key: PairKey
    traces: int
    independent: bool
    """Data shows it for every one; else their data is not known."""
    speculative: bool
    thrown_away: float
    """Share of the traces in which the first failed."""
    safe: bool
    saved: tuple[Figure, ...]


class Stage:
    """Traces ready to be asked. Over ``HOP_WHATIF_TRACES_MAX``, so many evenly by duration, the fastest and the slowest among them."""

    __slots__ = ("_before", "_scenes", "_seed", "layouts", "n", "taken", "types")

    def __init__(self, traces: Iterable[HopTrace], *, seed: int = 1, most: int = HOP_WHATIF_TRACES_MAX) -> None:
        ordered = sorted(traces, key=lambda trace: (trace.duration_us, trace.trace))
        self.n, self._seed = len(ordered), seed
        if len(ordered) > most:
            ordered = [ordered[place] for place in np.linspace(0, len(ordered) - 1, most).round().astype(int)]
        self.taken = len(ordered)
        self.layouts = [Layout(trace) for trace in ordered]
        self.types = [trace.request_type for trace in ordered]
        self._scenes = [Scene(layout) for layout in self.layouts]
        self._before = np.asarray([scene.duration_us for scene in self._scenes], dtype=np.float64) / 1_000

    def ask(self, what: WhatIf, *, quantiles: Sequence[float] = QUANTILES, count: int = RESAMPLES) -> Answer:
        """ValueError without traces."""
        return self.answer(what.text, self._after(what), quantiles, count)

    def answer(self, question: str, after: Floats, quantiles: Sequence[float] = QUANTILES, count: int = RESAMPLES) -> Answer:
        """From new durations (taken,) in ms."""
        if not self.taken:
            raise ValueError("no traces to ask")
        before, shares = self._before, list(quantiles)

        def both(drawn: "np.ndarray[tuple[int, ...], np.dtype[np.intp]]") -> Floats:
            old, new = np.quantile(before[drawn], shares), np.quantile(after[drawn], shares)
            return np.concatenate([old, new, old - new])

        values = both(np.arange(self.taken))
        low, high = interval(bootstrap(self.taken, both, count=count, seed=self._seed))
        drawn = METHOD if self.taken == self.n else f"{METHOD}; {self.taken} of {self.n} traces, evenly by duration"
        cells = [
            Figure(value=float(values[i]), unit="ms", n=self.taken, method=drawn, low=float(low[i]), high=float(high[i]))
            for i in range(values.size)
        ]
        k = len(shares)
        return Answer(
            question=question,
            quantiles=tuple(quantiles),
            before=tuple(cells[:k]),
            after=tuple(cells[k : 2 * k]),
            saved=tuple(cells[2 * k :]),
        )

    def diminishing(self, hop: str, quantile: float) -> Diminishing:
        """By tenths of its own work."""
        levels = [float(np.quantile(self._before, quantile))]
        levels += [float(np.quantile(self._after(WhatIf(kind="scale", hop=hop, factor=step)), quantile)) for step in STEPS]
        gains = [earlier - later for earlier, later in pairwise(levels)]
        turns = (STEPS[place] for place in range(1, len(gains)) if gains[0] > 0 and gains[place] < gains[0] / 2)
        return Diminishing(hop=hop, quantile=quantile, first_ms=gains[0], factor=next(turns, None))

    def break_even(self, quantile: float = 0.5) -> BreakEven:
        """Every call of a model is given the same time, from 0 to the p99 of what they take. None where no span is a call of a model."""
        took = np.asarray([s.duration_us for layout in self.layouts for s in layout.spans if s.is_model], dtype=np.float64) / 1_000
        if took.size == 0 or took.max() <= 0:
            missing = Figure(value=None, unit="ms", n=0, method="no span is a call of a model")
            return BreakEven(quantile=quantile, at=missing, slope_now=missing)
        times = np.linspace(0, float(np.quantile(took, 0.99)), MODEL_STEPS + 1)
        levels = [
            float(np.quantile(self._after(WhatIf(kind="model", fixed_us=round(float(ms) * 1_000))), quantile)) for ms in times
        ]
        slopes = np.diff(levels) / np.diff(times)
        steep = np.flatnonzero(slopes >= SLOPE_MIN)
        at = float(times[steep[0]] if steep.size else times[-1])
        now = min(int(np.searchsorted(times, np.median(took), side="right")) - 1, MODEL_STEPS - 1)
        method = f"every call of a model given one time, in {MODEL_STEPS} steps up to their p99; p{quantile * 100:g} laid out again"
        return BreakEven(
            quantile=quantile,
            at=Figure(value=at, unit="ms", n=int(took.size), method=f"{method}; slope below {SLOPE_MIN}"),
            slope_now=Figure(value=float(slopes[now]), unit="ms/ms", n=int(took.size), method=f"{method}; at the median"),
        )

    def pairs(self, *, safe: Confirmed = nobody_said, quantiles: Sequence[float] = QUANTILES) -> tuple[PairRow, ...]:
        """By what the last quantile saves, then the first; at most ``HOP_PAIRS_SHOWN_MAX``, chosen by the shorter of the two summed up."""
        groups: dict[PairKey, list[Seen]] = {}
        for each in find_pairs(zip(self.types, self.layouts, strict=True)):
            groups.setdefault(each.key, []).append(each)
        most = sorted(groups, key=lambda key: (-sum(each.least_us for each in groups[key]), key))[:HOP_PAIRS_SHOWN_MAX]
        rows = [self._pair(key, groups[key], safe(key), quantiles) for key in most]
        return tuple(sorted(rows, key=lambda row: (-(row.saved[-1].value or 0), -(row.saved[0].value or 0), row.key)))

    def _pair(self, key: PairKey, seen: list[Seen], safe: bool, quantiles: Sequence[float]) -> PairRow:
        """Quantiles are those of the pair's own request type."""
        places: dict[int, set[int]] = {}
        for each in seen:
            places.setdefault(each.trace, set()).add(each.place)
        rows = [number for number, kind in enumerate(self.types) if kind == key.request_type]
        old = self._before[rows]
        new = np.asarray(
            [together_us(self.layouts[row], places[row]) / 1_000 if row in places else self._before[row] for row in rows]
        )
        shares = list(quantiles)
        saved = np.quantile(old, shares) - np.quantile(new, shares)
        drawn = bootstrap(
            len(rows),
            lambda at: np.asarray(np.quantile(old[at], shares) - np.quantile(new[at], shares)),
            count=RESAMPLES,
            seed=self._seed,
        )
        low, high = interval(drawn)
        return PairRow(
            key=key,
            traces=len(places),
            independent=all(each.data == "independent" for each in seen),
            speculative=key.speculative,
            thrown_away=len({each.trace for each in seen if each.refused}) / len(places),
            safe=safe,
            saved=tuple(
                Figure(value=float(saved[i]), unit="ms", n=len(rows), method=METHOD, low=float(low[i]), high=float(high[i]))
                for i in range(len(shares))
            ),
        )

    def _after(self, what: WhatIf) -> Floats:
        return np.asarray(durations_us(self._scenes, what), dtype=np.float64) / 1_000
