"""A simulated engine of continuous batching: what goes in, how it is set, what comes out.

Instants are nanoseconds of the virtual clock that the caller owns; the engine never reads one. Tokens are tokens.
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """vLLM V1's knobs by their meaning. ``kv_blocks`` None is unbounded memory."""

    step_tokens_max: int = 2_048
    """max_num_batched_tokens."""
    sequences_max: int = 128
    """max_num_seqs."""
    block_tokens: int = 16
    kv_blocks: int | None = None
    prefix_cache: bool = True
    long_prefill_tokens_max: int | None = None
    """long_prefill_token_threshold: at most so many prompt tokens of one request a step."""
    long_prefills_max: int | None = None
    """max_long_partial_prefills: at most so many requests over the threshold prefill at once."""
    chunked_prefill: bool = True
    """False: a prompt is prefilled whole in one step without decodes (S-LoRA's and early TGI's way)."""
    priority: bool = False
    """Order waiting requests by (priority, arrival), and preempt the worst; else first come first served, and preempt the tail."""
    skip_blocked_head: bool = False
    """A waiting request that does not fit is passed by later ones that do."""
    reserve_prompt: bool = False
    """A request is admitted only when its whole prompt fits in free blocks, not only its first chunk (vLLM's scheduler_reserve_full_isl)."""
    reserve_output: bool = False
    """Only when at no later step the running requests and it can need more than memory holds (S-LoRA's and LightLLM's way): nobody is preempted."""
    plan_ahead: bool = False
    """The next step is planned while one runs (vLLM's async scheduling): arrivals and freed room count from the step after the next."""
    decode_steps_between_prefills: int = 0
    """With ``chunked_prefill`` False: at least so many decode steps before the next prefill step (S-LoRA: 10)."""


class EngineRequest(msgspec.Struct, frozen=True, kw_only=True):
    """``blocks`` are hashes of the prompt's whole blocks, oldest first: equal leading hashes share their KV. Empty shares nothing."""

    id: str
    prompt_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()
    priority: int = 0


class EngineEvent(msgspec.Struct, frozen=True, kw_only=True):
    """``kind`` is ``first`` (first token, ends the prefill), ``token``, ``preempted`` or ``finished`` (follows the last token)."""

    at: int
    id: str
    kind: str
    cached_tokens: int = 0
    """Of the prompt, found in the prefix cache: with ``first``."""
    output_tokens: int = 0
    """Produced so far."""


class StepWork(msgspec.Struct, frozen=True, kw_only=True):
    """What one step computes: prefill chunks as (tokens, context before them), decodes as a count and the sum of their contexts."""

    chunks: tuple[tuple[int, int], ...]
    decodes: int
    decode_context: int
    sequences: int
    """That produce a token in this step."""
    decode_context_max: int = 0
    """The longest context among the decodes."""


class StepTime(Protocol):
    """A grade of calibration: table, fit."""

    @property
    def name(self) -> str: ...

    def step_ms(self, work: StepWork) -> float: ...


class RanksStepTime(StepTime, Protocol):
    """For replicas that step together, since their experts are shared: data parallel ranks."""

    def ranks_ms(self, works: Sequence[StepWork]) -> float: ...


class Engine(Protocol):
    """One replica. ``submit`` at any instant; ``step`` runs one iteration from ``now`` and says when it ended and what it produced.

    A driver calls ``step(now)``, sets its clock to ``ended_at``, hands out the events and calls again while ``busy``.
    """

    @property
    def busy(self) -> bool: ...

    @property
    def waiting(self) -> int: ...

    @property
    def running(self) -> int: ...

    def submit(self, request: EngineRequest, now: int) -> None: ...

    def abort(self, request_id: str) -> None: ...

    def step(self, now: int) -> tuple[int, list[EngineEvent]]: ...
