"""Exact quantiles as ibis expressions that DuckDB, ClickHouse and Spark answer alike, and as fast as DuckDB's own.

ibis compiles ``quantile`` to a reservoir sample on ClickHouse, and interpolates elsewhere; a rank taken by a window costs five times as much. So the values of a
group are collected and sorted once, and each quantile is an element of that array. Memory: eight bytes a value while the query runs.
"""

import ibis
import ibis.expr.types as ir

Z95 = 1.959963984540054
QUANTILES = {"p50": 50, "p99": 99}
"""In percent: ranks are computed from whole numbers, so that n = 100 asks for rank 99 on every engine."""
SORTED = "sorted_values"


def collected(value: ir.Value) -> ir.Value:
    """An aggregate: the values of a group that are there. Nulls are left out by every engine."""
    return value.collect(where=value.notnull())


def sorted_once(grouped: ir.Table, values: str, groups_max: int) -> ir.Table:
    """``grouped`` with its array ``values`` sorted as SORTED, at most ``groups_max`` groups.

    The limit also keeps ibis from merging this step into the next, where the array would be sorted again for each element taken out of it.
    """
    ordered = grouped.mutate(**{SORTED: grouped[values].sort()}).drop(values)
    return ordered.limit(groups_max)


def rank(n: ir.Value, percent: int) -> ir.Value:
    """The nearest rank, ceil(n p), from 1."""
    return (n * percent / 100).ceil()


def rank_low(n: ir.Value, percent: int) -> ir.Value:
    """The lower end of the rank's 95 % interval, n p - 1.96 sqrt(n p (1 - p)); below 1 where the sample is too small to have one."""
    return (n * percent / 100 - _half(n, percent)).floor()


def rank_high(n: ir.Value, percent: int) -> ir.Value:
    """Its upper end; above ``n`` where the sample is too small."""
    return (n * percent / 100 + _half(n, percent)).ceil() + 1


def at_rank(ordered: ir.Value, n: ir.Value, wanted: ir.Value) -> ir.Value:
    """The element of rank ``wanted`` of a sorted array of ``n``; null where there is none.

    ClickHouse would answer 0 for an index out of range, and Spark takes an index of 32 bits only.
    """
    inside = (wanted >= 1) & (wanted <= n)
    index = (ibis.ifelse(inside, wanted, 1) - 1).cast("int32")
    return ibis.ifelse(inside, ordered[index], ibis.null("float64"))


def picks(ordered: ir.Value, n: ir.Value) -> dict[str, ir.Value]:
    """``p50``, ``p50_low``, ``p50_high`` and so on for each of QUANTILES."""
    found: dict[str, ir.Value] = {}
    for label, percent in QUANTILES.items():
        found[label] = at_rank(ordered, n, rank(n, percent))
        found[f"{label}_low"] = at_rank(ordered, n, rank_low(n, percent))
        found[f"{label}_high"] = at_rank(ordered, n, rank_high(n, percent))
    return found


def _half(n: ir.Value, percent: int) -> ir.Value:
    return (n * (percent * (100 - percent)) / 10_000).sqrt() * Z95
