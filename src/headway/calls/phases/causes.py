"""The causes as a table: what each explains, what must hold, what refutes it. None may be named on absence of evidence.

A rule looks at one ``Case`` and answers a ``Claim``, or None where it has nothing to say. Where a signal is absent that it needs, its claim does not
hold, names the signal, and says how much it might have explained.
"""

from collections.abc import Callable
from math import expm1

from headway.calls.phases.claims import Case, Claim, evidence, first_token, held, lacks
from headway.calls.phases.model import Cause, Phase
from headway.calls.phases.neighbours import marked, neighbour, others_slow
from headway.calls.phases.routes import route_change

Rule = Callable[[Case], Claim | None]


def own_queue(case: Case) -> Claim | None:
    """Our own clock; nothing refutes it."""
    waited = case.parts.queue_ms
    if waited <= 0:
        return None
    part = case.parts.split.parts_ms[Phase.QUEUE]
    return held(Cause.OWN_QUEUE, waited, evidence("waited in our own queue", part, part - waited, "ms"))


def throttling(case: Case) -> Claim | None:
    """A 429 or 529 that we saw, or a limit that was nearly used up. A call that succeeded at first was not throttled."""
    seen, parts = case.seen, case.parts
    if parts.throttled_ms > 0:
        told = evidence("lost to refusals for the rate limit, with the wait they asked for", parts.throttled_ms, 0.0, "ms")
        return held(Cause.THROTTLING, parts.throttled_ms, told)
    if not _near_limit(case):
        return None
    limit = evidence("of the provider's limit was left", 100 * (seen.ratelimit_remaining_share or 0.0), None, "%")
    if seen.attempts > 1 and parts.retried_ms > 0:
        return held(Cause.THROTTLING, parts.retried_ms, limit)
    return Claim(
        cause=Cause.THROTTLING, explained_ms=0.0, holds=False, evidence=(limit,), refuted="it succeeded at the first attempt"
    )


def retry(case: Case) -> Claim | None:
    """An attempt before the one that answered, and no limit that explains it."""
    if case.seen.attempts <= 1 or case.parts.retried_ms <= 0:
        return None
    if _near_limit(case) and not case.parts.throttled_ms:
        return None
    spent = evidence("spent in attempts that did not answer", case.parts.retried_ms, 0.0, "ms")
    return held(Cause.RETRY, case.parts.retried_ms, evidence("attempts", float(case.seen.attempts), 1.0), spent)


def long_prompt(case: Case) -> Claim | None:
    """More uncached tokens than the tenant's prompts have. Refuted where the call is as much off when they are counted."""
    parts = case.parts
    if parts.uncached is None:
        if parts.rest_ms <= 0:
            return None
        return lacks(Cause.LONG_PROMPT, parts.rest_ms, "the provider reports no token counts")
    if not parts.prompt_odd:
        return None
    usual = expm1(case.usuals.uncached.median())
    shown = evidence("uncached prompt tokens", parts.uncached - parts.cold_tokens, usual, "tokens")
    left = parts.rest_ms > case.settings.left_share_max * max(parts.excess_ms, 1.0)
    off = left and parts.residual_units > case.settings.unusual_units
    return Claim(
        cause=Cause.LONG_PROMPT,
        explained_ms=parts.prompt_ms,
        holds=parts.prompt_ms > 0 and not off,
        evidence=(shown, first_token(case)),
        refuted="the first token is as late when the prompt's tokens are counted" if off else "",
    )


def cold_cache(case: Case) -> Claim | None:
    """A prompt that is usually cached and was not. Never on a count that nobody reports."""
    seen, parts = case.seen, case.parts
    idle = max(seen.idle_ms or 0.0, seen.prefix_seen_before_ms or 0.0)
    pause = evidence("since the prefix was last asked for", idle, None, "ms")
    if seen.cached_tokens is None:
        might = parts.rest_ms if seen.prefix_seen_before_ms is not None and idle > case.settings.cache_ttl_ms else 0.0
        return lacks(Cause.COLD_CACHE, might, "the provider reports no cached count", pause) if might > 0 else None
    if seen.prefix_seen_before_ms is None and seen.cached_tokens == 0 and parts.prompt_odd:
        return None  # a prompt of another kind: nothing says that it should have been cached
    if parts.cold_tokens <= 0:
        return None
    usual = seen.cached_tokens + parts.cold_tokens
    fewer = evidence("cached prompt tokens", float(seen.cached_tokens), usual, "tokens")
    changed = bool(case.target.changed(seen))
    if seen.hosted and idle <= case.settings.cache_ttl_ms and not changed:
        return lacks(
            Cause.COLD_CACHE,
            parts.cold_ms,
            "nothing says why the cache was cold: the prefix was asked for within its keeping time, on the same route",
            fewer,
        )
    return held(Cause.COLD_CACHE, parts.cold_ms, fewer, pause)


