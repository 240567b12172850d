"""How long calls took, by any of their names and in steps of time: counts and exact quantiles. In the portable subset, see ``queries.py``."""

from collections.abc import Sequence
from typing import Final

import ibis.expr.types as ir

from headway.facts.answers import LATENCY_KEYS, LATENCY_MEASURES, CallQuery
from headway.facts.quantiles import SORTED, collected, picks, sorted_once
from headway.facts.queries import matching

BUCKET: Final = "bucket"


def latency(where: CallQuery, keys: Sequence[str], measure: str, bucket_ms: int, groups_max: int) -> ir.Table:
    """Calls, how many have the measure, and its p50 and p99 with the ranks of their 95 % interval, by ``keys`` and by steps of ``bucket_ms``.

    ``ValueError`` for a key or a measure that is none. Columns that the question does not name are not read. More than
    ``groups_max`` groups are cut off.
    """
    if unknown := [key for key in keys if key not in LATENCY_KEYS]:
        raise ValueError(f"calls cannot be grouped by {unknown[0]!r}; they can by {', '.join(LATENCY_KEYS)}")
    if measure not in LATENCY_MEASURES:
        raise ValueError(f"there is no measure {measure!r}; there are {', '.join(LATENCY_MEASURES)}")
    found = matching(where)
    bucket = (found.started_wall_ms // bucket_ms * bucket_ms).cast("int64")
    kept = found.select(**{key: found[LATENCY_KEYS[key]] for key in keys}, measured=found[measure], bucket=bucket)
    by = [*keys, BUCKET]
    grouped = kept.group_by(by).aggregate(calls=kept.count(), n=kept.measured.count(), values=collected(kept.measured))
    ordered = sorted_once(grouped, "values", groups_max)
    return ordered.select(*by, "calls", "n", **picks(ordered[SORTED], ordered.n)).order_by(BUCKET, *keys)
