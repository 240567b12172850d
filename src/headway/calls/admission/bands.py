"""Prompt sizes by name: the one place that says where a band begins. Evidence is told by band, and never pooled over bands unsaid.

Tokens are those that the engine has to read: of the prompt, without what its prefix cache held.
"""

import msgspec


class Band(msgspec.Struct, frozen=True, kw_only=True):
    """Prompts of ``tokens_from`` uncached tokens and more, up to where the next band begins."""

    name: str
    tokens_from: int


BANDS = (
    Band(name="short", tokens_from=0),
    Band(name="medium", tokens_from=512),
    Band(name="long", tokens_from=2_048),
    Band(name="giant", tokens_from=8_192),
)
UNKNOWN = "unknown"
"""Of a call whose prompt nobody counted."""
GIANT_TOKENS = BANDS[-1].tokens_from


def band_of(uncached_tokens: int | None) -> str:
    """The band's name."""
    if uncached_tokens is None:
        return UNKNOWN
    return next((band.name for band in reversed(BANDS) if uncached_tokens >= band.tokens_from), BANDS[0].name)


def band_words(name: str) -> str:
    """``512 to 2,047 tokens``: for people."""
    for i, band in enumerate(BANDS):
        if band.name == name:
            upper = f" to {BANDS[i + 1].tokens_from - 1:,}" if i + 1 < len(BANDS) else " and more"
            return f"{band.tokens_from:,}{upper} uncached prompt tokens"
    return "prompt tokens not known"
