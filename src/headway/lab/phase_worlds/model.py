"""Calls of a world as they are asked for, with what will slow them, and as they were seen. Milliseconds of the world's clock, from 0."""

from typing import Final

import msgspec

from headway.calls.phases.model import Cause, Seen

EPOCH_MS: Final = 1_760_000_000_000
"""Wall time of a world's 0."""


class Truth(msgspec.Struct, frozen=True, kw_only=True):
    """What was done to a call, for scoring only. ``ms`` are what each cause was to cost, in the order of ``causes``; none: left alone."""

    causes: tuple[Cause, ...] = ()
    ms: tuple[float, ...] = ()
    strength: float = 0.0


UNTOUCHED: Final = Truth()


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """One call that will be made. ``prefix_tokens`` it shares with the other calls of ``prefix``, ``tail_tokens`` with none."""

    call: str
    at_ms: float
    tenant: str
    prefix: str
    prefix_tokens: int
    tail_tokens: int
    output_tokens: int
    tool_ms: float = 0.0
    truth: Truth = UNTOUCHED
    hold_ms: float = 0.0
    """We keep it waiting."""
    tries: tuple[tuple[int, float], ...] = ()
    """(status, milliseconds with its back-off) of attempts that did not answer."""
    evicted: bool = False
    """Nothing of its prompt is in the cache any more."""
    pace: float = 1.0
    """Its tokens take so many times as long."""
    blocked_ms: float = 0.0
    """Its caller does not read for so long."""
    route: int = 0
    """0 is the usual one; another is a place of its own."""
    waits_ms: float = 0.0
    """On a longer way, or at a provider behind others that nobody sees."""
    ours: bool = True
    """False: somebody else's call at the same engine, which our gateway never sees."""

    @property
    def prompt_tokens(self) -> int:
        return self.prefix_tokens + self.tail_tokens


class Row(msgspec.Struct, frozen=True):
    """What was seen of a call, and the truth beside it."""

    seen: Seen
    truth: Truth


class Timed(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine did with a call, on the world's clock. ``token_ms`` are the instants of its tokens, the first one included."""

    sent_ms: float
    token_ms: tuple[float, ...]
    cached_tokens: int
    waiting: int | None = None
    running: int | None = None
    remaining_share: float | None = None
