"""Six numbers of a machine out of steps whose work and time are known: the fit grade for an engine that can only be watched."""

from collections.abc import Sequence
from typing import Final

from headway.lab.engine.fit import FitStepTime
from headway.lab.engine.model import StepWork

FLAT_TOKENS: Final = (0, 32, 64, 128, 192, 256, 384, 512)
"""Up to how many tokens a step may take as long as one token: tried one after the other."""
RIDGE: Final = 1e-9
"""Keeps the solution in place where the steps do not tell two numbers apart."""
FLOOR, BASE, TOKEN, PAIR, CONTEXT, DECODE = range(6)


def fit(name: str, source: str, steps: Sequence[tuple[StepWork, float]]) -> FitStepTime:
    """Least squares of relative errors over (work, milliseconds), for the length of the flat part that serves them best.

    A slope that would be negative is zero. At least one step.
    """
    rows = [(work, ms) for work, ms in steps if ms > 0]
    assert rows, "a fit needs steps"
    tried = [_with_flat(name, source, rows, flat) for flat in FLAT_TOKENS]
    return min(tried, key=lambda made: sum((made.step_ms(work) / ms - 1) ** 2 for work, ms in rows))


def _with_flat(name: str, source: str, rows: Sequence[tuple[StepWork, float]], flat: int) -> FitStepTime:
    features = [[x / ms for x in _features(work, flat)] for work, ms in rows]
    used = [index for index in range(6) if any(row[index] for row in features)]
    found = [0.0] * 6
    while used:
        found = [0.0] * 6
        for index, value in zip(used, _least_squares([[row[index] for index in used] for row in features]), strict=True):
            found[index] = value
        negative = [index for index in used if index >= TOKEN and found[index] < 0]
        if not negative:
            break
        used = [index for index in used if index not in negative]
    return FitStepTime(
        name=name,
        source=source,
        floor_ms=max(0.0, found[FLOOR]),
        base_ms=found[BASE],
        token_ms=max(0.0, found[TOKEN]),
        pair_ms=max(0.0, found[PAIR]),
        context_ms=max(0.0, found[CONTEXT]),
        decode_ms=max(0.0, found[DECODE]),
    )


def _features(work: StepWork, flat: int) -> tuple[float, ...]:
    """What the six numbers multiply: a step up to ``flat`` tokens has the floor, a longer one base and tokens."""
    tokens = work.decodes + sum(chunk for chunk, _ in work.chunks)
    pairs = sum(chunk * (before + chunk / 2) for chunk, before in work.chunks)
    dense = (1.0, 0.0, 0.0) if tokens <= flat else (0.0, 1.0, float(tokens))
    return *dense, pairs, float(work.decode_context), float(work.decodes)


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
