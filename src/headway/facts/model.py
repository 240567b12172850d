"""What a fact is: rows of the tables ``call``, ``attempt``, ``segment``, ``span`` and ``feedback``.

One struct a table, flat, typed columns only: instants in integer wall microseconds or milliseconds, durations in milliseconds, money in
nano-dollars, "not reported" as None. Fields may be added at the end with a default; ``SCHEMA_VERSION`` moves when a meaning changes.
Prompts and answers are never here: they live in ``recording``, only where a feature says so.
"""

import msgspec


class CallFact(msgspec.Struct, frozen=True, kw_only=True, tag="call", tag_field="table"):
    """One call as its caller saw it."""

    call: str
    started_wall_ms: int
    duration_ms: float
    gateway: str
    origin: str = "client"
    parent_call: str = ""
    charged_to: str = ""
    tenant: str = ""
    principal: str = ""
    key: str = ""
    klass: str = ""
    run: str = ""
    step: str = ""
    feature: str = ""
    prompt_ref: str = ""
    """name@version and hash as the caller named it (``x-headway-prompt``)."""
    prefix_hashes: tuple[int, ...] = ()
    dialect: str = ""
    path: str = ""
    wire: str = "bytes"
    stream: bool = False
    requested: str = ""
    """The model name in the caller's body."""
    routed: str = ""
    """provider/model of the attempt that answered or failed last."""
    answered: str = ""
    """The model name in the upstream's answer; empty when it named none."""
    fingerprint: str = ""
    region: str = ""
    outcome: str = "done"
    error_code: str = ""
    error_detail: str = ""
    status: int = 0
    stop: str = ""
    attempts: int = 0
    committed: bool = False
    """A byte of an answer was sent to the caller."""
    first_token_ms: float | None = None
    queue_ms: float = 0.0
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    usage_source: str = "unknown"
    """reported, estimated or unknown."""
    cost_nano_usd: int | None = None
    """None is unknown, not free."""
    cost_source: str = "unknown"
    price_version: str = ""
    charged_nano_usd: int = 0
    """What the budgets were charged: the cost where known, else the reservation."""
    charged_tokens: int = 0
    """What budgets in tokens were charged."""
    leases: tuple[str, ...] = ()
    """Ids of the leased blocks that were charged, for reconciliation after a crash."""
    prompt_bytes: int = 0
    answer_bytes: int = 0
    prompt_tokens_estimate: int | None = None
    lost: tuple[str, ...] = ()
    """What the target's dialect could not carry."""
    config_generation: int = 0
    schema_version: int = 1
    lease_charges: tuple[int, ...] = ()
    """What each of ``leases`` was charged, in the unit of its budget; a call may draw on several blocks."""


class AttemptFact(msgspec.Struct, frozen=True, kw_only=True, tag="attempt", tag_field="table"):
    """One try at one endpoint: who answered, where, and when each phase began."""

    call: str
    attempt: int
    started_wall_ms: int
    gateway: str
    provider: str = ""
    endpoint: str = ""
    upstream_model: str = ""
    answered: str = ""
    fingerprint: str = ""
    region: str = ""
    upstream_request: str = ""
    status: int = 0
    outcome: str = "done"
    error_code: str = ""
    error_detail: str = ""
    queue_ms: float = 0.0
    connect_ms: float | None = None
    head_ms: float | None = None
    first_token_ms: float | None = None
    last_token_ms: float | None = None
    duration_ms: float = 0.0
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    token_times: bytes = b""
    """Deltas between reads, see ``facts.token_times``: under 4 bytes a chunk."""
    chunks: int = 0
    retry_after_ms: int | None = None
    ratelimit: str = ""
    """The provider's rate-limit headers as ``name=value`` pairs joined by ``;``."""
    schema_version: int = 1


class SegmentFact(msgspec.Struct, frozen=True, kw_only=True, tag="segment", tag_field="table"):
    """A stretch of a call held, released or withdrawn before the caller saw it."""

    call: str
    gateway: str
    at_wall_ms: int
    kind: str
    chunks: int = 0
    bytes: int = 0
    held_ms: float = 0.0
    reason: str = ""
    schema_version: int = 1


class SpanFact(msgspec.Struct, frozen=True, kw_only=True, tag="span", tag_field="table"):
    """A span of a trace: ours or one taken in."""

    trace: str
    span: str
    parent: str = ""
    name: str = ""
    kind: str = ""
    start_wall_us: int = 0
    duration_us: int = 0
    call: str = ""
    status: str = ""
    gateway: str = ""
    schema_version: int = 1


class FeedbackFact(msgspec.Struct, frozen=True, kw_only=True, tag="feedback", tag_field="table"):
    """What the reader did with an answer: accepted, rephrased, reopened, undone, copied or abandoned."""

    call: str
    kind: str
    at_wall_ms: int
    tenant: str = ""
    principal: str = ""
    gateway: str = ""
    run: str = ""
    note: str = ""
    schema_version: int = 1


class RecordingFact(msgspec.Struct, frozen=True, kw_only=True, tag="recording", tag_field="table"):
    """Text of a call whose feature opted in, after redaction, with the day it must be gone."""

    call: str
    feature: str
    tenant: str
    at_wall_ms: int
    keep_until_wall_ms: int
    prompt: str = ""
    answer: str = ""
    truncated: bool = False
    gateway: str = ""
    schema_version: int = 1


Fact = CallFact | AttemptFact | SegmentFact | SpanFact | FeedbackFact | RecordingFact

FEEDBACK_KINDS = ("accepted", "rephrased", "reopened", "undone", "copied", "abandoned")
