"""The named queries behind the evidence of admission, in the same portable subset of ibis as ``queries.py``. Loaded by the first question."""

from collections.abc import Mapping, Sequence

import ibis
import ibis.expr.types as ir

from headway.calls.admission.alone import REACH, Alone
from headway.calls.admission.bands import BANDS, GIANT_TOKENS, UNKNOWN
from headway.calls.admission.objectives import Objective, objective_of
from headway.calls.admission.report import KINDS, NAMES, PERCENTS
from headway.calls.model import FAILED, Outcome
from headway.facts.answers import ANY, AdmissionQuery
from headway.facts.queries import newest, table

LINES_MAX = 64
"""Places with a line of their time alone; calls elsewhere have no slowdown."""
_GIVEN_UP = sorted({*FAILED, Outcome.CLIENT_GONE})
_Z95 = 1.959963984540054


def shared_calls(where: AdmissionQuery) -> ir.Table:
    """Calls of the range beside the attempt that answered them or failed last: who, where, and when each stage began."""
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
        uncached=(found.input_tokens - found.cached_tokens.fill_null(0)).coalesce(found.prompt_tokens_estimate),
    )
    found = found.mutate(uncached=ibis.greatest(found.uncached, 0), band=_band(found.uncached))
    if where.tenant:
        found = found.filter(found.tenant == where.tenant)
    return found.filter(found.endpoint == where.endpoint) if where.endpoint else found


def counts(where: AdmissionQuery, objectives: Mapping[str, Objective], klasses: Sequence[str]) -> ir.Table:
    """Calls by every kind of key: how they ended, how many kept their class's objective."""
    found = shared_calls(where)
    goals = [objective_of(klass, objectives) for klass in klasses]
    goal_ms = _by_class(found, {g.klass: g.first_token_ms for g in goals}, objective_of("", objectives).first_token_ms)
    allowed = _by_class(found, {g.klass: 1 - g.share for g in goals}, 1 - objective_of("", objectives).share)
    late = found.first_token_ms > goal_ms
    given_up = found.first_token_ms.isnull() & found.outcome.isin(_GIVEN_UP) & (found.duration_ms > goal_ms)
    broken = late.fill_null(False) | given_up
    judged = found.first_token_ms.notnull() | given_up
    rows = found.mutate(
        broken=broken.cast("int64"),
        judged=judged.cast("int64"),
        allowed=ibis.ifelse(judged, allowed, 0.0),
        was_answered=found.first_token_ms.notnull().cast("int64"),
        was_refused=(found.outcome == Outcome.REFUSED.value).cast("int64"),
        was_evicted=(found.outcome == Outcome.EVICTED.value).cast("int64"),
    )
    kept = ("broken", "judged", "allowed", "was_answered", "was_refused", "was_evicted")
    stacked = _stacked(rows, kept)
    return (
        stacked.group_by("kind", *NAMES)
        .aggregate(
            calls=stacked.count(),
            answered=stacked.was_answered.sum(),
            refused=stacked.was_refused.sum(),
            evicted=stacked.was_evicted.sum(),
            judged=stacked.judged.sum(),
            broken=stacked.broken.sum(),
            allowed=stacked.allowed.sum(),
        )
        .order_by("kind", *NAMES)
    )


def measured(where: AdmissionQuery, measure: str, lines: Sequence[Alone] = ()) -> ir.Table:
    """n, exact quantiles and the ends of their 95 % intervals of one measure by every kind of key."""
    found = shared_calls(where)
    value = {"queue_ms": found.queue_ms, "first_token_ms": found.first_token_ms}.get(measure)
    if measure == "queue_ms":
        found = found.filter(found.outcome != Outcome.REFUSED.value)
    rows = found.mutate(value=_slowdown(found, lines) if value is None else value)
    stacked = _stacked(rows.filter(rows.value.notnull()), ("value",))
    keys = ["kind", *NAMES]
    ranked = stacked.mutate(
        rank=ibis.row_number().over(ibis.window(group_by=keys, order_by=stacked.value)) + 1,
        n=stacked.count().over(ibis.window(group_by=keys)),
    )
    return ranked.group_by(keys).aggregate(n=ranked.n.max(), **_picks(ranked)).order_by(*keys)