def longer_output(case: Case) -> Claim | None:
    """More tokens than usual at the usual pace."""
    parts, seen = case.parts, case.seen
    if not parts.output_odd or parts.output_ms <= 0:
        return None
    count = float(seen.output_tokens if seen.output_tokens is not None else len(seen.token_ms))
    shown = [evidence("output tokens", count, expm1(case.usuals.output.median()), "tokens")]
    if seen.reasoning_tokens:
        shown.append(evidence("of them reasoning", float(seen.reasoning_tokens), None, "tokens"))
    refuted = "time a token is up" if case.pace_up else ""
    return Claim(
        cause=Cause.LONGER_OUTPUT,
        explained_ms=parts.output_ms,
        holds=not refuted,
        evidence=tuple(shown),
        refuted=refuted,
    )


def slow_decode(case: Case) -> Claim | None:
    """The same tokens at a slower pace, whoever slowed it."""
    parts = case.parts
    if not parts.streamed and case.seen.output_tokens:
        return None
    if not case.pace_up:
        return None
    took = parts.split.parts_ms[Phase.DECODE] + parts.split.parts_ms[Phase.STALL]
    shown = [evidence("from the first token to the last", took, took - parts.pace_ms, "ms")]
    if case.seen.hosted and not marked(case) and others_slow(case):
        missing = "others were slow at the same time, and the provider reports neither region nor fingerprint: a neighbour or a changed route"
        return lacks(Cause.SLOW_DECODE, parts.pace_ms, missing, *shown)
    if stalled := parts.split.parts_ms[Phase.STALL]:
        shown.append(evidence("of it in stalls", stalled, 0.0, "ms"))
    return held(Cause.SLOW_DECODE, parts.pace_ms, *shown)


def slow_reader(case: Case) -> Claim | None:
    """Our own socket's clock."""
    blocked = case.parts.reader_ms
    if blocked <= 0:
        return None
    part = case.parts.split.parts_ms[Phase.READER]
    return held(Cause.SLOW_READER, blocked, evidence("our writes to the caller were blocked", part, part - blocked, "ms"))


def tool_wait(case: Case) -> Claim | None:
    """The gap between two calls of a run."""
    waited = case.parts.tool_ms
    if waited <= 0:
        return None
    part = case.parts.split.parts_ms[Phase.TOOL]
    return held(Cause.TOOL_WAIT, waited, evidence("the run was busy with a tool before this call", part, part - waited, "ms"))


def _near_limit(case: Case) -> bool:
    share = case.seen.ratelimit_remaining_share
    return share is not None and share <= case.settings.ratelimit_near


RULES: dict[Cause, Rule] = {
    Cause.OWN_QUEUE: own_queue,
    Cause.THROTTLING: throttling,
    Cause.RETRY: retry,
    Cause.LONG_PROMPT: long_prompt,
    Cause.COLD_CACHE: cold_cache,
    Cause.ROUTE_CHANGE: route_change,
    Cause.NEIGHBOUR: neighbour,
    Cause.LONGER_OUTPUT: longer_output,
    Cause.SLOW_DECODE: slow_decode,
    Cause.SLOW_READER: slow_reader,
    Cause.TOOL_WAIT: tool_wait,
}
NESTED = frozenset(
    {
        (Cause.ROUTE_CHANGE, Cause.COLD_CACHE),
        (Cause.ROUTE_CHANGE, Cause.SLOW_DECODE),
        (Cause.ROUTE_CHANGE, Cause.NEIGHBOUR),
        (Cause.NEIGHBOUR, Cause.SLOW_DECODE),
    }
)
"""(outer, inner): both may explain the same milliseconds, and the outer one says more. A slower route also queues more."""


def claims_of(case: Case) -> tuple[Claim, ...]:
    """What every rule says of the call, most explained first."""
    found = [claim for rule in RULES.values() if (claim := rule(case)) is not None]
    return tuple(sorted(found, key=lambda claim: -claim.explained_ms))
