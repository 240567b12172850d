"""Two windows: which hop gained, within request types, beyond what chance does to so many hops at once."""

from collections.abc import Iterable

import msgspec
import numpy as np

from headway.calls.hops.model import HopTrace
from headway.calls.hops.report import matrix, rows_of
from headway.calls.hops.times import TraceTimes
from headway.kernel.figure import Figure
from headway.stats.fdr import adjusted
from headway.stats.permutation import permutation_test

PERMUTATIONS = 999
FALSE_DISCOVERY = 0.05
MEANS = "mean critical time, second window less first, within request types as the second mixes them"


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """``added`` ms a trace within types; ``p`` adjusted over hops (Benjamini-Hochberg); ``stands`` at 5 % of false discoveries."""

    hop: str
    added: Figure
    p: float
    stands: bool


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """``within`` + ``mix`` = ``total``, the difference of mean durations. Hops that stand first, by what they added."""

    total: Figure
    within: Figure
    mix: Figure
    hops: tuple[Change, ...]


def compare(
    first: Iterable[HopTrace | TraceTimes],
    second: Iterable[HopTrace | TraceTimes],
    *,
    seed: int = 1,
    count: int = PERMUTATIONS,
) -> Compared:
    """Types that lack a window are left to ``mix``. Without rows in either window every figure is None."""
    before, after = rows_of(first), rows_of(second)
    if not before or not after:
        none = Figure(value=None, unit="ms", n=0, method=f"no traces in the {'first' if not before else 'second'} window")
        return Compared(total=none, within=none, mix=none, hops=())
    rows = [*before, *after]
    hops, times, total = matrix(rows)
    later = np.arange(len(rows)) >= len(before)
    types = {kind: place for place, kind in enumerate(dict.fromkeys(row.request_type for row in rows))}
    strata = np.asarray([types[row.request_type] for row in rows], dtype=np.intp)
    added, p = permutation_test(times, later, strata, count=count, seed=seed)
    p = adjusted(p)
    n = len(rows)
    changes = [
        Change(
            hop=hop,
            added=Figure(value=float(added[i]), unit="ms", n=n, method=f"{MEANS}; {count} permutations within types"),
            p=float(p[i]),
            stands=bool(p[i] <= FALSE_DISCOVERY),
        )
        for i, hop in enumerate(hops)
    ]
    whole, within = float(total[later].mean() - total[~later].mean()), float(added.sum())
    return Compared(
        total=Figure(value=whole, unit="ms", n=n, method="mean duration, second window less first"),
        within=Figure(value=within, unit="ms", n=n, method=MEANS),
        mix=Figure(value=whole - within, unit="ms", n=n, method="what is left: other request types, or other shares of them"),
        hops=tuple(sorted(changes, key=lambda each: (not each.stands, -abs(each.added.value or 0), each.hop))),
    )
