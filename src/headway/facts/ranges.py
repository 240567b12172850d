"""Sets of segment numbers as ranges: what a merged file holds, in a few bytes however many segments went into it."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping

Ranges = tuple[tuple[int, int], ...]
"""Rising, disjoint, not adjacent, both ends included."""

Segments = Mapping[str, Ranges]
"""By run of a gateway's spool."""


def union(*parts: Iterable[tuple[int, int]]) -> Ranges:
    """All numbers of all parts."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(each for part in parts for each in part):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return tuple(merged)


def contains(ranges: Ranges, number: int) -> bool:
    """Whether ``number`` lies in one of them."""
    at = bisect_right(ranges, (number, float("inf"))) - 1
    return at >= 0 and ranges[at][1] >= number


def united(parts: Iterable[Segments]) -> dict[str, Ranges]:
    """The union, run by run."""
    out: dict[str, Ranges] = {}
    for part in parts:
        for run, ranges in part.items():
            out[run] = union(out.get(run, ()), ranges)
    return out


def meets(one: Segments, other: Segments) -> bool:
    """Whether any segment is in both."""
    return any(
        first <= contains_last and contains_first <= last
        for run, ranges in one.items()
        for first, last in ranges
        for contains_first, contains_last in other.get(run, ())
    )
