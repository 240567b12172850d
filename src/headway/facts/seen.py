"""Stored rows as phases see a call: a ``CallFact`` with its attempts becomes one ``Seen``, whichever gateway wrote it.

Rows of older gateways lack the instants between attempts; they are then taken from wall clocks, which are good to a millisecond.
"""

from collections.abc import Sequence
from itertools import pairwise

from headway.calls.conversation import StopReason
from headway.calls.model import Origin
from headway.calls.phases.model import Seen
from headway.calls.phases.usage_facts import remaining_share, tokens
from headway.facts.measured import blocked_at_ms, reads_ms
from headway.facts.model import AttemptFact, CallFact

THROTTLED = frozenset({429, 529})
_NO_ATTEMPT = AttemptFact(call="", attempt=0, started_wall_ms=0, gateway="")


def seen_of(
    call: CallFact,
    attempts: Sequence[AttemptFact],
    *,
    reports_cache: bool = False,
    hosted: bool = False,
    before: CallFact | None = None,
    prefix_seen_before_ms: float | None = None,
    idle_ms: float | None = None,
    beside_tokens: int | None = None,
) -> Seen:
    """``attempts`` of this call in any order; the last is the one that answered, or failed last. ``before``: the call before in the same run.

    ``reports_cache``: the route has reported cached tokens at some time (``seen_queries.cache_routes``); else its 0 is None.
    """
    tries = sorted(attempts, key=lambda each: each.attempt)
    last = tries[-1] if tries else _NO_ATTEMPT
    start = _start_ms(call, last)
    used = tokens(call.input_tokens, call.cached_tokens, call.output_tokens, call.reasoning_tokens, reports_cache=reports_cache)
    connect = _connect_ms(last)
    return Seen(
        call=call.call,
        at_ms=call.started_wall_ms,
        tenant=call.tenant,
        provider=last.provider,
        model=last.answered or last.upstream_model,
        region=last.region,
        tier=last.tier,
        fingerprint=last.fingerprint,
        address=last.address,
        edge=last.edge,
        duration_ms=call.duration_ms,
        queue_ms=call.queue_ms,
        connect_ms=connect,
        sent_ms=_sent_ms(call, last, start, connect),
        first_token_ms=call.first_token_ms,
        last_token_ms=start + last.last_token_ms if last.last_token_ms is not None else None,
        token_ms=tuple(start + at for at in reads_ms(last)),
        blocked_ms=call.blocked_ms,
        blocked_at_ms=tuple((start + since, start + until) for since, until in blocked_at_ms(last)),
        tool_ms=tool_wait_ms(call, before),
        attempts=max(call.attempts, len(tries), 1),
        attempts_ms=_attempts_ms(call, tries),
        throttled_ms=_attempts_ms(call, tries, only=THROTTLED),
        ratelimit_remaining_share=remaining_share(last.ratelimit),
        input_tokens=used.input_tokens,
        cached_tokens=used.cached_tokens,
        output_tokens=used.output_tokens,
        reasoning_tokens=used.reasoning_tokens,
        prefix_seen_before_ms=prefix_seen_before_ms,
        idle_ms=idle_ms,
        engine_waiting=last.engine_waiting,
        engine_running=last.engine_running,
        beside_tokens=beside_tokens,
        hosted=hosted,
        asked=last.upstream_model,
        probe=call.origin == Origin.PROBE,
        stalled_ms=last.stalled_ms,
        received_ms=call.received_ms,
    )


def tool_wait_ms(call: CallFact, before: CallFact | None) -> float:
    """From the end of ``before``, which asked for a tool, to this call; 0 where it is of another run, asked for none or still ran."""
    if before is None or not call.run or before.run != call.run or before.tenant != call.tenant or before.call == call.call:
        return 0.0
    if before.stop != StopReason.TOOL_USE:
        return 0.0
    return max(call.started_wall_ms - (before.started_wall_ms + before.duration_ms), 0.0)


def _attempts_ms(call: CallFact, tries: Sequence[AttemptFact], only: frozenset[int] | None = None) -> float:
    """From each earlier attempt's start to the next one's, back-off included, without our own queue; of those with a status in ``only``."""
    spent = 0.0
    for tried, following in pairwise(tries):
        if only is None or tried.status in only:
            spent += max(_start_ms(call, following) - _start_ms(call, tried) - tried.queue_ms, 0.0)
    return spent


def _start_ms(call: CallFact, tried: AttemptFact) -> float:
    """From the call's arrival to the attempt's start."""
    if tried.start_ms is not None:
        return tried.start_ms
    if call.first_token_ms is not None and tried.first_token_ms is not None and tried.attempt == call.attempts:
        return max(call.first_token_ms - tried.first_token_ms, 0.0)
    return float(max(tried.started_wall_ms - call.started_wall_ms, 0)) if tried.attempt else 0.0


def _connect_ms(tried: AttemptFact) -> float | None:
    """Of the attempt without its queue. One that never connected spent all its time on it."""
    if tried.connect_ms is not None:
        return max(tried.connect_ms - tried.queue_ms, 0.0)
    if tried.error_code.startswith("connect"):
        return max(tried.duration_ms - tried.queue_ms, 0.0)
    return None


def _sent_ms(call: CallFact, tried: AttemptFact, start_ms: float, connect_ms: float | None) -> float:
    """From arrival to the sending; the whole call where nothing was sent."""
    if tried.sent_ms is not None:
        return start_ms + tried.sent_ms
    if not tried.status and tried.first_token_ms is None:
        return call.duration_ms
    return start_ms + tried.queue_ms + (connect_ms or 0.0)
