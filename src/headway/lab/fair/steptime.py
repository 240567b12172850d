"""What a step of that engine costs: the fit grade, fitted on first-come-first-served runs alone, so that the runs under VTC stay unseen.

The engine either prefills a batch or decodes, never both. A decode step costs ``decode_ms`` and ``context_ms`` a token of context in the batch.
A prefill costs by its tokens, with a slope that is lower past ``KNEE_TOKENS`` (one prompt of the synthetic workloads) where the GPU is full.

Each measured request gives one equation: from its first token to its last passed output_tokens - 1 decode steps, whose mean context is known
from who else was running, and those prefills whose first tokens came meanwhile.
"""

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from headway.lab.engine.model import StepWork
from headway.lab.fair.measured import Floats, Run

KNEE_TOKENS: Final = 256
SAME_STEP_S: Final = 0.02
"""First tokens of one prefill reach the client within so long of each other."""
DECODES_MIN: Final = 20
"""Shorter answers are left out: a step more or less would weigh too much."""


class BatchStepTime(msgspec.Struct, frozen=True, kw_only=True):
    """``prefill_ms`` may be negative: below some 60 tokens a prefill costs what a decode does, since reading the weights takes as long."""

    name: str
    source: str
    decode_ms: float
    context_ms: float
    prefill_ms: float
    token_ms: float
    further_token_ms: float
    rms_error: float = 0.0
    """Of a request's time from first to last token, relative, on the runs it was fitted on."""

    def decode_step_ms(self, context: int) -> float:
        return self.decode_ms + self.context_ms * context

    def prefill_step_ms(self, tokens: int) -> float:
        cost = self.prefill_ms + self.token_ms * min(tokens, KNEE_TOKENS) + self.further_token_ms * max(0, tokens - KNEE_TOKENS)
        return max(self.decode_ms, cost)

    def step_ms(self, work: StepWork) -> float:
        prefill = self.prefill_step_ms(sum(tokens for tokens, _ in work.chunks)) if work.chunks else 0.0
        return prefill + (self.decode_step_ms(work.decode_context) if work.decodes else 0.0)


def fit(runs: Sequence[Run]) -> BatchStepTime:
    """Least squares of relative errors; each run weighs the same, however many requests it has."""
    sides = [_equations(run) for run in runs]
    rows = np.vstack([known / time[:, None] / np.sqrt(len(time)) for known, time in sides])
    target = np.concatenate([np.full(len(time), len(time) ** -0.5) for _, time in sides])
    found, *_ = np.linalg.lstsq(rows, target, rcond=None)
    error = np.concatenate([known @ found / time - 1.0 for known, time in sides])
    decode, context, prefill, token, further = (1000.0 * float(value) for value in found)
    return BatchStepTime(
        name="a10g-llama-2-7b",
        source=f"fitted on {len(target)} requests of {', '.join(run.name for run in runs)}",
        decode_ms=decode,
        context_ms=context,
        prefill_ms=prefill,
        token_ms=token,
        further_token_ms=further,
        rms_error=float(np.sqrt(np.mean(error**2))),
    )


def prefills(run: Run) -> tuple[Floats, Floats]:
    """When each prefill's first tokens came, and how many prompt tokens it had."""
    order = np.argsort(run.first_s, kind="stable")
    first = run.first_s[order]
    begins = np.concatenate([[True], np.diff(first) > SAME_STEP_S])
    return first[begins], np.bincount(np.cumsum(begins) - 1, run.prompt[order]).astype(np.float64)


def _equations(run: Run) -> tuple[Floats, Floats]:
    """(requests, 5) of decodes, decodes x mean context, prefills, their tokens up to the knee and past it; and seconds from first to last token."""
    first, end = run.first_s, run.end_s
    took = np.maximum(end - first, 1e-6)
    decodes = (run.output - 1).astype(np.float64)
    at, tokens = prefills(run)
    begin = np.searchsorted(at, first + SAME_STEP_S)
    stop = np.searchsorted(at, end - SAME_STEP_S / 20)

    def between(values: Floats) -> Floats:
        summed = np.concatenate([[0.0], np.cumsum(values)])
        return np.asarray(summed[stop] - summed[begin], dtype=np.float64)

    known = np.column_stack(
        [
            decodes,
            decodes * _mean_context(run, took),
            between(np.ones_like(tokens)),
            between(np.minimum(tokens, KNEE_TOKENS)),
            between(np.maximum(tokens - KNEE_TOKENS, 0.0)),
        ]
    )
    kept = decodes >= DECODES_MIN
    return known[kept], took[kept]


def _mean_context(run: Run, took: Floats) -> Floats:
    """Context tokens in the batch, averaged over each request's decodes. A request's own grows evenly from its prompt to prompt + output."""
    count = len(run)
    slope = (run.output - 1) / took
    times = np.concatenate([run.first_s, run.end_s])
    order = np.argsort(times, kind="stable")
    steps = np.concatenate([run.prompt + 1, -(run.prompt + run.output)])[order]
    slopes = np.cumsum(np.concatenate([slope, -slope])[order])
    gaps = np.concatenate([np.diff(times[order]), [0.0]])
    context = np.cumsum(steps) + np.concatenate([[0.0], np.cumsum(slopes * gaps)[:-1]])
    area = np.concatenate([[0.0], np.cumsum(context * gaps + slopes * gaps**2 / 2)[:-1]])
    place = np.empty(2 * count, dtype=np.int64)
    place[order] = np.arange(2 * count)
    return np.asarray((area[place[count:]] - area[place[:count]]) / took, dtype=np.float64)
