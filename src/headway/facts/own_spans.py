"""Headway's own calls as spans: what it adds is a hop like any other, its queue another, and each attempt is the model's.

A call that came with a ``traceparent`` is a child in its caller's trace. Calls of one run without one are a trace under a span of the run, whose own
time is what the agent did between them. Ids follow from those of calls and attempts as in ``control/spans.py``: a span that a collector
sends back is the same span.
"""

import hashlib
from collections.abc import Mapping, Sequence

import msgspec

from headway.calls.hops.recognise import MODEL
from headway.calls.hops.seen import SeenSpan
from headway.calls.model import FAILED

SERVICE, QUEUE_HOP, RUN_HOP = "headway", "headway queue", "agent"
_US_PER_MS = 1_000


class OwnCall(msgspec.Struct, frozen=True, kw_only=True):
    """What of a ``CallFact`` a span needs."""

    call: str
    started_wall_ms: int
    duration_ms: float
    tenant: str = ""
    run: str = ""
    feature: str = ""
    requested: str = ""
    path: str = ""
    outcome: str = ""
    traceparent: str = ""


class OwnAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """What of an ``AttemptFact`` a span needs. ``queue_ms`` is a part of ``duration_ms``."""

    call: str
    attempt: int
    started_wall_ms: int
    start_ms: float | None = None
    duration_ms: float = 0.0
    queue_ms: float = 0.0
    upstream_model: str = ""
    outcome: str = ""
    input_tokens: int | None = None
    cached_tokens: int | None = None


def trace_id(call: str) -> str:
    """Of a call that named no trace."""
    return hashlib.blake2b(call.encode(), digest_size=16, person=b"headway.trace").hexdigest()


def span_id(*parts: object) -> str:
    """Of what the span is about: a call, or a call and the number of its attempt."""
    return hashlib.blake2b("\n".join(map(str, parts)).encode(), digest_size=8, person=b"headway.span").hexdigest()


def own_spans(calls: Sequence[OwnCall], attempts: Mapping[str, Sequence[OwnAttempt]]) -> list[SeenSpan]:
    """Spans of ``calls``, ``attempts`` by call."""
    spans: list[SeenSpan] = []
    runs: dict[tuple[str, str], list[OwnCall]] = {}
    for call in calls:
        if call.run and not call.traceparent:
            runs.setdefault((call.tenant, call.run), []).append(call)
        else:
            trace = call.traceparent[3:35] if call.traceparent else trace_id(call.call)
            spans += _call(call, attempts.get(call.call, ()), trace, call.traceparent[36:52])
    for (tenant, run), members in runs.items():
        root = _run(tenant, run, members)
        spans.append(root)
        for call in members:
            spans += _call(call, attempts.get(call.call, ()), root.trace, root.span)
    return spans


def _run(tenant: str, run: str, members: Sequence[OwnCall]) -> SeenSpan:
    """From its first call's start to its last call's end, as far as they lie in the range."""
    start = min(call.started_wall_ms for call in members) * _US_PER_MS
    end = max(_start_us(call) + _us(call.duration_ms) for call in members)
    return SeenSpan(
        trace=trace_id(f"run\n{tenant}\n{run}"),
        span=span_id("run", tenant, run),
        service=RUN_HOP,
        name="run",
        start_us=start,
        duration_us=end - start,
        tenant=tenant,
    )


def _call(call: OwnCall, attempts: Sequence[OwnAttempt], trace: str, parent: str) -> list[SeenSpan]:
    own = SeenSpan(
        trace=trace,
        span=span_id(call.call),
        parent=parent,
        service=SERVICE,
        name=call.feature or call.requested or call.path,
        kind="server",
        start_us=_start_us(call),
        duration_us=_us(call.duration_ms),
        error=call.outcome in FAILED,
        tenant=call.tenant,
    )
    return [own, *(span for attempt in attempts for span in _attempt(call, attempt, own))]


def _attempt(call: OwnCall, attempt: OwnAttempt, own: SeenSpan) -> list[SeenSpan]:
    """Its wait for admission, and what the provider took. Instants count from the call's own clock where they are known."""
    start = attempt.started_wall_ms * _US_PER_MS if attempt.start_ms is None else own.start_us + _us(attempt.start_ms)
    queue = min(_us(attempt.queue_ms), _us(attempt.duration_ms))
    sent = SeenSpan(
        trace=own.trace,
        span=span_id(call.call, attempt.attempt),
        parent=own.span,
        service=SERVICE,
        name=f"attempt {attempt.attempt}",
        kind="client",
        role=MODEL,
        hop=f"{MODEL} {attempt.upstream_model}".strip(),
        start_us=start + queue,
        duration_us=_us(attempt.duration_ms) - queue,
        error=attempt.outcome in FAILED,
        tenant=call.tenant,
        input_tokens=attempt.input_tokens,
        cached_tokens=attempt.cached_tokens,
    )
    if not queue:
        return [sent]
    waited = SeenSpan(
        trace=own.trace,
        span=span_id(call.call, attempt.attempt, "queue"),
        parent=own.span,
        service=SERVICE,
        name="admission",
        hop=QUEUE_HOP,
        start_us=start,
        duration_us=queue,
    )
    return [waited, sent]


def _start_us(call: OwnCall) -> int:
    return call.started_wall_ms * _US_PER_MS


def _us(ms: float) -> int:
    return round(ms * _US_PER_MS)
