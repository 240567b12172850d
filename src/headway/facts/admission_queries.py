"""The named queries behind the evidence of admission, in the same portable subset of ibis as ``queries.py``. Loaded by the first question."""

from collections.abc import Mapping, Sequence

import ibis
import ibis.expr.types as ir

from headway.calls.admission.bands import BANDS, GIANT_TOKENS, UNKNOWN
from headway.calls.admission.objectives import Objective, objective_of
from headway.calls.admission.report import NAMES
from headway.calls.model import FAILED, Origin, Outcome
from headway.facts.answers import ANY, AdmissionQuery
from headway.facts.queries import newest, table

_GIVEN_UP = sorted({*FAILED, Outcome.CLIENT_GONE})


def shared_calls(where: AdmissionQuery) -> ir.Table:
    """Calls of the range beside the attempt that answered them or failed last: who, where, and when each stage began.

    ``uncached`` tokens the attempt had to read; ``whole`` are these with those of pieces that were sent ahead, the size of the prompt in bands.
    """
    calls, tries = table("call"), table("attempt")
    calls = calls.filter(calls.started_wall_ms >= where.since_wall_ms, calls.started_wall_ms < where.until_wall_ms)
    if where.origin != ANY:
        calls = calls.filter(calls.origin == where.origin)
    tries = tries.filter(tries.started_wall_ms >= where.since_wall_ms).select(
        "call",
        "attempt",
        "endpoint",
        "upstream_model",
        "token_times",
        "chunks",
        tried_wall_ms="started_wall_ms",
        tried_queue_ms="queue_ms",
        tried_first_token_ms="first_token_ms",  # noqa: S106 (a column)
        tried_duration_ms="duration_ms",
        tried_status="status",
    )
    found = calls.left_join(tries, [calls.call == tries.call, calls.attempts == tries.attempt])
    found = found.mutate(
        endpoint=found.endpoint.fill_null(""),
        uncached=ibis.greatest(_uncached(found).coalesce(found.prompt_tokens_estimate), 0),
    )
    sent = _pieces(where)
    found = found.left_join(sent, found.call == sent.parent).drop("parent")
    found = found.mutate(
        whole=ibis.ifelse(found.ahead.isnull(), found.uncached, ibis.least(found.uncached + found.ahead, found.input_tokens))
    )
    found = found.mutate(band=_band(found.whole))
    if where.tenant:
        found = found.filter(found.tenant == where.tenant)
    return found.filter(found.endpoint == where.endpoint) if where.endpoint else found


def _pieces(where: AdmissionQuery) -> ir.Table:
    """What was read of each prompt that was sent ahead in pieces. In its own row that part is cached: for it the endpoint read it all the same."""
    calls = table("call")
    calls = calls.filter(calls.started_wall_ms >= where.since_wall_ms, calls.origin == Origin.PIECE.value)
    return calls.group_by(parent=calls.parent_call).aggregate(ahead=ibis.greatest(_uncached(calls), 0).sum().cast("int64"))


def _uncached(calls: ir.Table) -> ir.Value:
    return calls.input_tokens - calls.cached_tokens.fill_null(0)


def cells(where: AdmissionQuery, objectives: Mapping[str, Objective], klasses: Sequence[str]) -> ir.Table:
    """Calls by endpoint, tenant, class and band: how they ended, how many kept their class's objective. Wider lines are sums of these."""
    found = shared_calls(where)
    goals = [objective_of(klass, objectives) for klass in klasses]
    goal_ms = _by_class(found, {g.klass: g.first_token_ms for g in goals}, objective_of("", objectives).first_token_ms)
    allowed = _by_class(found, {g.klass: 1 - g.share for g in goals}, 1 - objective_of("", objectives).share)
    late = found.first_token_ms > goal_ms
    given_up = found.first_token_ms.isnull() & found.outcome.isin(_GIVEN_UP) & (found.duration_ms > goal_ms)
    broken = late.fill_null(False) | given_up
    judged = found.first_token_ms.notnull() | given_up
    rows = found.mutate(broken=broken.cast("int64"), judged=judged.cast("int64"), allowed=ibis.ifelse(judged, allowed, 0.0))
    return (
        rows.group_by(*NAMES)
        .aggregate(
            calls=rows.count(),
            answered=rows.first_token_ms.count(),
            refused=(rows.outcome == Outcome.REFUSED.value).cast("int64").sum(),
            evicted=(rows.outcome == Outcome.EVICTED.value).cast("int64").sum(),
            judged=rows.judged.sum(),
            broken=rows.broken.sum(),
            allowed=rows.allowed.sum(),
        )
        .order_by(*NAMES)
    )


