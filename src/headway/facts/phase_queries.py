"""Calls and attempts as verdicts need them. In the portable subset, see ``queries.py``. Loaded by the first question."""

import ibis
import ibis.expr.types as ir

from headway.calls.model import Origin, Outcome
from headway.facts.phases import PhaseQuery
from headway.facts.queries import table

_JUDGED = (Origin.CLIENT.value, Origin.PROBE.value)
_CALL = (
    "call",
    "started_wall_ms",
    "duration_ms",
    "gateway",
    "origin",
    "parent_call",
    "tenant",
    "run",
    "feature",
    "prompt_ref",
    "prefix_hashes",
    "routed",
    "answered",
    "fingerprint",
    "region",
    "outcome",
    "stop",
    "attempts",
    "first_token_ms",
    "queue_ms",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "blocked_ms",
)
_ATTEMPT_LEFT_OUT = ("token_times", "traceparent", "error_detail")


def phase_calls(where: PhaseQuery, limit: int) -> ir.Table:
    """Calls that were answered, of clients and probes: the newest ``limit``, or with ``oldest`` the first."""
    found = _chosen(where)
    order = found.call if where.oldest else ibis.desc(found.call)
    return found.select(*_CALL).order_by(order).limit(limit)


def phase_count(where: PhaseQuery) -> ir.Table:
    """How many there are."""
    found = _chosen(where)
    return found.aggregate(calls=found.count())


def phase_attempts(where: PhaseQuery, limit: int) -> ir.Table:
    """The attempts of the calls that ``phase_calls`` finds, without token times: a usual pace needs first and last token only."""
    calls, tries = phase_calls(where, limit), table("attempt")
    tries = tries.filter(tries.started_wall_ms >= where.since_wall_ms)
    return tries.semi_join(calls, "call").drop(*_ATTEMPT_LEFT_OUT).order_by("call", "attempt")


def cache_routes() -> ir.Table:
    """Provider and model of every route that ever reported a cached token: elsewhere 0 is "not reported"."""
    tries = table("attempt")
    return tries.filter(tries.cached_tokens > 0).select("provider", "upstream_model").distinct()


def engines_telling() -> ir.Table:
    """Providers whose engines tell of their queue: these are one's own."""
    tries = table("attempt")
    return tries.filter(tries.engine_waiting.notnull()).select("provider").distinct()


def heads(where: PhaseQuery, limit: int, chars: int) -> ir.Table:
    """Beginnings of recorded prompts of the range, newest first."""
    rows = table("recording")
    rows = rows.filter(rows.at_wall_ms >= where.since_wall_ms, rows.at_wall_ms < where.until_wall_ms)
    return (
        rows.select("call", "at_wall_ms", head=rows.prompt.substr(0, chars)).order_by(ibis.desc("at_wall_ms"), "call").limit(limit)
    )


def _chosen(where: PhaseQuery) -> ir.Table:
    calls = table("call")
    tests = [
        calls.started_wall_ms >= where.since_wall_ms,
        calls.started_wall_ms < where.until_wall_ms,
        calls.origin.isin(_JUDGED),
        calls.outcome == Outcome.DONE.value,
        calls.attempts >= 1,
    ]
    tests += [calls[name] == value for name in ("routed", "run") if (value := getattr(where, name))]
    return calls.filter(*tests)
