"""Six numbers of a machine out of steps whose work and time are known: the fit grade for an engine that can only be watched."""

from collections.abc import Sequence
from typing import Final

from headway.lab.engine.fit import FitStepTime
from headway.lab.engine.model import StepWork

ROUNDS: Final = 4
RIDGE: Final = 1e-9
"""Keeps the solution in place where the steps do not tell two numbers apart."""


def features(work: StepWork) -> tuple[float, float, float, float, float]:
    """1, tokens, (token, context) pairs of chunks, decode context, decodes: what the fit grade multiplies."""
    tokens = work.decodes + sum(chunk for chunk, _ in work.chunks)
    pairs = sum(chunk * (before + chunk / 2) for chunk, before in work.chunks)
    return 1.0, float(tokens), pairs, float(work.decode_context), float(work.decodes)


def fit(name: str, source: str, steps: Sequence[tuple[StepWork, float]]) -> FitStepTime:
    """Least squares of relative errors over (work, milliseconds); numbers below zero are taken as zero and the others fitted again.

    The floor is the shortest step that was seen. At least one step.
    """
    rows = [(features(work), ms) for work, ms in steps if ms > 0]
    assert rows, "a fit needs steps"
    used = list(range(5))
    found = [0.0] * 5
    for _ in range(ROUNDS):
        found = [0.0] * 5
        for index, value in zip(used, _least_squares([[x[i] / ms for i in used] for x, ms in rows]), strict=True):
            found[index] = value
        negative = [index for index in used if found[index] < 0]
        if not negative:
            break
        used = [index for index in used if index not in negative]
    base, token, pair, context, decode = (max(0.0, value) for value in found)
    floor = min(ms for _, ms in rows)
    return FitStepTime(
        name=name,
        source=source,
        floor_ms=floor,
        base_ms=base,
        token_ms=token,
        pair_ms=pair,
        context_ms=context,
        decode_ms=decode,
    )


def _least_squares(rows: Sequence[Sequence[float]]) -> list[float]:
    """Solve rows @ x = 1 in the least-squares sense by normal equations, columns scaled to one length."""
    width = len(rows[0])
    scales = [max(sum(row[i] ** 2 for row in rows) ** 0.5, 1e-30) for i in range(width)]
    scaled = [[row[i] / scales[i] for i in range(width)] for row in rows]
    matrix = [
        [sum(row[i] * row[j] for row in scaled) + (RIDGE if i == j else 0.0) for j in range(width)]
        + [sum(row[i] for row in scaled)]
        for i in range(width)
    ]
    for pivot in range(width):
        best = max(range(pivot, width), key=lambda i: abs(matrix[i][pivot]))
        matrix[pivot], matrix[best] = matrix[best], matrix[pivot]
        for i in range(width):
            if i != pivot:
                share = matrix[i][pivot] / matrix[pivot][pivot]
                matrix[i] = [a - share * b for a, b in zip(matrix[i], matrix[pivot], strict=True)]
    return [matrix[i][width] / matrix[i][i] / scales[i] for i in range(width)]
