"""Where one call's time went, in parts that add up to it exactly.

    tool | reader  attempts  queue  connect | provider | decode  stall  reader | close  reader
         ^ arrival                          ^ sent     ^ first token           ^ last token    ^ last byte

``reader`` before the sending is the rest of the request, which the caller still sent. Only ``attempts``, ``queue`` and ``connect`` may be mixed in time: an earlier attempt queues too. What lies before the sending and is neither an
attempt nor the connection is our own doing, and therefore queue. Without a first token, all after the sending is the provider's.

PH-1, zero error. Every part but the last is rounded down to 1/1024 ms, so that all are whole multiples of it and floats add them without
rounding; ``close`` is what is left of the call's own float. Hence the parts, added in any order, are ``duration_ms`` to the last bit.
"""

from itertools import pairwise
from math import floor, isfinite

from headway.calls.phases.gaps import gaps_of, overlap_ms
from headway.calls.phases.model import Phase, Seen, Split

QUANTA_PER_MS = 1024.0
MS_MAX = 2.0**36
"""Two years: what is longer, negative or no number at all is no time that a call took, and counts as the nearest that is."""


def split(seen: Seen) -> Split:
    """Total: any ``Seen`` has a split, whatever its clocks say; instants out of order are moved to their neighbours."""
    duration = _sane(seen.duration_ms)
    tool = _quantum(_sane(seen.tool_ms))
    end = _quantum(duration)
    attempts = min(_quantum(_sane(seen.attempts_ms)), end)
    connect = min(_quantum(_sane(seen.connect_ms or 0.0)), end - attempts)
    before = attempts + connect + _quantum(_sane(seen.queue_ms))
    sent = min(max(_quantum(_sane(seen.sent_ms)), before), end)
    received = min(_quantum(_sane(seen.received_ms)), max(sent - before, 0.0))
    first = end if seen.first_token_ms is None else _between(sent, seen.first_token_ms, end)
    last = _between(first, seen.last_token_ms, end) if seen.last_token_ms is not None and seen.first_token_ms is not None else first
    waited, decoding, closing = _reader(seen, (sent, first, last, end))
    stalled = gaps_of(seen).stalled_ms if seen.token_ms else seen.stalled_ms or 0.0
    stall = min(_quantum(_sane(stalled)), last - first - decoding)
    parts = {
        Phase.ATTEMPTS.value: attempts,
        Phase.QUEUE.value: sent - attempts - connect - received,
        Phase.CONNECT.value: connect,
        Phase.PROVIDER.value: first - sent - waited,
        Phase.DECODE.value: last - first - decoding - stall,
        Phase.STALL.value: stall,
        Phase.TOOL.value: tool,
        Phase.READER.value: received + waited + decoding + closing,
    }
    total = tool + duration
    parts[Phase.CLOSE.value] = total - sum(parts.values())
    return Split(call=seen.call, duration_ms=total, parts_ms=parts)


def _reader(seen: Seen, edges: tuple[float, float, float, float]) -> list[float]:
    """Blocked writes within [sent, first], [first, last] and [last, end]. Where only their sum is known, it is taken from the decode, then the close."""
    if seen.blocked_at_ms:
        spans = [(_quantum(_sane(since)), _quantum(_sane(until))) for since, until in seen.blocked_at_ms]
        return [overlap_ms(spans, begin, until) for begin, until in pairwise(edges)]
    _, first, last, end = edges
    blocked = min(_quantum(_sane(seen.blocked_ms)), end - first)
    decoding = min(blocked, last - first)
    return [0.0, decoding, blocked - decoding]


def _between(low: float, value_ms: float, high: float) -> float:
    return min(max(_quantum(_sane(value_ms)), low), high)


def _sane(ms: float) -> float:
    return min(max(ms, 0.0), MS_MAX) if isfinite(ms) else 0.0


def _quantum(ms: float) -> float:
    return floor(ms * QUANTA_PER_MS) / QUANTA_PER_MS
