"""Calls as phases see them, made up: a hosted target and one of one's own, with noise from a seed."""

import random
from collections.abc import Iterator
from typing import Any

import msgspec

from headway.calls.phases.history import History
from headway.calls.phases.model import Seen

START_MS = 1_760_000_000_000
STEP_MS = 2_000


class Target:
    """One target's callers. First tokens take 180 ms and 0.4 ms an uncached token, answers 15 ms a token; three tenants whose prompts are mostly cached."""

    def __init__(self, seed: int, hosted: bool = True, noise: float = 0.08) -> None:
        self.rng = random.Random(seed)
        self.hosted, self.noise = hosted, noise
        self.n = 0

    def call(
        self,
        *,
        input_tokens: int | None = None,
        cached_tokens: int | None = -1,
        output_tokens: int | None = None,
        wait_ms: float = 0.0,
        token_ms: float = 15.0,
        total_ms: float | None = None,
        **more: Any,
    ) -> Seen:
        """The next call. ``cached_tokens`` -1: five sixths of it; ``wait_ms`` before its first token; ``total_ms`` stretches or cuts its end to last so long."""
        rng, at_ms = self.rng, START_MS + self.n * STEP_MS
        self.n += 1
        size = input_tokens if input_tokens is not None else round(1_800 * rng.lognormvariate(0, 0.12))
        cached = round(size * 5 / 6) if cached_tokens == -1 else cached_tokens
        output = output_tokens if output_tokens is not None else round(60 * rng.lognormvariate(0, 0.15))
        sent = 1.0 + more.get("queue_ms", 0.3) + more.get("attempts_ms", 0.0) + more.get("connect_ms", 0.0)
        first = sent + (180 + 0.4 * (size - (cached or 0))) * rng.lognormvariate(0, self.noise) + wait_ms
        last = first + token_ms * (output - 1) * rng.lognormvariate(0, 0.03) + more.get("blocked_ms", 0.0)
        end = last + 2.0
        if total_ms is not None:
            last, end = max(last + total_ms - end, first), total_ms
        own: dict[str, Any] = (
            {} if self.hosted else {"address": "10.0.0.1:8000", "engine_waiting": 0, "engine_running": 2, "beside_tokens": 0}
        )
        fields: dict[str, Any] = {
            "call": f"call-{self.n}",
            "at_ms": at_ms,
            "tenant": rng.choice(["acme", "bolt", "crow"]),
            "provider": "p",
            "model": "m",
            "region": "eu" if self.hosted else "",
            "duration_ms": end,
            "queue_ms": 0.3,
            "sent_ms": sent,
            "first_token_ms": first,
            "last_token_ms": last,
            "input_tokens": size,
            "cached_tokens": cached,
            "output_tokens": output,
            "prefix_seen_before_ms": 6_000.0,
            "idle_ms": 6_000.0,
            "hosted": self.hosted,
            **own,
            **more,
        }
        return Seen(**fields)

    def calls(self, count: int, **more: Any) -> Iterator[Seen]:
        for _ in range(count):
            yield self.call(**more)

    def history(self, count: int = 400) -> History:
        history = History()
        for seen in self.calls(count):
            history.learn(seen)
        return history


def learnt(history: History, calls: Iterator[Seen]) -> list[Seen]:
    """The calls, after ``history`` has learnt them."""
    found = list(calls)
    for seen in found:
        history.learn(seen)
    return found


def without(seen: Seen, **fields: Any) -> Seen:
    return msgspec.structs.replace(seen, **fields)
