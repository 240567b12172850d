"""When each read of a streamed answer came, in one or two bytes a read: ``AttemptFact.token_times``.

Layout: a version byte, then for each read the ticks of 0.1 ms since the read before (the first: since the attempt started) as a LEB128
varint: one byte below 12.8 ms, two below 1.64 s. Each instant is rounded by itself, so errors do not add up. At most TOKEN_TIMES_MAX reads
are kept; ``AttemptFact.chunks`` says how many there were.
"""

from collections.abc import Sequence

from headway.kernel.instants import MonoNs
from headway.kernel.limits import TOKEN_TIMES_MAX

TICK_US = 100
_TICK_NS = TICK_US * 1000
_VERSION = 1
_SHIFT_MAX = 63


def encode(started: MonoNs, reads: Sequence[int]) -> bytes:
    """``reads`` are monotonic nanoseconds in order. One that lies before its predecessor counts as simultaneous. No reads: no bytes."""
    if not reads:
        return b""
    out = bytearray((_VERSION,))
    append = out.append
    last = 0
    origin = started - _TICK_NS // 2
    for read in reads[:TOKEN_TIMES_MAX]:
        tick = (read - origin) // _TICK_NS
        delta = tick - last
        if delta <= 0:
            append(0)
            continue
        last = tick
        while delta > 127:
            append(delta & 127 | 128)
            delta >>= 7
        append(delta)
    return bytes(out)


def decode(encoded: bytes) -> list[int]:
    """Microseconds from the attempt's start to each read, a multiple of TICK_US. ``ValueError`` when the bytes are not of this layout."""
    if not encoded:
        return []
    if encoded[0] != _VERSION:
        raise ValueError(f"token times of layout {encoded[0]}; this version reads {_VERSION}")
    instants: list[int] = []
    tick = delta = shift = 0
    for byte in encoded[1:]:
        delta |= (byte & 127) << shift
        if byte & 128:
            shift += 7
            if shift > _SHIFT_MAX:
                raise ValueError("token times hold a number that no clock made")
            continue
        tick += delta
        instants.append(tick * TICK_US)
        delta = shift = 0
    if shift:
        raise ValueError("token times end inside a number")
    return instants
