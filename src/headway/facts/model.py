"""What a fact is: rows of the tables ``call``, ``attempt``, ``segment``, ``span`` and ``feedback``.

One struct a table, flat, typed columns only: instants in integer wall microseconds or milliseconds, durations in milliseconds, money in
nano-dollars, "not reported" as None. Fields may be added at the end with a default; ``SCHEMA_VERSION`` moves when a meaning changes.
Prompts and answers are never here: they live in ``recording``, only where a feature says so.
"""

import msgspec


class CallFact(msgspec.Struct, frozen=True, kw_only=True, tag="call", tag_field="table"):
    """One call as its caller saw it."""

    call: str
    """Its id, which sorts by time."""
    started_wall_ms: int
    """When the request had arrived: the read that brought the end of its head."""
    duration_ms: float
    """From arrival to the last byte sent, or to the moment it was given up."""
    gateway: str
    origin: str = "client"
    """Why it exists: client, piece, second_pass, probe, drill, shadow, eval or hedge."""
    parent_call: str = ""
    """The call on whose behalf it was made."""
    charged_to: str = ""
    """The tenant that pays."""
    tenant: str = ""
    principal: str = ""
    """Who asked: a user, a service or a key."""
    key: str = ""
    """Id of the key; never its secret."""
    klass: str = ""
    """Service class, e.g. interactive or batch."""
    run: str = ""
    """Agent run, from ``x-headway-run``."""
    step: str = ""
    """Step of the run, from ``x-headway-step``."""
    feature: str = ""
    """The feature that the requested name resolved to."""
    prompt_ref: str = ""
    """name@version and hash as the caller named it (``x-headway-prompt``)."""
    prefix_hashes: tuple[int, ...] = ()
    """Chained hashes over blocks of the prompt, oldest first: two prompts share as many as they have blocks in common."""
    dialect: str = ""
    """The caller's: openai-chat, openai-responses or anthropic."""
    path: str = ""
    wire: str = "bytes"
    """bytes (spliced), translated or opaque."""
    stream: bool = False
    requested: str = ""
    """The model name in the caller's body."""
    routed: str = ""
    """provider/model of the attempt that answered or failed last."""
    answered: str = ""
    """The model name in the upstream's answer; empty when it named none."""
    fingerprint: str = ""
    """The upstream's system fingerprint."""
    region: str = ""
    """Where it was answered, as far as known."""
    outcome: str = "done"
    """done, refused, evicted, upstream_error, incomplete, timeout, client_gone or internal."""
    error_code: str = ""
    """Stable code of the refusal or failure."""
    error_detail: str = ""
    """Its text, scrubbed."""
    status: int = 0
    """HTTP status sent to the caller."""
    stop: str = ""
    """Why the model stopped."""
    attempts: int = 0
    committed: bool = False
    """A byte of an answer was sent to the caller."""
    first_token_ms: float | None = None
    """From arrival to the first token."""
    queue_ms: float = 0.0
    """Waiting for admission, over all attempts."""
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    """Input tokens read from the provider's cache."""
    cache_write_tokens: int | None = None
    """Input tokens written to it."""
    reasoning_tokens: int | None = None
    usage_source: str = "unknown"
    """reported, estimated or unknown."""
    cost_nano_usd: int | None = None
    """None is unknown, not free."""
    cost_source: str = "unknown"
    """How the cost was found."""
    price_version: str = ""
    """The price table in force."""
    charged_nano_usd: int = 0
    """What budgets in money were charged: the cost where known, else the reservation; 0 where none holds for the call."""
    charged_tokens: int = 0
    """What budgets in tokens were charged; 0 where none holds for the call."""
    leases: tuple[str, ...] = ()
    """Ids of the leased blocks that were charged, for reconciliation after a crash."""
    prompt_bytes: int = 0
    """Size of the request's body."""
    answer_bytes: int = 0
    """Bytes of the answer sent."""
    prompt_tokens_estimate: int | None = None
    """What the gateway expected before it was sent."""
    lost: tuple[str, ...] = ()
    """What the target's dialect could not carry."""
    config_generation: int = 0
    """The configuration in force."""
    schema_version: int = 1
    """Of the gateway that wrote the row."""
    lease_charges: tuple[int, ...] = ()
    """What each of ``leases`` was charged, in the unit of its budget; a call may draw on several blocks."""
    idempotency_key: str = ""
    """The caller's own name for what it tried, the same over its retries (``x-headway-idempotency-key``)."""
    traceparent: str = ""
    """The caller's place in its own trace (W3C Trace Context); spans of the call are sent as its children."""
    replay_of: str = ""
    """The call whose answer was given again, because the caller repeated its name; this one cost nothing."""
    blocked_ms: float = 0.0
    """Our writes were blocked: the caller read slowly."""
    stream_fault: str = ""
    """loop, truncated or silent: a stream that ended as if it were good and was not. Such a call counts as failed."""
    output_tokens_max: int | None = None
    """The most that the caller allowed."""
    received_ms: float = 0.0
    """From arrival to the last byte of the request: its caller still sent it, so it is no time of ours."""


