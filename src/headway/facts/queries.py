"""The named queries as ibis expressions, in the subset that DuckDB, ClickHouse and Spark answer alike: exact ranks, no approximate quantile, integers for time.

Expressions over unbound tables with the schema of ``columns.py``; ``table.py`` compiles and runs them. Importing ibis takes a third of a second: this module is
loaded by the first query, never by the gateway.
"""

from collections.abc import Sequence
from functools import reduce

import ibis
import ibis.expr.types as ir
from ibis.expr.operations import UnboundTable

from headway.calls.model import FAILED as FAILED_OUTCOMES
from headway.facts.answers import ANY, FAILED, CallQuery
from headway.facts.columns import TABLES, Kind
from headway.facts.quantiles import SORTED, collected, picks, sorted_once
from headway.kernel.limits import FACT_GROUPS_MAX

REFUSED = "refused"
CLIENT = "client"
_DAY_MS = 24 * 3600 * 1000
_COUNTED = ("outcome", "cost_nano_usd", "input_tokens", "output_tokens", "first_token_ms", "stream_fault")
_TYPES = {
    Kind.TEXT: "string",
    Kind.INTEGER: "int64",
    Kind.REAL: "float64",
    Kind.FLAG: "boolean",
    Kind.BYTES: "binary",
    Kind.TEXTS: "array<string>",
    Kind.INTEGERS: "array<int64>",
}


def table(name: str) -> ir.Table:
    """A fact table, unbound."""
    return ibis.table({column.name: _TYPES[column.kind] for column in TABLES[name].columns}, name=name)


def sql(expression: ir.Table) -> str:
    """For DuckDB."""
    return str(ibis.to_sql(expression, dialect="duckdb"))


def tables_of(expression: ir.Table) -> set[str]:
    """Names of the fact tables that an expression reads."""
    return {node.name for node in expression.op().find(UnboundTable)}


def call_ids(where: CallQuery, limit: int) -> ir.Table:
    """Ids of the newest ``limit`` calls that match. Only the columns that the filter names are read."""
    found = matching(where)
    return found.select("call").order_by(ibis.desc("call")).limit(limit)


def calls(ids: Sequence[str]) -> ir.Table:
    """The whole rows of ``ids``, newest first. The bounds let the engine skip the files that lie elsewhere."""
    found = table("call")
    return found.filter(found.call.between(min(ids), max(ids)), found.call.isin(ids)).order_by(found.call.desc())


def rows_of_call(name: str, call: str) -> ir.Table:
    """The rows of one table that belong to one call."""
    rows = table(name)
    return rows.filter(rows.call == call)


def beside(since_wall_ms: int, until_wall_ms: int, limit: int) -> ir.Table:
    """Ids of calls of any origin that ran at some moment of the stretch, the nearest starts first."""
    found = table("call")
    found = found.filter(found.started_wall_ms <= until_wall_ms, found.started_wall_ms + found.duration_ms >= since_wall_ms)
    return (
        found.select("call", off=(found.started_wall_ms - since_wall_ms).abs()).order_by("off", "call").limit(limit).select("call")
    )


def newest() -> ir.Table:
    """When the newest call began."""
    return table("call").aggregate(newest=lambda t: t.started_wall_ms.max())


def count(name: str) -> ir.Table:
    """How many rows a table has."""
    rows = table(name)
    return rows.aggregate(rows=rows.count())


def groups(where: CallQuery, bucket_ms: int | None) -> ir.Table:
    """Counts, costs and exact quantiles of the first token, with the ranks of their 95 % interval, by (``by``, ``name``): in total, by feature, by tenant.

    With ``bucket_ms`` also split by time. The quantile is the value of rank ceil(n p); its interval lies between the ranks
    n p -+ 1.96 sqrt(n p (1 - p)), absent where a rank falls outside the sample.
    """
    found = matching(where)
    bucket = (found.started_wall_ms // bucket_ms * bucket_ms).cast("int64") if bucket_ms else ibis.literal(0).cast("int64")
    kept = found.select(*_COUNTED, "feature", "tenant", bucket=bucket)
    stacked = ibis.union(*[_named(kept, by) for by in ("", "feature", "tenant")], distinct=False)
    keys = ["by", "name", "bucket"]
    values = collected(stacked.first_token_ms)
    grouped = stacked.group_by(keys).aggregate(**_sums(stacked), n=stacked.first_token_ms.count(), values=values)
    ordered = sorted_once(grouped, "values", FACT_GROUPS_MAX)
    shown = ordered.mutate(**picks(ordered[SORTED], ordered.n)).drop(SORTED)
    return shown.order_by("bucket", ibis.desc("calls"), "name")


def _named(kept: ir.Table, by: str) -> ir.Table:
    return kept.select(*_COUNTED, "bucket", by=ibis.literal(by), name=kept[by] if by else ibis.literal(""))


def _failed(rows: ir.Table) -> ir.BooleanValue:
    """No answer, a part of one, or a stream that only seemed good. Rows of before streams were looked at have no fault."""
    return rows.outcome.isin(sorted(FAILED_OUTCOMES)) | (rows.stream_fault.coalesce("") != "")


def _sums(rows: ir.Table) -> dict[str, ir.Value]:
    return {
        "calls": rows.count(),
        "failed": _failed(rows).cast("int64").sum().cast("int64"),
        "cost_nano_usd": rows.cost_nano_usd.sum().coalesce(0).cast("int64"),
        "cost_unknown": (rows.cost_nano_usd.isnull() & (rows.outcome != REFUSED)).cast("int64").sum().cast("int64"),
        "input_tokens": rows.input_tokens.sum().coalesce(0).cast("int64"),
        "output_tokens": rows.output_tokens.sum().coalesce(0).cast("int64"),
    }


def cost_by_tenant_day(since_wall_ms: int, until_wall_ms: int, tenant: str) -> ir.Table:
    """Cost of every origin by tenant and UTC day."""
    found = matching(CallQuery(origin=ANY, tenant=tenant, since_wall_ms=since_wall_ms, until_wall_ms=until_wall_ms))
    found = found.mutate(day_wall_ms=(found.started_wall_ms // _DAY_MS * _DAY_MS).cast("int64"))
    sums = _sums(found)
    del sums["failed"]
    return found.group_by("tenant", "day_wall_ms").aggregate(**sums).order_by("day_wall_ms", "tenant")


def charged_to(leases: Sequence[str]) -> ir.Table:
    """The charges of all calls that drew on any of ``leases``."""
    found = table("call")
    drew = reduce(lambda one, other: one | other, [found.leases.contains(lease) for lease in leases])
    return found.filter(drew).select("call", "leases", "lease_charges", "charged_nano_usd", "charged_tokens")


def matching(where: CallQuery) -> ir.Table:
    """The calls that a question is about."""
    found = table("call")
    tests = [found[name] == value for name in ("tenant", "feature", "key", "run") if (value := getattr(where, name))]
    if where.origin != ANY:
        tests.append(found.origin == (where.origin or CLIENT))
    if where.outcome:
        tests.append(_failed(found) if where.outcome == FAILED else found.outcome == where.outcome)
    if where.model:
        part = where.model.lower()
        names = (found.requested, found.routed, found.answered)
        tests.append(reduce(lambda one, other: one | other, [name.lower().contains(part) for name in names]))
    if where.since_wall_ms is not None:
        tests.append(found.started_wall_ms >= where.since_wall_ms)
    if where.until_wall_ms is not None:
        tests.append(found.started_wall_ms < where.until_wall_ms)
    if where.before:
        tests.append(found.call < where.before)
    return found.filter(*tests) if tests else found
