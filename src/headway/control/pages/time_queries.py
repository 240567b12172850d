"""The named query of the page of one trace, in the portable subset of ``facts/queries.py``. Loaded by the first question."""

import ibis.expr.types as ir

from headway.facts.queries import table


def bounds_of_trace(trace: str, tenant: str) -> ir.Table:
    """When a trace was first and last heard of; Nones where no span of it is stored. An empty tenant is all."""
    rows = table("span")
    found = rows.filter(rows.trace == trace)
    if tenant:
        found = found.filter(found.tenant == tenant)
    return found.aggregate(first=found.at_wall_us.min(), last=found.at_wall_us.max())
