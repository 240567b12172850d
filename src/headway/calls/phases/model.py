"""One call as phases see it: what was observed, how it splits, what it is compared with, and the verdict. Milliseconds are floats, tokens integers;
None is "not reported", which is never 0."""

from enum import StrEnum

import msgspec


class Phase(StrEnum):
    """What a call's time goes into. They sum to ``Split.duration_ms`` with zero error; ``close`` takes what rounding leaves."""

    ATTEMPTS = "attempts"
    """At targets that did not answer, before the one that did, with the back-off between them; without our own queue there."""
    QUEUE = "queue"
    """Our own: waiting to be admitted, and what else we do before anything is sent."""
    CONNECT = "connect"
    PROVIDER = "provider"
    """Waiting at the provider and prefill, up to the first token: one sum that is exact; its split is inferred."""
    DECODE = "decode"
    STALL = "stall"
    """Gaps in the decode longer than max(5 x running median, 250 ms), without their ordinary part."""
    TOOL = "tool"
    """Between the call before in the same run, which asked for a tool, and this one: it lies before the call's arrival."""
    READER = "reader"
    """The caller's doing: our writes were blocked since it reads slowly, or it still sent its request."""
    CLOSE = "close"


class Cause(StrEnum):
    OWN_QUEUE = "own_queue"
    THROTTLING = "throttling"
    RETRY = "retry"
    LONG_PROMPT = "long_prompt"
    COLD_CACHE = "cold_cache"
    ROUTE_CHANGE = "route_change"
    NEIGHBOUR = "neighbour"
    LONGER_OUTPUT = "longer_output"
    SLOW_DECODE = "slow_decode"
    SLOW_READER = "slow_reader"
    TOOL_WAIT = "tool_wait"
    CANNOT_TELL = "cannot_tell"


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of one call, whoever measured it (facts, lab, real engine). Ground truth of an engine is not here: it is for scoring only."""

    call: str
    at_ms: int
    """Wall milliseconds of its arrival."""
    tenant: str = ""
    provider: str = ""
    model: str = ""
    region: str = ""
    tier: str = ""
    fingerprint: str = ""
    address: str = ""
    edge: str = ""
    duration_ms: float
    """From arrival to the last byte; ``tool_ms`` lies before it."""
    queue_ms: float = 0.0
    connect_ms: float | None = None
    sent_ms: float = 0.0
    """From arrival to the request having been sent by the attempt that answered: queue, earlier attempts and back-off lie before."""
    first_token_ms: float | None = None
    last_token_ms: float | None = None
    token_ms: tuple[float, ...] = ()
    """From arrival to each read that held an event."""
    blocked_ms: float = 0.0
    """Our writes to the caller were blocked."""
    blocked_at_ms: tuple[tuple[float, float], ...] = ()
    """When: (from, until) from arrival, in order. Empty where only the sum is known; then it is taken from the decode."""
    received_ms: float = 0.0
    """From arrival to the last byte of the request."""
    stalled_ms: float | None = None
    """What stalls cost, where the times of reads are left out; else they say it themselves."""
    tool_ms: float = 0.0
    """From the end of the call before in the run, which asked for a tool, to this one's arrival."""
    attempts: int = 1
    attempts_ms: float = 0.0
    """Spent in attempts before the one that answered, with their back-off."""
    throttled_ms: float = 0.0
    """Of that, what a 429/529 and its Retry-After cost."""
    ratelimit_remaining_share: float | None = None
    input_tokens: int | None = None
    cached_tokens: int | None = None
    """None where the route has never reported a non-zero."""
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    prefix_seen_before_ms: float | None = None
    """Since a call with the same leading prefix on the same route; None: never seen."""
    idle_ms: float | None = None
    """Since the tenant's last call on the route."""
    engine_waiting: int | None = None
    """Own engines: requests waiting as it was sent; None where the engine does not say."""
    engine_running: int | None = None
    engine_preempted: int | None = None
    beside_tokens: int | None = None
    """Prompt tokens of other calls that our own gateway had in prefill beside it, until its first token."""
    hosted: bool = False
    """Somebody else's engine: nothing of its queue can be seen."""
    asked: str = ""
    """The model name that was sent; ``model`` is the one that answered. Empty: the same."""
    beside_decode_tokens: int | None = None
    """The same from its first token to its last."""
    probe: bool = False
    """A probe of our own: what it finds says how the route is, whoever else calls."""


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """``parts_ms`` maps every Phase to its milliseconds, from the start of the tool wait, or the call's arrival where there was none, to
    the call's last byte. Added as floats, in any order, they are ``duration_ms`` exactly: see ``split.py``."""

    call: str
    duration_ms: float
    """The tool wait before the call and the call."""
    parts_ms: dict[str, float]


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """A sentence's worth: what was seen, against what it was held."""

    what: str
    value: float | None = None
    usual: float | None = None
    unit: str = ""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Why a call was slow. ``explained_ms`` of ``excess_ms``; ``cannot_tell`` names what is missing instead of guessing."""

    call: str
    slow: bool
    cause: Cause | None
    """None for a call that is not slow."""
    excess_ms: float = 0.0
    explained_ms: float = 0.0
    expected_ms: float = 0.0
    evidence: tuple[Evidence, ...] = ()
    second: Cause | None = None
    missing: tuple[str, ...] = ()
    n_baseline: int = 0
