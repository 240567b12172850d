"""Spans and traces as hops are worked out from them. Times are integer microseconds since 1970, so that sums are exact."""

import msgspec


class HopSpan(msgspec.Struct, frozen=True, kw_only=True):
    """One span as it came or as it was mended. ``hop`` is who owns its exclusive time: a service, a model, a tool, a person, Headway."""

    trace: str
    span: str
    parent: str = ""
    """Empty at a root."""
    hop: str
    name: str = ""
    start_us: int
    duration_us: int
    awaited: bool = True
    """False: its parent does not wait for it (a producer, a fire-and-forget call), so it lies on no path."""
    error: bool = False
    is_model: bool = False
    """A call of a language model: what "model = 0 ms" takes away."""
    inputs: tuple[str, ...] = ()
    """Hashes of attribute values that it was given, where known: two siblings that share none with the other's outputs could run together."""
    outputs: tuple[str, ...] = ()

    @property
    def end_us(self) -> int:
        return self.start_us + self.duration_us


class Repair(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was mended or refused, by a named reason: ``skew_shifted``, ``clipped_to_parent``, ``parent_missing``, ``cycle_cut``,
    ``duplicate_id``, ``negative_duration``, ``time_out_of_range``, ``id_malformed``, ``attribute_truncated``, ``retry_sibling``, ``outlives_parent``."""

    reason: str
    count: int


class HopTrace(msgspec.Struct, frozen=True, kw_only=True):
    """A cleaned trace: a tree with one root. ``spans`` in order of start, the root first."""

    trace: str
    request_type: str
    """The root's service and operation, unless told otherwise."""
    spans: tuple[HopSpan, ...]
    tenant: str = ""
    cache_hit: bool | None = None
    prompt_band: str = ""
    repairs: tuple[Repair, ...] = ()

    @property
    def duration_us(self) -> int:
        return self.spans[0].duration_us


class PathPart(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of the critical path that ``span`` owns alone. Parts of a trace are in order, touch each other and sum to the root."""

    span: str
    hop: str
    start_us: int
    duration_us: int
