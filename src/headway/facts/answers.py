"""What the named queries ask and answer, as plain values. Loads neither ibis nor DuckDB."""

from typing import Final

import msgspec

from headway.calls.admission.alone import Alone
from headway.facts.model import AttemptFact, CallFact, FeedbackFact, RecordingFact, SegmentFact, SpanFact
from headway.kernel.errors import HeadwayError
from headway.kernel.figure import Figure

ANY = "any"
FAILED = "failed"


class FactsAway(HeadwayError):
    """The facts cannot be read now; ``str()`` says why: too many queries at once, one that took too long, a file that cannot be read."""


class CallQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which calls; empty is all. ``since`` is included, ``until`` is not."""

    tenant: str = ""
    feature: str = ""
    outcome: str = ""
    """An outcome, or ``failed``: any of ``calls.model.FAILED``, or a stream with a fault."""
    model: str = ""
    """Matches requested, routed or answered, in part, in any case."""
    origin: str = "client"
    """An origin, or ``any``."""
    key: str = ""
    run: str = ""
    since_wall_ms: int | None = None
    until_wall_ms: int | None = None
    before: str = ""
    """Calls with a smaller id, which is older: the cursor."""


LATENCY_KEYS: Final = {
    "tenant": "tenant",
    "model": "routed",
    "feature": "feature",
    "klass": "klass",
    "answered": "answered",
    "region": "region",
    "dialect": "dialect",
}
"""What latency can be asked by, and the column of ``call`` behind it."""
LATENCY_MEASURES: Final = ("first_token_ms", "duration_ms", "queue_ms")


class AdmissionQuery(msgspec.Struct, frozen=True, kw_only=True):
    """A range of time in which calls began, ``since`` included, ``until`` not; empty names are all."""

    since_wall_ms: int
    until_wall_ms: int
    endpoint: str = ""
    tenant: str = ""
    origin: str = "client"
    """An origin, or ``any``."""


class CallPage(msgspec.Struct, frozen=True, kw_only=True):
    """Newest first by id. ``next`` is the ``before`` of the following page, empty at the end."""

    calls: tuple[CallFact, ...]
    next: str = ""


class CallStory(msgspec.Struct, frozen=True, kw_only=True):
    """One call with all rows that hang on it."""

    fact: CallFact
    attempts: tuple[AttemptFact, ...] = ()
    segments: tuple[SegmentFact, ...] = ()
    feedback: tuple[FeedbackFact, ...] = ()
    spans: tuple[SpanFact, ...] = ()
    recording: RecordingFact | None = None


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a time series. Quantiles are None where no call of the step had a first token."""

    start_wall_ms: int
    calls: int = 0
    failed: int = 0
    first_token_p50_ms: float | None = None
    first_token_p99_ms: float | None = None
    cost_nano_usd: int = 0


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """What a feature, a tenant, or (``name`` empty) all of them did in the range."""

    name: str
    calls: int
    failed: int
    first_token_p50: Figure
    first_token_p99: Figure
    cost_nano_usd: int
    """Sum of the known costs."""
    cost_unknown: int
    """Calls that were sent somewhere and whose cost is unknown, and therefore not in the sum."""
    input_tokens: int
    output_tokens: int
    series: tuple[Bucket, ...] = ()


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """A range in one look: calls of origin client."""

    since_wall_ms: int
    until_wall_ms: int
    bucket_ms: int
    newest_wall_ms: int | None
    """Start of the newest call in the facts: the age of every figure here."""
    total: Group
    features: tuple[Group, ...] = ()
    tenants: tuple[Group, ...] = ()


class Neighbour(msgspec.Struct, frozen=True, kw_only=True):
    """A call that ran beside another, and for how long both ran."""

    fact: CallFact
    overlap_ms: float


class Culprit(msgspec.Struct, frozen=True, kw_only=True):
    """A call that cost another some time, with all that was made on its behalf."""

    call: str
    tenant: str
    klass: str
    uncached_tokens: int | None
    pieces: int
    """Calls made on its behalf within the time looked at."""
    stall_ms: float
    """In all; in the queue, before the first token and between tokens it adds up to it."""
    queue_ms: float = 0.0
    first_token_ms: float = 0.0
    gap_ms: float = 0.0


class Stalled(msgspec.Struct, frozen=True, kw_only=True):
    """What a call lost to others, estimated, most first. ``unexplained_ms`` is laid to nobody; ``expected_ms`` is its first token alone."""

    culprits: tuple[Culprit, ...] = ()
    unexplained_ms: float = 0.0
    alone: Alone | None = None
    expected_ms: float | None = None


class DayCost(msgspec.Struct, frozen=True, kw_only=True):
    """One tenant on one UTC day, all origins: what was paid, not only what clients asked for."""

    tenant: str
    day_wall_ms: int
    calls: int
    cost_nano_usd: int
    cost_unknown: int
    input_tokens: int
    output_tokens: int


class LatencyRow(msgspec.Struct, frozen=True, kw_only=True):
    """One group of calls in one step of time. Quantiles are exact values of the sample, None where ``n`` is too small for them."""

    by: dict[str, str]
    """The group: a value for each key that was asked by."""
    bucket_wall_ms: int
    calls: int
    n: int
    """Calls that have the measure."""
    p50_ms: float | None = None
    p50_low_ms: float | None = None
    p50_high_ms: float | None = None
    p99_ms: float | None = None
    p99_low_ms: float | None = None
    p99_high_ms: float | None = None


class LeaseSum(msgspec.Struct, frozen=True, kw_only=True):
    """What the facts say was drawn from a leased block. ``charged`` is exact for calls that say how they were split among blocks;
    ``unsplit_nano_usd`` and ``unsplit_tokens`` are the whole charges of those that do not, an upper bound."""

    lease: str
    calls: int
    charged: int = 0
    unsplit_calls: int = 0
    unsplit_nano_usd: int = 0
    unsplit_tokens: int = 0
