"""The one range picker: names in the address, lengths and buckets behind them."""

import msgspec

from headway.control.errors import Refused

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000


class Range(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    words: str
    length_ms: int
    bucket_ms: int


RANGES = (
    Range(name="15m", words="quarter of an hour", length_ms=15 * MINUTE_MS, bucket_ms=10_000),
    Range(name="1h", words="hour", length_ms=HOUR_MS, bucket_ms=MINUTE_MS),
    Range(name="24h", words="24 hours", length_ms=DAY_MS, bucket_ms=30 * MINUTE_MS),
    Range(name="7d", words="7 days", length_ms=7 * DAY_MS, bucket_ms=3 * HOUR_MS),
)


def range_named(name: str) -> Range:
    """``Refused`` for a name that is not in the picker."""
    for candidate in RANGES:
        if candidate.name == name:
            return candidate
    raise Refused.bad(f"there is no range {name!r}", f"one of: {', '.join(r.name for r in RANGES)}")
