"""Which traces began when, their spans, and Headway's own calls beside them. In the portable subset, see ``queries.py``."""

import ibis
import ibis.expr.types as ir
import msgspec

from headway.facts.queries import CLIENT, table

CALLS_READ_MAX = 200_000
"""Newest own calls of a range; each is two spans or more."""
_US_PER_MS = 1_000
_CALL = (
    "call",
    "started_wall_ms",
    "duration_ms",
    "tenant",
    "run",
    "feature",
    "requested",
    "path",
    "outcome",
    "traceparent",
)
_ATTEMPT = (
    "call",
    "attempt",
    "started_wall_ms",
    "start_ms",
    "duration_ms",
    "queue_ms",
    "upstream_model",
    "outcome",
    "input_tokens",
    "cached_tokens",
)
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


class HopQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Traces that began from ``since`` up to before ``until``; microseconds since 1970. An empty tenant is all."""

    since_wall_us: int
    until_wall_us: int
    tenant: str = ""
    own: bool = True
    """Headway's own calls too."""


def traces_between(where: HopQuery) -> ir.Table:
    """Trace, its first instant and how many spans it has; the newest first."""
    return _chosen(where).order_by(ibis.desc("at"), "trace")


def spans_of_traces(where: HopQuery) -> ir.Table:
    """All spans of the traces that began in the range."""
    return _of_tenant(table("span"), where).semi_join(_chosen(where), "trace").select(*_SPAN)


def calls_between(where: HopQuery) -> ir.Table:
    """Own calls of clients, the newest first."""
    return _calls(where).select(*_CALL)


def attempts_of_calls(where: HopQuery) -> ir.Table:
    """Attempts of these calls."""
    return table("attempt").semi_join(_calls(where), "call").select(*_ATTEMPT)


def _chosen(where: HopQuery) -> ir.Table:
    spans = _of_tenant(table("span"), where)
    found = spans.group_by("trace").aggregate(at=spans.at_wall_us.min(), spans=spans.count())
    return found.filter(found["at"] >= where.since_wall_us, found["at"] < where.until_wall_us)


def _of_tenant(spans: ir.Table, where: HopQuery) -> ir.Table:
    return spans.filter(spans.tenant == where.tenant) if where.tenant else spans


def _calls(where: HopQuery) -> ir.Table:
    calls = table("call")
    at = calls.started_wall_ms
    tests = [calls.origin == CLIENT, at >= where.since_wall_us // _US_PER_MS, at < where.until_wall_us // _US_PER_MS]
    if where.tenant:
        tests.append(calls.tenant == where.tenant)
    return calls.filter(*tests).order_by(ibis.desc("started_wall_ms"), "call").limit(CALLS_READ_MAX)
