"""The beginning of a Messages request as a request of its own: what warms an engine's prompt cache piece by piece."""

import msgspec

from headway.gateway.dialects import scan
from headway.gateway.dialects.cutting import Piece, cut_text, keep_whole, replaced
from headway.gateway.dialects.reading import Fields
from headway.kernel.errors import BadRequest

_PROMPT_BEFORE = ("tools", "system")
_NOT_ALONE = ("stream", "thinking")
"""A prefix is not streamed; and thinking wants more tokens than the one that a prefix may make."""


def prefix(body: bytes, upto_tokens: int, bytes_per_token: float) -> bytes:
    """Cut inside the last text that fits, so that the last turn is the user's and each tool use keeps its result. Else byte-equal."""
    found = scan.spans(body)
    budget = int(upto_tokens * bytes_per_token) - scan.bytes_of(found, _PROMPT_BEFORE)
    messages = _cut(Fields.parse(body).need("messages", list[msgspec.Raw]), max(budget, 1))
    members = {"messages": msgspec.json.encode(messages), "max_tokens": b"1"}
    edits = [*scan.set_members(body, found, members)]
    shorter = scan.splice(body, edits)
    return scan.splice(shorter, scan.remove(shorter, scan.spans(shorter), _NOT_ALONE))


def _cut(messages: list[msgspec.Raw], budget: int) -> list[msgspec.Raw]:
    kept, over = keep_whole(messages, budget)
    if over is None:
        return kept
    raw, left = over
    if (last := _cut_message(Fields.parse(raw), left)) is not None:
        return [*kept, last]
    while kept and Fields.parse(kept[-1]).text("role") != "user":
        kept.pop()
    return kept or [_first(messages)]


def _first(messages: list[msgspec.Raw]) -> msgspec.Raw:
    """The budget holds no turn at all: the first user turn with one character."""
    for raw in messages:
        if (message := _cut_message(Fields.parse(raw), 1)) is not None:
            return message
    raise BadRequest("There is no text of the user in the prompt to cut.", param="messages")


def _cut_message(message: Fields, budget: int) -> msgspec.Raw | None:
    """A user turn of about ``budget`` bytes; None for another turn, or when none of its text fits."""
    if message.text("role") != "user":
        return None
    if message.is_text("content"):
        content: object = cut_text(message.text("content"), budget)
    elif not (content := _cut_blocks(message.need("content", list[msgspec.Raw]), budget)):
        return None
    return msgspec.Raw(msgspec.json.encode(replaced(message, content=content)))


def _cut_blocks(blocks: list[msgspec.Raw], budget: int) -> list[Piece]:
    """Whole blocks, then one cut inside its text. Results that no longer fit stay as empty ones: their tool use was kept."""
    whole, over = keep_whole(blocks, budget)
    kept: list[Piece] = list(whole)
    if over is None:
        return kept
    left = over[1]
    for raw in blocks[len(whole) :]:
        block = Fields.parse(raw)
        kind = block.text("type")
        if kind == "tool_result":
            kept.append(_cut_result(block, left))
        elif kind == "text" and left:
            kept.append(replaced(block, text=cut_text(block.text("text"), left)))
        left = 0
    return kept


def _cut_result(block: Fields, budget: int) -> Piece:
    texts = [block.text("content")] if block.is_text("content") else [b.text("text") for b in block.objects("content")]
    return replaced(block, content=cut_text("".join(texts), budget) if budget else "")
