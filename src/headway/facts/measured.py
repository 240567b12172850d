"""What control works out of a fact as it stores it, so that the gateway need not: the gaps of an answer as columns that queries can read."""

from collections.abc import Sequence

import msgspec

from headway.calls.phases.gaps import Gaps, gaps_between
from headway.facts.model import AttemptFact, Fact
from headway.facts.token_times import decode

US_PER_MS = 1_000.0


def measured(fact: Fact) -> Fact:
    """The fact with its gap columns; as it is where it has no gaps. Bytes that are no token times count as none."""
    if type(fact) is not AttemptFact or not fact.token_times:
        return fact
    gaps = gaps_of_attempt(fact)
    if not gaps.n and not gaps.stalls:
        return fact
    return msgspec.structs.replace(
        fact,
        gap_p50_ms=gaps.quantile_ms(0.5),
        gap_p99_ms=gaps.quantile_ms(0.99),
        gap_longest_ms=gaps.longest_ms,
        gaps_over_5_medians=gaps.over_medians(5),
        stalls=len(gaps.stalls),
        stalled_ms=gaps.stalled_ms,
    )


def gaps_of_attempt(fact: AttemptFact) -> Gaps:
    """From its first token to its last."""
    if fact.first_token_ms is None or fact.last_token_ms is None:
        return Gaps()
    return gaps_between(reads_ms(fact), fact.first_token_ms, fact.last_token_ms, blocked_at_ms(fact))


def reads_ms(fact: AttemptFact) -> Sequence[float]:
    """From the attempt's start to each read."""
    return [at / US_PER_MS for at in _decoded(fact.token_times)]


def blocked_at_ms(fact: AttemptFact) -> tuple[tuple[float, float], ...]:
    """(from, until) of each blocked write, from the attempt's start."""
    instants = [at / US_PER_MS for at in _decoded(fact.blocked_times)]
    return tuple(zip(instants[::2], instants[1::2], strict=False))


def _decoded(encoded: bytes) -> list[int]:
    try:
        return decode(encoded)
    except ValueError:
        return []
