"""Which traces began when, and their spans. In the portable subset, see ``queries.py``."""

import ibis
import ibis.expr.types as ir

from headway.facts.hop_range import HopQuery
from headway.facts.queries import table

_SPAN = (
    "trace",
    "span",
    "parent",
    "name",
    "kind",
    "start_wall_us",
    "duration_us",
    "status",
    "gateway",
    "service",
    "hop",
    "role",
    "peer",
    "awaited",
    "tenant",
    "input_tokens",
    "cached_tokens",
    "inputs",
    "outputs",
)


def traces_between(where: HopQuery) -> ir.Table:
    """Trace, its first instant and how many spans it has; the newest first."""
    return _chosen(where).order_by(ibis.desc("at"), "trace")


def spans_of_traces(where: HopQuery) -> ir.Table:
    """All spans of the traces that began in the range."""
    return _of_tenant(table("span"), where).semi_join(_chosen(where), "trace").select(*_SPAN)


def _chosen(where: HopQuery) -> ir.Table:
    spans = _of_tenant(table("span"), where)
    found = spans.group_by("trace").aggregate(at=spans.at_wall_us.min(), spans=spans.count())
    return found.filter(found["at"] >= where.since_wall_us, found["at"] < where.until_wall_us)


def _of_tenant(spans: ir.Table, where: HopQuery) -> ir.Table:
    return spans.filter(spans.tenant == where.tenant) if where.tenant else spans
