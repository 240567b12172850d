"""What an endpoint's prefills cost, learnt from those that were seen: so that what pieces add can be told from what the prompt itself takes.

    took = fixed + per_token x n + per_pair x n x (context + n / 2)

for n tokens that were not in the cache, after ``context`` tokens that were. The fixed part is paid by every piece and by the whole prompt
once; attention makes later pieces dearer than earlier ones, which a plain rate takes for a slow engine. Least squares, each prefill
weighed by one over what it took, over the last ``SAMPLES``; a part that would come out negative is left out.
"""

from collections import deque
from collections.abc import Sequence
from typing import Final

import msgspec

SAMPLES: Final = 96
SAMPLES_MIN: Final = 4
SPREAD_MIN: Final = 1.25
"""The longest prefill must be so many times the shortest, or nothing tells the fixed part from the rest."""
TOKENS_MIN: Final = 8
_SINGULAR: Final = 1e-9


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds."""

    fixed_ms: float
    token_ms: float
    pair_ms: float

    def span_ms(self, start: float, end: float) -> float:
        """Reading tokens ``start`` to ``end`` of a prompt in one go, without the fixed part."""
        n = max(0.0, end - start)
        return self.token_ms * n + self.pair_ms * n * (start + n / 2)

    def whole_ms(self, tokens: float) -> float:
        """A whole prompt, nothing of it cached."""
        return self.fixed_ms + self.span_ms(0, tokens)


class PrefillCost:
    """One endpoint's."""

    __slots__ = ("_fit", "_fresh", "_samples")

    def __init__(self) -> None:
        self._samples: deque[tuple[float, float, float]] = deque(maxlen=SAMPLES)
        self._fit: Cost | None = None
        self._fresh = True

    def saw(self, uncached_tokens: int, context_tokens: int, took_ms: float) -> None:
        """A prefill went from being sent to its first token in ``took_ms``. One without tokens or time teaches nothing."""
        if uncached_tokens >= TOKENS_MIN and context_tokens >= 0 and took_ms > 0:
            self._samples.append((float(uncached_tokens), float(context_tokens), took_ms))
            self._fresh = False

    def fit(self) -> Cost | None:
        """None while too little was seen."""
        if not self._fresh:
            self._fit, self._fresh = self._fitted(), True
        return self._fit

    def _fitted(self) -> Cost | None:
        samples = self._samples
        sizes = [n for n, _, _ in samples]
        if len(samples) < SAMPLES_MIN or max(sizes) < SPREAD_MIN * min(sizes):
            return None
        rows = [((1.0, n, n * (context + n / 2)), took) for n, context, took in samples]
        for parts in ((0, 1, 2), (0, 1), (1, 2), (1,)):
            found = _least_squares(rows, parts)
            if found is not None and min(found) >= 0 and (value := dict(zip(parts, found, strict=True))).get(1, 0.0) > 0:
                return Cost(fixed_ms=value.get(0, 0.0), token_ms=value[1], pair_ms=value.get(2, 0.0))
        return None


def _least_squares(rows: Sequence[tuple[tuple[float, float, float], float]], parts: Sequence[int]) -> list[float] | None:
    """Coefficients of the chosen columns; None where they cannot be told apart. Columns are scaled, so that sizes do not matter."""
    scale = [max(row[k] for row, _ in rows) or 1.0 for k in parts]
    size = len(parts)
    matrix = [[0.0] * (size + 1) for _ in range(size)]
    for row, took in rows:
        values = [row[k] / s for k, s in zip(parts, scale, strict=True)]
        for i in range(size):
            for j in range(size):
                matrix[i][j] += values[i] * values[j] / took
            matrix[i][size] += values[i]  # times took, over took
    for i in range(size):
        pivot = max(range(i, size), key=lambda r: abs(matrix[r][i]))
        matrix[i], matrix[pivot] = matrix[pivot], matrix[i]
        if abs(matrix[i][i]) < _SINGULAR * len(rows) / max(took for _, took in rows):
            return None
        for r in range(size):
            if r != i:
                factor = matrix[r][i] / matrix[i][i]
                matrix[r] = [a - factor * b for a, b in zip(matrix[r], matrix[i], strict=True)]
    return [matrix[i][size] / matrix[i][i] / s for i, s in zip(range(size), scale, strict=True)]
