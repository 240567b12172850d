"""One form for all traffic: when a call comes, whose it is, how long its prompt and its answer are."""

from collections.abc import Sequence

import msgspec


class TraceCall(msgspec.Struct, frozen=True, kw_only=True):
    """``at_ns`` counts from the first call. ``blocks`` name whole blocks of the prompt, oldest first, each of ``block_tokens``."""

    at_ns: int
    prompt_tokens: int
    output_tokens: int
    tenant: str = ""
    blocks: tuple[int, ...] = ()
    block_tokens: int = 0


def quantile(values: Sequence[float], share: float) -> float:
    """By linear interpolation between the nearest two. Sorts a copy."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
