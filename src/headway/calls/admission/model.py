"""What admission is told at start: shares of tenants, and how each endpoint is to be shared. What it shows: who waits, who runs, who pays.

Tokens are VTC's virtual tokens unless a name says prompt or output: ``prompt_price`` a uncached prompt token, ``output_price`` an output token
(VTC, OSDI 2024, section 3). Instants are monotonic nanoseconds, spans are milliseconds.
"""

import msgspec

POLICIES = ("lanes", "fair", "fcfs", "shortest")
"""Orders by name; each is one file in this folder."""


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """One tenant's part of every endpoint."""

    weight: float = 1.0
    klass: str = "interactive"
    floor_tokens: int = 0
    """Outstanding tokens below which this tenant is served before all tenants at or over their floors."""
    cap_tokens: int | None = None
    """Outstanding tokens that it never passes."""
    budget_tokens_per_day: int | None = None
    on_overrun: str = "demote"
    """What happens to it past its token budget of the day: ``demote`` (served when nobody else waits), ``pause`` (waits until the day
    ends) or ``cut`` (refused, and running streams are cut)."""


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """What fits at once. None learns it from the engine or the provider; where nothing is told, ``requests_max`` alone bounds."""

    requests_max: int = 128
    tokens_max: int | None = None
    """KV tokens: prompt and expected output of everything in flight."""
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    """Hosted: learnt from rate-limit headers and 429s where None."""
    hosted: bool = False


class LongLane(msgspec.Struct, frozen=True, kw_only=True):
    """Prompts over ``prompt_tokens_over`` (uncached) are limited in sum."""

    prompt_tokens_over: int = 2_048
    requests_max: int = 1
    """Long prefills at once."""
    engine_step_share: bool = False
    """The engine has a long-prefill threshold, a priority or a pool of its own for them: prompts are not paced."""


class Pacing(msgspec.Struct, frozen=True, kw_only=True):
    """A long prompt is sent as a growing prefix, so that no piece keeps the engine longer than ``stall_ms``."""

    on: bool = False
    stall_ms: float = 250.0
    piece_tokens_min: int = 32
    piece_tokens_max: int = 2_048
    prefill_tokens_per_s: float = 0.0
    """What is assumed until it was measured; 0 starts with ``piece_tokens_min``."""
    delay_factor_max: float = 2.0
    """The long prompt's own first token comes at most so many times later than its prefill alone would take, beyond which it no longer
    yields to small requests."""


class RunShare(msgspec.Struct, frozen=True, kw_only=True):
    """All children of one run draw on one bucket."""

    concurrency_max: int = 8
    tokens_per_s: float | None = None
    burst_tokens: int = 20_000


class EndpointAdmission(msgspec.Struct, frozen=True, kw_only=True):
    """How one endpoint (a provider's replica) is shared."""

    policy: str = "lanes"
    prompt_price: float = 1.0
    output_price: float = 2.0
    capacity: Capacity = Capacity()
    long: LongLane = LongLane()
    pacing: Pacing = Pacing()
    run: RunShare = RunShare()
    passes_max: int = 8
    """A head request that does not fit is passed so often, or for ``passes_ms_max``; then nothing is back-filled until it fits."""
    passes_ms_max: float = 2_000.0
    age_ms_max: float = 10_000.0
    """After so long a head request cannot be passed within its tenant."""
    queued_max: int = 10_000
    """More are refused with Retry-After."""
    queued_per_tenant_max: int = 2_000
    wait_ms_max: float | None = None
    """A forecast wait longer than this is refused at once, as is one past the call's own deadline."""
    refuse: bool = True


class EngineLoad(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine says of itself (vLLM, SGLang, llama.cpp ``/metrics`` and ``/slots``); None where it does not."""

    running: int | None = None
    waiting: int | None = None
    kv_used_share: float | None = None
    preemptions: int | None = None
    slots: int | None = None
    kv_tokens: int | None = None


class TenantView(msgspec.Struct, frozen=True, kw_only=True):
    """One tenant at one endpoint, now. ``served_tokens`` and ``counter_tokens`` are virtual tokens; the counter is divided by weight."""

    tenant: str
    weight: float
    queued: int
    running: int
    outstanding_tokens: float
    served_tokens: float
    counter_tokens: float
    oldest_wait_ms: float
    demoted: bool = False


class EndpointView(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint, now. submitted = done + queued + running + refused + evicted holds at every tick."""

    endpoint: str
    policy: str
    submitted: int
    queued: int
    running: int
    done: int
    refused: int
    evicted: int
    in_flight_tokens: float
    tokens_max: float | None
    requests_max: float
    long_queued: int
    long_running: int
    paced_pieces: int
    pacing: str
    """``off``, ``idle``, ``on``, or why it stopped: ``cache does not hold``."""
    wait_forecast_ms: float
    wait_forecast_low_ms: float
    wait_forecast_high_ms: float
    shared: str
    """``local``, ``shared``, or ``degraded`` while the shared counters are away."""
    tenants: tuple[TenantView, ...]
    usage_missing: int = 0
    """Calls whose usage never came: their estimate stands."""
    usage_refused: int = 0
    """Usage reports that were negative or came twice: ignored."""
