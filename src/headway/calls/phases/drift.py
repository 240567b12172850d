"""Who answers, by shares: did regions, fingerprints, models or edges change between two windows? G-test (Sokal and Rohlf 1995), 30 calls a side."""

from collections import Counter
from collections.abc import Sequence
from math import exp, lgamma, log

import msgspec

from headway.calls.phases.model import Seen

DIMENSIONS = ("region", "fingerprint", "model", "edge")
SIDE_CALLS_MIN = 30
EXPECTED_MIN = 5.0
"""Values expected less often on a side are counted together."""
OTHER = "(other)"
_ROUNDS = 500


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """``p`` that the shares are the same; None where a side has too few calls. The largest shares first in ``value``, ``before`` and ``after``."""

    dimension: str
    p: float | None
    g: float
    degrees: int
    n_before: int
    n_after: int
    values: tuple[tuple[str, float, float], ...]
    """(value, share before, share after), those that moved most first."""


def drifts(before: Sequence[Seen], after: Sequence[Seen]) -> tuple[Drift, ...]:
    """Of every dimension that anybody reports, surest first."""
    found = [
        drift(name, [getattr(s, name) for s in before], [getattr(s, name) for s in after])
        for name in DIMENSIONS
        if any(getattr(s, name) for s in (*before, *after))
    ]
    return tuple(sorted(found, key=lambda d: 1.0 if d.p is None else d.p))


def drift(dimension: str, before: Sequence[str], after: Sequence[str]) -> Drift:
    """Of one dimension; "" is a value like any other."""
    first, second = Counter(before), Counter(after)
    n, m = len(before), len(after)
    values = [
        (value, first[value] / n if n else 0.0, second[value] / m if m else 0.0)
        for value in sorted(first.keys() | second.keys(), key=lambda v: -(first[v] + second[v]))
    ]
    cells = _cells(first, second)
    g = 2 * sum(_term(one, two, n, m) for one, two in cells)
    enough = min(n, m) >= SIDE_CALLS_MIN
    return Drift(
        dimension=dimension,
        p=chi_square_p(g, len(cells) - 1) if enough else None,
        g=g,
        degrees=len(cells) - 1,
        n_before=n,
        n_after=m,
        values=tuple(sorted(values, key=lambda v: -abs(v[2] - v[1]))),
    )


def _cells(first: Counter[str], second: Counter[str]) -> list[tuple[int, int]]:
    n, m = first.total(), second.total()
    cells: list[tuple[int, int]] = []
    rare = [0, 0]
    for value in sorted(first.keys() | second.keys()):
        both = first[value] + second[value]
        if both * min(n, m) / max(n + m, 1) < EXPECTED_MIN:
            rare[0] += first[value]
            rare[1] += second[value]
        else:
            cells.append((first[value], second[value]))
    return [*cells, (rare[0], rare[1])] if sum(rare) else cells


def _term(one: int, two: int, n: int, m: int) -> float:
    both = one + two
    return sum(seen * log(seen * (n + m) / (both * side)) for seen, side in ((one, n), (two, m)) if seen)


def chi_square_p(value: float, degrees: int) -> float:
    """P(chi-square with ``degrees`` >= value): the regularised upper incomplete gamma function, by series or continued fraction."""
    if degrees < 1 or value <= 0:
        return 1.0
    a, x = degrees / 2, value / 2
    front = exp(-x + a * log(x) - lgamma(a))
    return max(0.0, 1 - front * _series(a, x)) if x < a + 1 else front * _fraction(a, x)


def _series(a: float, x: float) -> float:
    term = total = 1 / a
    for k in range(1, _ROUNDS):
        term *= x / (a + k)
        total += term
        if term < total * 1e-15:
            break
    return total


def _fraction(a: float, x: float) -> float:
    tiny = 1e-300
    b = x + 1 - a
    c, d = 1 / tiny, 1 / (b or tiny)
    h = d
    for k in range(1, _ROUNDS):
        an = -k * (k - a)
        b += 2
        d = 1 / (an * d + b or tiny)
        c = b + an / c or tiny
        h *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return h