def moments(where: AdmissionQuery, bucket_ms: int) -> ir.Table:
    """Each class in steps of time: calls, tokens, first-token quantiles."""
    found = shared_calls(where)
    rows = found.select(
        "klass",
        "first_token_ms",
        bucket=(found.started_wall_ms // bucket_ms * bucket_ms).cast("int64"),
        tokens=found.uncached.fill_null(0) + found.output_tokens.fill_null(0),
    )
    keys = ["klass", "bucket"]
    ranked = rows.mutate(
        value=rows.first_token_ms,
        rank=ibis.row_number().over(ibis.window(group_by=keys, order_by=rows.first_token_ms.asc(nulls_first=False))) + 1,
        n=rows.first_token_ms.count().over(ibis.window(group_by=keys)),
    )
    return (
        ranked.group_by(keys)
        .aggregate(
            calls=ranked.count(),
            tokens=ranked.tokens.sum(),
            p50=_pick(ranked, _middle(ranked.n, 50).ceil()),
            p99=_pick(ranked, _middle(ranked.n, 99).ceil()),
        )
        .order_by("bucket", "klass")
    )


def giants(where: AdmissionQuery, limit: int) -> ir.Table:
    """The newest calls with a giant prompt."""
    found = shared_calls(where)
    found = found.filter(found.uncached >= GIANT_TOKENS, found.tried_wall_ms.notnull())
    picked = found.select("call", "tenant", "klass", "uncached", "tried_wall_ms", "tried_queue_ms", "tried_first_token_ms")
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
        "output_tokens",
        "token_times",
        "tried_wall_ms",
        "tried_queue_ms",
        "tried_first_token_ms",
        "tried_duration_ms",
        "tried_status",
    )


def _stacked(rows: ir.Table, kept: Sequence[str]) -> ir.Table:
    """Each row once for every kind of key, with the names that the kind pools over empty."""
    each = rows.select(*kept, *NAMES, which=ibis.array(list(range(len(KINDS)))).unnest())
    kinds = list(KINDS)
    names = {
        name: ibis.ifelse(each.which.isin([i for i, kind in enumerate(kinds) if name in KINDS[kind]]), each[name], ibis.literal(""))
        for name in NAMES
    }
    kind = ibis.cases(*[(each.which == i, ibis.literal(name)) for i, name in enumerate(kinds)], else_=ibis.literal(""))
    return each.select(*kept, kind=kind, **names)


def _band(uncached: ir.Value) -> ir.Value:
    sizes = [(uncached >= band.tokens_from, ibis.literal(band.name)) for band in reversed(BANDS)]
    return ibis.cases((uncached.isnull(), ibis.literal(UNKNOWN)), *sizes, else_=ibis.literal(BANDS[0].name))


def _by_class(found: ir.Table, values: Mapping[str, float], otherwise: float) -> ir.Value:
    if not values:
        return ibis.literal(otherwise)
    return ibis.cases(
        *[(found.klass == klass, ibis.literal(value)) for klass, value in values.items()], else_=ibis.literal(otherwise)
    )


def _slowdown(found: ir.Table, lines: Sequence[Alone]) -> ir.Value:
    """First-token time over what it takes alone; null where the line of the place says nothing."""
    known = [
        (
            (found.endpoint == line.endpoint) & (found.upstream_model == line.model) & (found.uncached <= line.tokens_max * REACH),
            ibis.literal(line.floor_ms) + found.uncached * line.ms_per_token,
        )
        for line in sorted(lines, key=lambda line: -line.n)[:LINES_MAX]
    ]
    if not known:
        return ibis.null("float64")
    expected = ibis.cases(*known, else_=ibis.null("float64"))
    return found.first_token_ms / expected.nullif(0.0)


def _middle(n: ir.Value, percent: int) -> ir.Value:
    return n * percent / 100


def _pick(ranked: ir.Table, rank: ir.Value) -> ir.Value:
    return ranked.value.max(where=ranked["rank"] == rank)


def _picks(ranked: ir.Table) -> dict[str, ir.Value]:
    picks: dict[str, ir.Value] = {}
    for label, percent in PERCENTS.items():
        middle = _middle(ranked.n, percent)
        half = (ranked.n * (percent * (100 - percent)) / 10_000).sqrt() * _Z95
        picks[label] = _pick(ranked, middle.ceil())
        picks[label + "_low"] = _pick(ranked, (middle - half).floor())
        picks[label + "_high"] = _pick(ranked, (middle + half).ceil() + 1)
    return picks


__all__ = ["counts", "giants", "measured", "moments", "newest", "shared_calls", "spans"]
