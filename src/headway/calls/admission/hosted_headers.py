"""Rate-limit headers of hosted providers, read into one form. What is missing, -1, 0 or no number counts as absent.

OpenAI and Azure: ``x-ratelimit-{limit,remaining,reset}-{requests,tokens}``, reset as a span (``6m0s``, ``12ms``, ``20``).
Anthropic: ``anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{limit,remaining,reset}``, reset as an RFC 3339 instant,
which the response's own ``date`` turns into a span. A remaining 0 beside a limit and a reset is a true one; Azure has sent 0 without them.
"""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

_SPAN = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
_SPAN_S = (3600.0, 60.0, 1.0, 0.001)
_DATE = re.compile(r"\w{3}, (\d{2}) (\w{3}) (\d{4}) (\d{2}):(\d{2}):(\d{2}) GMT")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Told(NamedTuple):
    """One allowance as a head tells it; None is absent."""

    limit: float | None = None
    remaining: float | None = None
    reset_s: float | None = None


class TokensAndRequests(NamedTuple):
    requests: Told
    tokens: Told


def read(headers: Mapping[str, str]) -> TokensAndRequests:
    """``headers`` with lower-case names."""
    if any(name.startswith("anthropic-ratelimit-") for name in headers):
        tokens = _anthropic(headers, "tokens")
        if tokens.limit is None:
            tokens = _together(_anthropic(headers, "input-tokens"), _anthropic(headers, "output-tokens"))
        return TokensAndRequests(_anthropic(headers, "requests"), tokens)
    return TokensAndRequests(_openai(headers, "requests"), _openai(headers, "tokens"))


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds from ``retry-after-ms`` or ``retry-after``; a date or nonsense counts as absent."""
    ms = number(headers.get("retry-after-ms", ""))
    if ms is not None and ms >= 0:
        return ms / 1000
    seconds = number(headers.get("retry-after", ""))
    return seconds if seconds is not None and seconds >= 0 else None


def number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def span_s(text: str) -> float | None:
    """Seconds of ``1h2m3.5s``, ``12ms`` or a bare number of seconds."""
    bare = number(text)
    if bare is not None:
        return bare
    found = _SPAN.fullmatch(text.strip()) if text.strip() else None
    return sum(float(part) * unit for part, unit in zip(found.groups(), _SPAN_S, strict=True) if part) if found else None


def _openai(headers: Mapping[str, str], what: str) -> Told:
    return _told(
        headers.get(f"x-ratelimit-limit-{what}", ""),
        headers.get(f"x-ratelimit-remaining-{what}", ""),
        span_s(headers.get(f"x-ratelimit-reset-{what}", "")),
    )


def _anthropic(headers: Mapping[str, str], what: str) -> Told:
    start = f"anthropic-ratelimit-{what}-"
    return _told(
        headers.get(start + "limit", ""), headers.get(start + "remaining", ""), _until_s(headers.get(start + "reset", ""), headers)
    )


def _together(one: Told, other: Told) -> Told:
    """Input and output tokens as one allowance, where they are told apart only."""
    if one.limit is None or other.limit is None:
        return one if other.limit is None else other
    remaining = None if one.remaining is None or other.remaining is None else one.remaining + other.remaining
    resets = [reset for reset in (one.reset_s, other.reset_s) if reset is not None]
    return Told(one.limit + other.limit, remaining, max(resets) if resets else None)


def _told(limit_text: str, remaining_text: str, reset_s: float | None) -> Told:
    limit, remaining = number(limit_text), number(remaining_text)
    if limit is None or limit <= 0:
        return Told()
    reset_s = reset_s if reset_s is not None and reset_s > 0 else None
    if remaining is not None and (remaining < 0 or remaining > limit or (remaining == 0 and reset_s is None)):
        remaining = None
    return Told(limit, remaining, reset_s)


def _until_s(instant: str, headers: Mapping[str, str]) -> float | None:
    served = _DATE.fullmatch(headers.get("date", ""))
    if not instant or served is None or served[2] not in _MONTHS:
        return None
    try:
        day, year, hour, minute, second = (int(served[i]) for i in (1, 3, 4, 5, 6))
        at = datetime(year, _MONTHS.index(served[2]) + 1, day, hour, minute, second, tzinfo=UTC)
        reset = datetime.fromisoformat(instant)
        return (reset - at).total_seconds() if reset.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None
