"""Headway's own calls as rows of the table ``span``: what it adds is a hop like any other, its queue another, and what an attempt waits for is the model's.

The model's time is from its request being handed to the socket (from connecting, where a socket was opened) to the read that brought the last byte of its
answer. All else of a call is Headway's, but for what its caller took: to send its request, and to read what was ready for it.

A call that came with a ``traceparent`` is a child in its caller's trace. Calls of one run without one share a trace, below the run's span. Only calls of
clients are told; pieces, hedges and probes are parts of what they were made for. Ids are those under which ``control/spans.py`` sends the same
spans out, so that one which a collector sends back is not a second one.
"""

from collections.abc import Iterable

from headway.calls.hops.recognise import MODEL
from headway.calls.model import FAILED, Origin
from headway.facts.model import AttemptFact, CallFact, Fact, SpanFact
from headway.facts.token_times import decode
from headway.facts.trace_files.reading import ERROR
from headway.kernel import traces

SERVICE, QUEUE_HOP, CALLER_HOP = "headway", "headway queue", "caller"
_US_PER_MS = 1_000


def trace_id(call: str) -> str:
    """Of a call that named no trace, as rows of spans hold it."""
    return traces.trace_id(call).hex()


def span_id(*parts: object) -> str:
    """Of what the span is about: a call, or a call and the number of its attempt."""
    return traces.span_id(*parts).hex()


def own_rows(facts: Iterable[Fact]) -> list[SpanFact]:
    """Spans of the calls and attempts in ``facts``. An attempt whose call is not among them is told by itself, to the millisecond."""
    calls: dict[str, CallFact] = {}
    attempts: list[AttemptFact] = []
    for fact in facts:
        if isinstance(fact, CallFact):
            calls[fact.call] = fact
        elif isinstance(fact, AttemptFact):
            attempts.append(fact)
    rows = [row for call in calls.values() if call.origin == Origin.CLIENT for row in _call(call)]
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


def _call(call: CallFact) -> list[SpanFact]:
    """The call, and its caller's sending where that took more than one read."""
    trace, parent = place(call)
    start = call.started_wall_ms * _US_PER_MS
    whole = SpanFact(
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
    sending = min(_us(call.received_ms), whole.duration_us)
    if not sending:
        return [whole]
    return [whole, _part(whole, span_id(call.call, "request"), "request", CALLER_HOP, start, sending)]


def _attempt(attempt: AttemptFact, call: CallFact | None) -> list[SpanFact]:
    """Its wait for admission, what the provider took, and for how long the caller then did not read what was ready."""
    if call is not None:
        trace, tenant = place(call)[0], call.tenant
    else:
        trace, tenant = attempt.traceparent[3:35] or trace_id(attempt.call), ""
    start = attempt.started_wall_ms * _US_PER_MS
    if call is not None and attempt.start_ms is not None:
        start = call.started_wall_ms * _US_PER_MS + _us(attempt.start_ms)
    end = _us(attempt.duration_ms)
    queue = min(_us(attempt.queue_ms), end)
    sent = queue if attempt.sent_ms is None or attempt.connect_ms is not None else min(max(_us(attempt.sent_ms), queue), end)
    answered = end if attempt.answered_ms is None else min(max(_us(attempt.answered_ms), sent), end)
    model = SpanFact(
        trace=trace,
        span=span_id(attempt.call, attempt.attempt),
        parent=span_id(attempt.call),
        name=f"attempt {attempt.attempt}",
        kind="client",
        start_wall_us=start + sent,
        duration_us=answered - sent,
        call=attempt.call,
        status=_status(attempt.outcome),
        gateway=attempt.gateway,
        at_wall_us=start + sent,
        service=SERVICE,
        hop=f"{MODEL} {attempt.upstream_model}".strip(),
        role=MODEL,
        tenant=tenant,
        input_tokens=attempt.input_tokens,
        cached_tokens=attempt.cached_tokens,
    )
    rows = [model]
    if queue:
        rows.insert(0, _part(model, span_id(attempt.call, attempt.attempt, "queue"), "admission", QUEUE_HOP, start, queue))
    since, unread = _unread(attempt, answered, end)
    if unread:
        rows.append(_part(model, span_id(attempt.call, attempt.attempt, "reader"), "reading", CALLER_HOP, start + since, unread))
    return rows


def _part(beside: SpanFact, span: str, name: str, hop: str, start_us: int, duration_us: int) -> SpanFact:
    """A stretch of the same call that somebody else owns."""
    return SpanFact(
        trace=beside.trace,
        span=span,
        parent=span_id(beside.call),
        name=name,
        start_wall_us=start_us,
        duration_us=duration_us,
        call=beside.call,
        gateway=beside.gateway,
        at_wall_us=start_us,
        service=SERVICE,
        hop=hop,
        tenant=beside.tenant,
    )


def _unread(attempt: AttemptFact, answered: int, end: int) -> tuple[int, int]:
    """Microseconds from its start to the first blocked write after the answer had come, and how long such writes were blocked in all."""
    if not attempt.blocked_times:
        return 0, 0
    try:
        instants = decode(attempt.blocked_times)
    except ValueError:  # of a gateway whose layout is not known here
        return 0, 0
    after = [
        (max(since, answered), min(until, end))
        for since, until in zip(instants[::2], instants[1::2], strict=False)
        if until > answered
    ]
    return (after[0][0], max(0, sum(until - since for since, until in after))) if after else (0, 0)


def _status(outcome: str) -> str:
    return ERROR if outcome in FAILED else ""


def _us(ms: float) -> int:
    return max(0, round(ms * _US_PER_MS))
