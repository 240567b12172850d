"""Least value of a function of a few numbers: a coarse grid, then finer ones around the best. No chance in it."""

from collections.abc import Callable, Sequence
from itertools import product
from typing import Final

CELLS: Final = 4
HALVINGS: Final = 4


def least(miss: Callable[[tuple[float, ...]], float], most: Sequence[float]) -> tuple[float, ...]:
    """Where ``miss`` is least for numbers from 0 to ``most`` each, to a 64th of that range. It may be rough: no slope is used."""
    known: dict[tuple[float, ...], float] = {}
    axes = [[bound * cell / CELLS for cell in range(CELLS + 1)] for bound in most]
    best = _best(miss, product(*axes), known)
    for halving in range(1, HALVINGS + 1):
        steps = [bound / CELLS / 2**halving for bound in most]
        near = [
            sorted({min(max(0.0, x + way * step), bound) for way in (-1, 0, 1)})
            for x, step, bound in zip(best, steps, most, strict=True)
        ]
        best = _best(miss, product(*near), known)
    return best


def _best(
    miss: Callable[[tuple[float, ...]], float], points: "product[tuple[float, ...]]", known: dict[tuple[float, ...], float]
) -> tuple[float, ...]:
    for point in points:
        if point not in known:
            known[point] = miss(point)
    return min(known, key=lambda point: (known[point], point))