class AttemptFact(msgspec.Struct, frozen=True, kw_only=True, tag="attempt", tag_field="table"):
    """One try at one endpoint: who answered, where, and when each phase began."""

    call: str
    attempt: int
    """From 1."""
    started_wall_ms: int
    gateway: str
    provider: str = ""
    """Name in the configuration."""
    endpoint: str = ""
    """The replica of it."""
    upstream_model: str = ""
    """The model name sent."""
    answered: str = ""
    """The model name in the answer."""
    fingerprint: str = ""
    region: str = ""
    upstream_request: str = ""
    """The provider's own id of the request."""
    status: int = 0
    """HTTP status of the upstream; 0 when none came."""
    outcome: str = "done"
    error_code: str = ""
    error_detail: str = ""
    queue_ms: float = 0.0
    """Waiting for admission at this endpoint."""
    connect_ms: float | None = None
    """From start to a new socket; None when a pooled one was used."""
    head_ms: float | None = None
    """From start to the head of the answer."""
    first_token_ms: float | None = None
    """From start to the first token."""
    last_token_ms: float | None = None
    """From start to the last token."""
    duration_ms: float = 0.0
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    token_times: bytes = b""
    """Deltas between reads, see ``facts.token_times``: under 4 bytes a chunk."""
    chunks: int = 0
    """Reads that held at least one event."""
    retry_after_ms: int | None = None
    """What the upstream asked for."""
    ratelimit: str = ""
    """The provider's rate-limit headers as ``name=value`` pairs joined by ``;``."""
    schema_version: int = 1
    traceparent: str = ""
    """The call's, so that each row can be sent as a span by itself."""
    start_ms: float | None = None
    """From the call's arrival to this attempt's start."""
    sent_ms: float | None = None
    """From start to the request's bytes being handed to the socket; None when nothing was sent."""
    tier: str = ""
    """The provider's service tier, as the answer names it."""
    edge: str = ""
    """The edge city that answered, of ``cf-ray``."""
    address: str = ""
    """The network address that the request went to."""
    upstream_ms: float | None = None
    """What the provider says it took until the head: ``openai-processing-ms`` or ``x-envoy-upstream-service-time``."""
    reasoning_tokens: int | None = None
    blocked_times: bytes = b""
    """When our writes were blocked, as pairs of begin and end in the layout of ``token_times``."""
    stream_fault: str = ""
    """loop, truncated or silent; empty where nothing was wrong."""
    engine_waiting: int | None = None
    """Requests waiting in the engine by its own word, the last one before this was sent; None where it does not say."""
    engine_running: int | None = None
    gap_p50_ms: float | None = None
    """Between reads from the first token to the last, without those in which our own write was blocked; filled in by control."""
    gap_p99_ms: float | None = None
    gap_longest_ms: float | None = None
    gaps_over_5_medians: int | None = None
    stalls: int | None = None
    """Gaps longer than max(5 x running median, 250 ms)."""
    stalled_ms: float | None = None
    """Their sum beyond one ordinary gap each."""
    answer_id: str = ""
    """The answer's own id, as the provider names it in the body."""
    answered_ms: float | None = None
    """From start to the read that brought the last byte of the answer; None where it did not come whole. From ``sent_ms`` until then it is the provider's."""


class SegmentFact(msgspec.Struct, frozen=True, kw_only=True, tag="segment", tag_field="table"):
    """A stretch of a call held, released or withdrawn before the caller saw it."""

    call: str
    gateway: str
    at_wall_ms: int
    kind: str
    """held, released or withdrawn."""
    chunks: int = 0
    bytes: int = 0
    held_ms: float = 0.0
    """How long the caller waited for it."""
    reason: str = ""
    schema_version: int = 1


class SpanFact(msgspec.Struct, frozen=True, kw_only=True, tag="span", tag_field="table"):
    """A span of a trace: ours or one taken in."""

    trace: str
    """32 hexadecimal digits."""
    span: str
    """16 hexadecimal digits."""
    parent: str = ""
    name: str = ""
    kind: str = ""
    start_wall_us: int = 0
    duration_us: int = 0
    call: str = ""
    """The call that it belongs to."""
    status: str = ""
    """``error``, or empty."""
    gateway: str = ""
    schema_version: int = 1
    at_wall_us: int = 0
    """By which it is found: its start, or when it came where that is before 2000 or a day in the future."""
    service: str = ""
    """Who told of it."""
    hop: str = ""
    """Who owns its time by its attributes: ``model gpt-5``, ``tool search``; empty is the service."""
    role: str = ""
    """model, embeddings, tool, retrieval, db, queue or person; empty for what is none of them."""
    peer: str = ""
    """Whom a client called, as it names them."""
    awaited: bool = True
    """Its parent waits for it."""
    tenant: str = ""
    input_tokens: int | None = None
    cached_tokens: int | None = None
    inputs: tuple[str, ...] = ()
    """Hashes of the values that it was given."""
    outputs: tuple[str, ...] = ()
    """Hashes of the values that it gave."""


class FeedbackFact(msgspec.Struct, frozen=True, kw_only=True, tag="feedback", tag_field="table"):
    """What the reader did with an answer: accepted, rephrased, reopened, undone, copied or abandoned."""

    call: str
    kind: str
    """accepted, rephrased, reopened, undone, copied or abandoned."""
    at_wall_ms: int
    tenant: str = ""
    principal: str = ""
    """Who said so."""
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
    """Gone from the disk soon after."""
    prompt: str = ""
    answer: str = ""
    truncated: bool = False
    """Text was longer than what is kept."""
    gateway: str = ""
    schema_version: int = 1


Fact = CallFact | AttemptFact | SegmentFact | SpanFact | FeedbackFact | RecordingFact

FEEDBACK_KINDS = ("accepted", "rephrased", "reopened", "undone", "copied", "abandoned")
