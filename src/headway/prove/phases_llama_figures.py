"""Figures of the proof on a real engine: verdicts against what was done, the split against the engine's own timings."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Final

import msgspec

from headway.calls.phases.model import Cause, Phase
from headway.kernel.figure import Figure
from headway.lab.phase_worlds.model import Truth
from headway.prove.phases_llama_calls import Timings
from headway.prove.phases_llama_stored import Stored
from headway.prove.phases_score import CLEAN, Scored, accuracy_answered, coverage, figure, matrix, scored

CAUSES: Final = (
    Cause.LONG_PROMPT,
    Cause.COLD_CACHE,
    Cause.NEIGHBOUR,
    Cause.ROUTE_CHANGE,
    Cause.LONGER_OUTPUT,
    Cause.SLOW_READER,
)
SPLIT_MS_MIN: Final = 150.0
"""An error is told as a share of the phase, or of so much where the phase is shorter."""
COMPARED: Final = frozenset({None, Cause.LONG_PROMPT, Cause.COLD_CACHE, Cause.LONGER_OUTPUT, Cause.ROUTE_CHANGE})
"""Beside neighbours the engine's prompt time leaves out the wait for a batch, and a slow reader's answer comes late to the engine too."""


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """A call and what was done to it; None: left alone. One of the first, before anything was usual, does not count."""

    call: str
    cause: Cause | None
    timings: Timings | None
    counts: bool


def figures(done: Sequence[Done], told: Mapping[str, Stored], seed: int, *, least: int) -> dict[str, Figure]:
    """A cause done fewer than ``least`` times gives no figure."""
    calls = judged(done, told)
    out: dict[str, Figure] = {}
    for cause in CAUSES:
        of_cause = [call for call in calls if call.causes == (cause.value,)]
        if len(of_cause) >= least:
            method = "verdicts from the stored facts: the cause that was done, of calls given a cause"
            out[f"{cause}.accuracy_answered"] = figure(of_cause, accuracy_answered, seed, method)
            out[f"{cause}.coverage"] = figure(of_cause, coverage, seed, "given a cause, of all that it was done to")
    clean = [call for call in calls if not call.causes]
    out["clean_named"] = figure(clean, coverage, seed, "calls left alone between: given a cause")
    out |= _split(done, told)
    lost = sum(each.call not in told for each in done)
    out["calls_not_stored"] = Figure(value=lost, unit="calls", n=len(done), method="answered well, and not among the stored facts")
    return {name: each for name, each in out.items() if each.value is not None}


def judged(done: Sequence[Done], told: Mapping[str, Stored]) -> list[Scored]:
    """Each call is a world of its own: they come one after another, and what is done to each is drawn."""
    calls = []
    for each in done:
        found = told.get(each.call)
        if found is not None and each.counts:
            truth = Truth(causes=() if each.cause is None else (each.cause,))
            calls.append(scored(each.call, truth, found.verdict, found.seen.duration_ms))
    return calls


def matrix_of(done: Sequence[Done], told: Mapping[str, Stored]) -> Mapping[str, Mapping[str, int]]:
    return matrix(judged(done, told), [*(cause.value for cause in CAUSES), CLEAN])


def _split(done: Sequence[Done], told: Mapping[str, Stored]) -> dict[str, Figure]:
    prefill: list[float] = []
    decode: list[float] = []
    for each in done:
        found = told.get(each.call)
        if found is None or each.timings is None or each.cause not in COMPARED:
            continue
        parts = found.split.parts_ms
        prefill.append(_error(parts[Phase.PROVIDER], each.timings.prompt_ms))
        decode.append(_error(parts[Phase.DECODE] + parts[Phase.STALL], each.timings.predicted_ms))
    out = {}
    for name, errors, of in (("prefill", prefill, "prompt_ms"), ("decode", decode, "predicted_ms")):
        method = f"median of |split - the engine's {of}| / max({of}, {SPLIT_MS_MIN:g} ms), calls without neighbour and slow reader"
        value = round(median(errors), 4) if errors else None
        out[f"split.{name}_error_p50"] = Figure(value=value, unit="share", n=len(errors), method=method)
    return out


def _error(ours_ms: float, theirs_ms: float) -> float:
    return abs(ours_ms - theirs_ms) / max(theirs_ms, SPLIT_MS_MIN)
