"""Reasoning between dialects: how much of it, and what must travel back unchanged.

How much. Anthropic counts a budget in tokens, OpenAI names an effort. The table below is ours; providers publish none:

    effort -> budget (tokens)     minimal 1,024   low 2,048   medium 8,192   high 16,384   xhigh, max 32,768
    budget -> effort              up to 4,096 low   up to 12,288 medium   above high   (the three that every reasoning model takes)

What travels back. Anthropic signs its thinking, OpenAI encrypts its reasoning items; either must return byte for byte in the next
turn. A caller of the other dialect has one opaque field for it (``signature``, ``encrypted_content``), so we put the value there
behind a mark that says whose it is, and take it out again when the turn comes back. Without the mark one provider would be
handed the other's secret and refuse the call.
"""

from headway.calls.conversation import Thinking

BUDGET_OF_EFFORT: dict[str, int] = {
    "minimal": 1_024,
    "low": 2_048,
    "medium": 8_192,
    "high": 16_384,
    "xhigh": 32_768,
    "max": 32_768,
}
BUDGET_TOKENS_MIN = 1_024
"""Anthropic refuses a smaller thinking budget."""

_EFFORT_UP_TO: tuple[tuple[int, str], ...] = ((4_096, "low"), (12_288, "medium"))

_MARK = "headway.v1."
_SIGNATURE = _MARK + "anthropic-signature."
_REDACTED = _MARK + "anthropic-redacted."
_ITEM = _MARK + "openai-item."


def effort_of(budget_tokens: int) -> str:
    return next((effort for upto, effort in _EFFORT_UP_TO if budget_tokens <= upto), "high")


def budget_of(effort: str) -> int:
    """Tokens for an effort; an effort that we do not know counts as medium."""
    return BUDGET_OF_EFFORT.get(effort, BUDGET_OF_EFFORT["medium"])


def is_redacted(part: Thinking) -> bool:
    """Anthropic's redacted thinking: encrypted, and without the item id that OpenAI's always has."""
    return bool(part.encrypted) and not part.id and not part.signature


def signature_for_anthropic_caller(part: Thinking) -> str:
    """What an Anthropic caller is given as ``signature``: the real one, or an OpenAI item behind our mark."""
    if part.signature or not part.encrypted:
        return part.signature
    return f"{_ITEM}{part.id}.{part.encrypted}"


def encrypted_for_openai_caller(part: Thinking) -> str:
    """What a Responses caller is given as ``encrypted_content``."""
    if part.signature:
        return _SIGNATURE + part.signature
    return _REDACTED + part.encrypted if is_redacted(part) else part.encrypted


def opened(*, text: str, signature: str = "", encrypted: str = "", id: str = "") -> Thinking:
    """A thinking part as a caller sent it back, with what is behind our mark put where it belongs."""
    if signature.startswith(_ITEM):
        item, _, sealed = signature[len(_ITEM) :].partition(".")
        return Thinking(text=text, id=item, encrypted=sealed)
    if encrypted.startswith(_SIGNATURE):
        return Thinking(text=text, signature=encrypted[len(_SIGNATURE) :])
    if encrypted.startswith(_REDACTED):
        return Thinking(text=text, encrypted=encrypted[len(_REDACTED) :])
    return Thinking(text=text, signature=signature, encrypted=encrypted, id=id)
