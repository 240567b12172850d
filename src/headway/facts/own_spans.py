"""Headway's own calls as rows of the table ``span``: what it adds is a hop like any other, its queue another, and each attempt is the model's.

A call that came with a ``traceparent`` is a child in its caller's trace. Calls of one run without one share a trace, below the run's span. Only calls of
clients are told; pieces, hedges and probes are parts of what they were made for. Ids are those under which ``control/spans.py`` sends the same
spans out, so that one which a collector sends back is not a second one.
"""

import hashlib
from collections.abc import Iterable

from headway.calls.hops.recognise import MODEL
from headway.calls.model import FAILED, Origin
from headway.facts.model import AttemptFact, CallFact, Fact, SpanFact
from headway.facts.trace_files.reading import ERROR

SERVICE, QUEUE_HOP = "headway", "headway queue"
_US_PER_MS = 1_000


def trace_id(call: str) -> str:
    """Of a call that named no trace."""
    return hashlib.blake2b(call.encode(), digest_size=16, person=b"headway.trace").hexdigest()


def span_id(*parts: object) -> str:
    """Of what the span is about: a call, or a call and the number of its attempt."""
    return hashlib.blake2b("\n".join(map(str, parts)).encode(), digest_size=8, person=b"headway.span").hexdigest()


def own_rows(facts: Iterable[Fact]) -> list[SpanFact]:
    """Spans of the calls and attempts in ``facts``. An attempt whose call is not among them is told by itself, to the millisecond."""
    calls: dict[str, CallFact] = {}
    attempts: list[AttemptFact] = []
    for fact in facts:
        if isinstance(fact, CallFact):
            calls[fact.call] = fact
        elif isinstance(fact, AttemptFact):
            attempts.append(fact)
    rows = [_call(call) for call in calls.values() if call.origin == Origin.CLIENT]
    for attempt in attempts:
        call = calls.get(attempt.call)
        if call is None or call.origin == Origin.CLIENT:
            rows += _attempt(attempt, call)
    return rows


def place(call: CallFact) -> tuple[str, str]:
    """Trace and parent of a call's span."""
    if call.traceparent:
        return call.traceparent[3:35], call.traceparent[36:52]
    if call.run:
        return trace_id(f"run\n{call.tenant}\n{call.run}"), span_id("run", call.tenant, call.run)
    return trace_id(call.call), ""


def _call(call: CallFact) -> SpanFact:
    trace, parent = place(call)
    start = call.started_wall_ms * _US_PER_MS
    return SpanFact(
        trace=trace,
        span=span_id(call.call),
        parent=parent,
        name=call.feature or call.requested or call.path,
        kind="server",
        start_wall_us=start,
        duration_us=_us(call.duration_ms),
        call=call.call,
        status=_status(call.outcome),
        gateway=call.gateway,
        at_wall_us=start,
        service=SERVICE,
        tenant=call.tenant,
    )


def _attempt(attempt: AttemptFact, call: CallFact | None) -> list[SpanFact]:
    """Its wait for admission, which is a part of its duration, and what the provider took."""
    if call is not None:
        trace, tenant = place(call)[0], call.tenant
    else:
        trace, tenant = attempt.traceparent[3:35] or trace_id(attempt.call), ""
    start = attempt.started_wall_ms * _US_PER_MS
    if call is not None and attempt.start_ms is not None:
        start = call.started_wall_ms * _US_PER_MS + _us(attempt.start_ms)
    queue = min(_us(attempt.queue_ms), _us(attempt.duration_ms))
    sent = SpanFact(
        trace=trace,
        span=span_id(attempt.call, attempt.attempt),
        parent=span_id(attempt.call),
        name=f"attempt {attempt.attempt}",
        kind="client",
        start_wall_us=start + queue,
        duration_us=_us(attempt.duration_ms) - queue,
        call=attempt.call,
        status=_status(attempt.outcome),
        gateway=attempt.gateway,
        at_wall_us=start + queue,
        service=SERVICE,
        hop=f"{MODEL} {attempt.upstream_model}".strip(),
        role=MODEL,
        tenant=tenant,
        input_tokens=attempt.input_tokens,
        cached_tokens=attempt.cached_tokens,
    )
    if not queue:
        return [sent]
    waited = SpanFact(
        trace=trace,
        span=span_id(attempt.call, attempt.attempt, "queue"),
        parent=span_id(attempt.call),
        name="admission",
        start_wall_us=start,
        duration_us=queue,
        call=attempt.call,
        gateway=attempt.gateway,
        at_wall_us=start,
        service=SERVICE,
        hop=QUEUE_HOP,
        tenant=tenant,
    )
    return [waited, sent]


def _status(outcome: str) -> str:
    return ERROR if outcome in FAILED else ""


def _us(ms: float) -> int:
    return max(0, round(ms * _US_PER_MS))