def values(where: AdmissionQuery, one_in: int, bucket_ms: int) -> ir.Table:
    """What quantiles are taken of, a row for each call; with ``one_in`` over 1 for those of every so manieth millisecond."""
    found = shared_calls(where)
    if one_in > 1:
        found = found.filter(found.started_wall_ms % one_in == 0)
    waited = ibis.ifelse(found.outcome == Outcome.REFUSED.value, ibis.null("float64"), found.queue_ms)
    return found.select(
        *NAMES,
        "upstream_model",
        "whole",
        "first_token_ms",
        queue_ms=waited,
        bucket=(found.started_wall_ms // bucket_ms * bucket_ms).cast("int64"),
    )


def moments(where: AdmissionQuery, bucket_ms: int) -> ir.Table:
    """Each class in steps of time: calls and tokens."""
    found = shared_calls(where)
    rows = found.select(
        "klass",
        bucket=(found.started_wall_ms // bucket_ms * bucket_ms).cast("int64"),
        tokens=found.whole.fill_null(0) + found.output_tokens.fill_null(0),
    )
    return rows.group_by("klass", "bucket").aggregate(calls=rows.count(), tokens=rows.tokens.sum()).order_by("bucket", "klass")


def giants(where: AdmissionQuery, limit: int) -> ir.Table:
    """The newest calls with a giant prompt."""
    found = shared_calls(where)
    found = found.filter(found.whole >= GIANT_TOKENS, found.tried_wall_ms.notnull())
    picked = found.select("call", "tenant", "klass", "whole", "tried_wall_ms", "tried_queue_ms", "tried_first_token_ms")
    return picked.order_by(ibis.desc("call")).limit(limit)


def spans(where: AdmissionQuery, limit: int) -> ir.Table:
    """The newest ``limit`` calls that were tried anywhere, as intervals."""
    found = shared_calls(where)
    found = found.filter(found.tried_wall_ms.notnull())
    return _as_spans(found).order_by(ibis.desc("call")).limit(limit)


def _as_spans(found: ir.Table) -> ir.Table:
    return found.select(
        "call",
        "endpoint",
        "upstream_model",
        "tenant",
        "klass",
        "origin",
        "parent_call",
        "outcome",
        "uncached",
        "whole",
        "output_tokens",
        "token_times",
        "tried_wall_ms",
        "tried_queue_ms",
        "tried_first_token_ms",
        "tried_duration_ms",
        "tried_status",
    )


def _band(uncached: ir.Value) -> ir.Value:
    sizes = [(uncached >= band.tokens_from, ibis.literal(band.name)) for band in reversed(BANDS)]
    return ibis.cases((uncached.isnull(), ibis.literal(UNKNOWN)), *sizes, else_=ibis.literal(BANDS[0].name))


def _by_class(found: ir.Table, values: Mapping[str, float], otherwise: float) -> ir.Value:
    if not values:
        return ibis.literal(otherwise)
    return ibis.cases(
        *[(found.klass == klass, ibis.literal(value)) for klass, value in values.items()], else_=ibis.literal(otherwise)
    )


__all__ = ["cells", "giants", "moments", "newest", "shared_calls", "spans", "values"]
