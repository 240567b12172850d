"""A figure with what is needed to believe it: n, interval, unit, method, hash of its data, age."""

import msgspec


class Figure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One number as the product shows it. ``value`` None means "cannot tell"; then ``method`` says what is missing."""

    value: float | None
    unit: str
    n: int
    method: str
    low: float | None = None
    high: float | None = None
    data_hash: str = ""
    age_s: float = 0.0
    stratum: str = ""


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """What ``headway prove PILLAR --json`` and the benchmarks print."""

    pillar: str
    engine: str
    seed: int
    figures: dict[str, Figure]
    control_alarms: int = 0
    took_s: float = 0.0
