"""Where the time goes, whole: per stratum who owns which quantile, what the model is worth, the best three changes, and pairs that could run together.

The one result that the command line prints, the API answers and the board draws. Strata with most traces are looked at closely, the others listed.
"""

from collections.abc import Callable, Sequence

import msgspec

from headway.calls.hops.mix import Split, TypeShare, split_tail
from headway.calls.hops.model import HopTrace
from headway.calls.hops.report import QUANTILES, RESAMPLES, WINDOW_TRACES_MIN, Attribution, attribute, rows_of, strata
from headway.calls.hops.report_whatif import Answer, BreakEven, Confirmed, Diminishing, PairRow, Stage, nobody_said
from headway.calls.hops.times import TraceTimes
from headway.calls.hops.whatif import WhatIf
from headway.kernel.limits import HOP_HOPS_SHOWN_MAX

CHANGES = 3
HOPS_TRIED = 8
"""Of a stratum: those that own most of its last quantile, or of its excess there."""
STRATA_CLOSELY = 10
TAIL = 0.99
Say = Callable[[str], None]


class BestChange(msgspec.Struct, frozen=True, kw_only=True):
    """A change that saves at the last quantile, beyond what chance does. ``turns`` says from where on more of it buys less."""

    answer: Answer
    turns: Diminishing | None = None
    pair: PairRow | None = None


class StratumSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One stratum. What is empty or None was not looked at (too few traces, or not among ``STRATA_CLOSELY``) or is not there (no model)."""

    name: str
    stratum: dict[str, str]
    n: int
    quantiles: tuple[Attribution, ...]
    mean_ms: dict[str, float] = {}
    """By hop, of a trace's critical path: what can be said of few traces too. The largest first."""
    model_gone: Answer | None = None
    """Every call of a model takes 0 ms."""
    break_even: BreakEven | None = None
    changes: tuple[BestChange, ...] = ()
    pairs: tuple[PairRow, ...] = ()


class HopsSummary(msgspec.Struct, frozen=True, kw_only=True):
    """``pooled`` is shown to be told apart: ``mix`` says what of its tail is other requests. ``repairs`` and ``refused`` by reason."""

    by: tuple[str, ...]
    traces: int
    spans: int
    pooled: tuple[Attribution, ...]
    mix: tuple[Split, ...]
    """At p99."""
    types: tuple[TypeShare, ...]
    strata: tuple[StratumSummary, ...]
    repairs: dict[str, int] = {}
    refused: dict[str, int] = {}
    notes: tuple[str, ...] = ()
    """What was left out, in sentences."""


def summarise(
    traces: Sequence[HopTrace],
    *,
    by: Sequence[str] = ("request_type",),
    closely: int = STRATA_CLOSELY,
    seed: int = 1,
    count: int = RESAMPLES,
    say: Say = lambda _: None,
    safe: Confirmed = nobody_said,
) -> HopsSummary:
    """ValueError for a name in ``by`` that traces cannot be told apart by."""
    rows = rows_of(traces)
    of = {trace.trace: trace for trace in traces}
    say(f"{len(rows):,} traces walked")
    attributed = attribute(rows, by=by, seed=seed, count=count)
    width = len(QUANTILES)
    found: list[StratumSummary] = []
    for place, (stratum, members) in enumerate(strata(rows, by)):
        quantiles = attributed[place * width : (place + 1) * width]
        say(f"{quantiles[0].name}: {len(members):,} traces")
        stage = _stage(members, of, seed) if place < closely and len(members) >= WINDOW_TRACES_MIN else None
        told = StratumSummary(
            name=quantiles[0].name, stratum=stratum, n=quantiles[0].n, quantiles=quantiles, mean_ms=_means(members)
        )
        found.append(_closely(stage, told, count, safe) if stage is not None else told)
    splits, types = split_tail(rows, TAIL)
    return HopsSummary(
        by=tuple(by),
        traces=len(rows),
        spans=sum(len(trace.spans) for trace in traces),
        pooled=attribute(rows, by=(), seed=seed, count=count) if rows else (),
        mix=splits,
        types=types,
        strata=tuple(found),
    )


def _stage(members: Sequence[TraceTimes], of: dict[str, HopTrace], seed: int) -> Stage:
    return Stage((of[row.trace] for row in members), seed=seed)


def _means(members: Sequence[TraceTimes]) -> dict[str, float]:
    sums: dict[str, int] = {}
    for row in members:
        for hop, us in row.by_hop.items():
            sums[hop] = sums.get(hop, 0) + us
    ordered = sorted(sums, key=lambda hop: (-sums[hop], hop))[:HOP_HOPS_SHOWN_MAX]
    return {hop: sums[hop] / 1_000 / len(members) for hop in ordered}


def _closely(stage: Stage, told: StratumSummary, count: int, safe: Confirmed) -> StratumSummary:
    has_model = told.quantiles[-1].without_model.value is not None
    pairs = stage.pairs(safe=safe)
    return msgspec.structs.replace(
        told,
        model_gone=stage.ask(WhatIf(kind="model"), count=count) if has_model else None,
        break_even=stage.break_even() if has_model else None,
        changes=_best(stage, told.quantiles[-1], pairs, count),
        pairs=pairs,
    )


def _best(stage: Stage, tail: Attribution, pairs: Sequence[PairRow], count: int) -> tuple[BestChange, ...]:
    """Halving a hop's own time, or running two calls together: what saves most of the last quantile, where zero lies outside its interval."""
    asked = [stage.ask(WhatIf(kind="scale", hop=hop), count=count) for hop in _tried(tail)]
    found = [BestChange(answer=answer) for answer in asked]
    found += [BestChange(answer=_as_answer(pair, asked[0]), pair=pair) for pair in pairs if asked]
    good = [each for each in found if (each.answer.saved[-1].low or 0.0) > 0]
    good.sort(key=lambda each: (-(each.answer.saved[-1].value or 0.0), each.answer.question))
    return tuple(
        each if each.pair is not None else msgspec.structs.replace(each, turns=_turns(stage, each, tail.quantile))
        for each in good[:CHANGES]
    )


def _tried(tail: Attribution) -> list[str]:
    by_size = [owns.hop for owns in tail.hops][:HOPS_TRIED]
    by_excess = [owns.hop for owns in sorted(tail.hops, key=lambda owns: -(owns.excess.value or 0.0))][:HOPS_TRIED]
    return list(dict.fromkeys([*by_size, *by_excess]))


def _turns(stage: Stage, change: BestChange, quantile: float) -> Diminishing:
    return stage.diminishing(change.answer.question.removesuffix(" x0.5"), quantile)


def _as_answer(pair: PairRow, beside: Answer) -> Answer:
    """A pair's savings in the form of an answer; before and after are those of its request type, which may be wider than the stratum."""
    key = pair.key
    after = tuple(
        msgspec.structs.replace(
            saved,
            value=None if old.value is None or saved.value is None else old.value - saved.value,
            low=None if old.value is None or saved.high is None else old.value - saved.high,
            high=None if old.value is None or saved.low is None else old.value - saved.low,
        )
        for old, saved in zip(beside.before, pair.saved, strict=True)
    )
    return Answer(
        question=f"{key.then} beside {key.first}", quantiles=beside.quantiles, before=beside.before, after=after, saved=pair.saved
    )
