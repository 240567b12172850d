"""What providers say of a call, in one form: tokens read anew and from a cache, and what is left of a rate limit.

Every dialect's decoder counts cached tokens into the prompt already (OpenAI reports them so, Anthropic apart). Two things are left to judge: some
deployments always report 0 cached, and some send limits that are none (-1 and 0 on Azure's Responses).
"""

import math
import re
from typing import Final

import msgspec

_PAIR: Final = re.compile(
    r"(?:x-ratelimit-(?P<openai>limit|remaining)-(?P<of>requests|tokens)"
    r"|anthropic-ratelimit-(?P<whose>requests|tokens|input-tokens|output-tokens)-(?P<anthropic>limit|remaining))=(?P<value>[^;]*)"
)


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """None is "not reported", which is not 0."""

    input_tokens: int | None = None
    cached_tokens: int | None = None
    uncached_tokens: int | None = None
    """What had to be read: the whole prompt where nothing is known of a cache."""
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    visible_tokens: int | None = None
    """Output without reasoning, which some providers hide from the stream."""


def tokens(
    input_tokens: int | None,
    cached_tokens: int | None,
    output_tokens: int | None = None,
    reasoning_tokens: int | None = None,
    *,
    reports_cache: bool,
) -> Tokens:
    """``reports_cache``: the route has reported a non-zero at some time, so that its zeros mean something. Counts below 0 are no counts."""
    prompt, output = _count(input_tokens), _count(output_tokens)
    cached, reasoning = _count(cached_tokens), _count(reasoning_tokens)
    if not cached and not reports_cache:
        cached = None
    if cached is not None and prompt is not None:
        cached = min(cached, prompt)
    return Tokens(
        input_tokens=prompt,
        cached_tokens=cached,
        uncached_tokens=None if prompt is None else prompt - (cached or 0),
        output_tokens=output,
        reasoning_tokens=reasoning,
        visible_tokens=None if output is None else max(output - (reasoning or 0), 0),
    )


def remaining_share(ratelimit: str) -> float | None:
    """The least share of an allowance that is left, over requests and tokens, from ``name=value`` pairs joined by ``;``.

    None where no allowance is told. A limit of 0 or less is none, and so is a remaining below 0; a remaining 0 of a true limit is one.
    """
    limits: dict[str, float] = {}
    left: dict[str, float] = {}
    for found in _PAIR.finditer(ratelimit):
        value = _number(found["value"])
        if value is None:
            continue
        kept = limits if (found["openai"] or found["anthropic"]) == "limit" else left
        kept[found["of"] or found["whose"]] = value
    shares = [min(left[name] / limit, 1.0) for name, limit in limits.items() if limit > 0 and left.get(name, -1.0) >= 0]
    return min(shares, default=None)


def _count(value: int | None) -> int | None:
    return value if value is not None and value >= 0 else None


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
