"""Answers about probes, as plain values. Loads neither ibis nor DuckDB before it is asked."""

import importlib
from typing import Any

import msgspec

from headway.calls.phases.probes import PROMPT_REF, ProbeKind
from headway.facts.engine import Reader
from headway.kernel.limits import PROBE_TIMES_MAX


class ProbeTime(msgspec.Struct, frozen=True, kw_only=True):
    """One probe. ``provider_ms`` is what a route is judged by: from the request's sending to the first token, without our queue and the connection."""

    call: str
    at_wall_ms: int
    kind: ProbeKind
    route: str
    answered: str = ""
    outcome: str = "done"
    region: str = ""
    fingerprint: str = ""
    tier: str = ""
    edge: str = ""
    address: str = ""
    queue_ms: float = 0.0
    connect_ms: float | None = None
    """None: on a connection that stood."""
    first_token_ms: float | None = None
    """From arrival; None where no token came."""
    provider_ms: float | None = None
    duration_ms: float = 0.0
    gap_p50_ms: float | None = None
    stalls: int | None = None
    input_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None


class ProbeSpent(msgspec.Struct, frozen=True, kw_only=True):
    """What the probes of one route have cost; ``unknown`` calls have a price that nobody knows."""

    route: str
    calls: int
    nano_usd: int
    unknown: int


def probe_times(reader: Reader, route: str, since_wall_ms: int, until_wall_ms: int) -> tuple[ProbeTime, ...]:
    """Newest first, at most PROBE_TIMES_MAX. Calls of origin probe that are of no kind of ours are left out."""
    rows = reader.rows(_queries().times(route, since_wall_ms, until_wall_ms, PROBE_TIMES_MAX))
    return tuple(_time(row) for row in rows if row["prompt_ref"] in _KINDS)


def probe_spent(reader: Reader, since_wall_ms: int, until_wall_ms: int) -> tuple[ProbeSpent, ...]:
    return tuple(msgspec.convert(row, ProbeSpent) for row in reader.rows(_queries().spent(since_wall_ms, until_wall_ms)))


_KINDS = {PROMPT_REF + kind: kind for kind in ProbeKind}


def _time(row: dict[str, Any]) -> ProbeTime:
    own = {name: row[name] for name in ProbeTime.__struct_fields__ if row.get(name) is not None}
    return ProbeTime(
        **own,
        at_wall_ms=row["started_wall_ms"],
        kind=_KINDS[row["prompt_ref"]],
        route=row["routed"],
        provider_ms=_provider_ms(row),
    )


def _provider_ms(row: dict[str, Any]) -> float | None:
    first, start, sent = row["first_token_ms"], row["start_ms"], row["sent_ms"]
    return None if first is None or start is None or sent is None else max(first - start - sent, 0.0)


def _queries() -> Any:
    return importlib.import_module("headway.facts.probe_queries")
