"""A span as it was read and as a row of the table ``span``, both ways; and why it cannot be a row."""

from headway.calls.hops.seen import SeenSpan
from headway.facts.model import SpanFact
from headway.facts.trace_files.reading import ERROR, is_hex
from headway.kernel.instants import WallMs
from headway.kernel.limits import HOP_EARLIEST_US

TRACE_CHARS, SPAN_CHARS = 32, 16
_US_PER_MS = 1_000
_DAY_US = 86_400 * 1_000_000


def has_ids(seen: SeenSpan) -> bool:
    """Whether its ids are those of the table: 32 and 16 hexadecimal digits, lower case. Files may hold others."""
    return (
        is_hex(seen.trace, TRACE_CHARS) and is_hex(seen.span, SPAN_CHARS) and (not seen.parent or is_hex(seen.parent, SPAN_CHARS))
    )


def to_row(seen: SeenSpan, now: WallMs, tenant: str) -> SpanFact:
    """``tenant`` of who sent it, where it is bound to one: what the span says of it does not count then."""
    return SpanFact(
        trace=seen.trace,
        span=seen.span,
        parent=seen.parent,
        name=seen.name,
        kind=seen.kind,
        start_wall_us=seen.start_us,
        duration_us=seen.duration_us,
        status=ERROR if seen.error else "",
        at_wall_us=found_at_us(seen.start_us, now),
        service=seen.service,
        hop=seen.hop,
        role=seen.role,
        peer=seen.peer,
        awaited=seen.awaited,
        tenant=tenant or seen.tenant,
        input_tokens=seen.input_tokens,
        cached_tokens=seen.cached_tokens,
        inputs=seen.inputs,
        outputs=seen.outputs,
    )


def found_at_us(start_us: int, now: WallMs) -> int:
    """Under which time a span is found: a clock of 1970 or of 2099 must not hide it."""
    now_us = now * _US_PER_MS
    return start_us if HOP_EARLIEST_US <= start_us <= now_us + _DAY_US else now_us


def to_seen(row: SpanFact) -> SeenSpan:
    """The way back. A row that was stored before spans had services belongs to its gateway."""
    return SeenSpan(
        trace=row.trace,
        span=row.span,
        parent=row.parent,
        service=row.service or row.gateway,
        name=row.name,
        kind=row.kind,
        role=row.role,
        hop=row.hop,
        peer=row.peer,
        start_us=row.start_wall_us,
        duration_us=row.duration_us,
        awaited=row.awaited,
        error=row.status == ERROR,
        tenant=row.tenant,
        input_tokens=row.input_tokens,
        cached_tokens=row.cached_tokens,
        inputs=row.inputs,
        outputs=row.outputs,
    )
