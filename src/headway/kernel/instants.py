"""Two kinds of time with two names, so that mixing them is a type error.

``MonoNs`` measures intervals and never leaves a process; ``WallMs`` dates things for people and for other
processes. Deadlines travel between processes as remaining milliseconds, leases as the ledger's time.
Only ``gateway``, ``control``, ``sdk``, ``cli`` and ``prove`` may call the functions here; the pure rooms are told the time.
"""

import time
from collections.abc import Callable
from typing import NewType, cast

MonoNs = NewType("MonoNs", int)
"""Nanoseconds of this process' monotonic clock."""

WallMs = NewType("WallMs", int)
"""Milliseconds since 1970-01-01 UTC."""

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000


mono_ns: Callable[[], MonoNs] = cast("Callable[[], MonoNs]", time.monotonic_ns)
"""Now, for intervals. The clock itself: it is read seven times a call."""


def wall_ms() -> WallMs:
    """Now, for calendars."""
    return WallMs(time.time_ns() // NS_PER_MS)


def after_ms(start: MonoNs, ms: float) -> MonoNs:
    """The instant ``ms`` milliseconds after ``start``."""
    return MonoNs(start + int(ms * NS_PER_MS))


def ms_between(start: MonoNs, end: MonoNs) -> float:
    """Milliseconds from ``start`` to ``end``; negative when ``end`` is earlier."""
    return (end - start) / NS_PER_MS
