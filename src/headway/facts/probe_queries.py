"""Probes as a control group: what they took, and what they have cost. In the portable subset, see ``queries.py``."""

import ibis
import ibis.expr.types as ir

from headway.calls.model import Origin
from headway.facts.queries import table


def times(route: str, since_wall_ms: int, until_wall_ms: int, limit: int) -> ir.Table:
    """Probes of ``route`` (provider/model; empty is all) that began in the range, newest first, each with the attempt that answered or failed last."""
    calls, tries = table("call"), table("attempt")
    tests = [calls.origin == Origin.PROBE.value, calls.started_wall_ms >= since_wall_ms, calls.started_wall_ms < until_wall_ms]
    if route:
        tests.append(calls.routed == route)
    newest = calls.filter(*tests).order_by(calls.call.desc()).limit(limit)
    kept = newest.select(
        "call",
        "started_wall_ms",
        "prompt_ref",
        "routed",
        "answered",
        "outcome",
        "duration_ms",
        "queue_ms",
        "first_token_ms",
        "input_tokens",
        "output_tokens",
        "cached_tokens",
        last_attempt=newest.attempts,
    )
    last = tries.select(
        "region",
        "fingerprint",
        "tier",
        "edge",
        "address",
        "connect_ms",
        "start_ms",
        "sent_ms",
        "gap_p50_ms",
        "stalls",
        of_call=tries.call,
        attempt=tries.attempt,
    )
    joined = kept.left_join(last, [kept.call == last.of_call, kept.last_attempt == last.attempt])
    return joined.drop("of_call", "attempt", "last_attempt").order_by(ibis.desc("call"))


def spent(since_wall_ms: int, until_wall_ms: int) -> ir.Table:
    """Calls and known cost of probes by route; ``unknown`` counts the calls whose cost is not known."""
    calls = table("call")
    found = calls.filter(
        calls.origin == Origin.PROBE.value, calls.started_wall_ms >= since_wall_ms, calls.started_wall_ms < until_wall_ms
    )
    return (
        found.group_by(route=found.routed)
        .aggregate(
            calls=found.count(),
            nano_usd=found.cost_nano_usd.sum().coalesce(0).cast("int64"),
            unknown=found.cost_nano_usd.isnull().cast("int64").sum().cast("int64"),
        )
        .order_by("route")
    )
