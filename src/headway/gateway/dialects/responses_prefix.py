"""The beginning of a Responses request as a request of its own: what warms an engine's prompt cache piece by piece."""

import msgspec

from headway.gateway.dialects import scan
from headway.gateway.dialects.cutting import Piece, cut_text, keep_whole, replaced
from headway.gateway.dialects.reading import Fields
from headway.kernel.errors import BadRequest
from headway.kernel.limits import RESPONSES_MAX_TOKENS_MIN

_PROMPT_BEFORE = ("tools", "instructions")
_NOT_ALONE = ("stream", "stream_options", "background", "background_options")
_ASKED = ("user", "system", "developer")


def prefix(body: bytes, upto_tokens: int, bytes_per_token: float) -> bytes:
    """Cut inside the last text that fits, so that the last item is the caller's and each call keeps its output. Else byte-equal.

    The provider takes no fewer than RESPONSES_MAX_TOKENS_MIN tokens of answer, so that is the maximum; nothing is stored.
    """
    found = scan.spans(body)
    budget = max(int(upto_tokens * bytes_per_token) - scan.bytes_of(found, _PROMPT_BEFORE), 1)
    top = Fields.parse(body)
    cut: object = (
        cut_text(top.text("input"), budget) if top.is_text("input") else _cut(top.need("input", list[msgspec.Raw]), budget)
    )
    members = {
        "input": msgspec.json.encode(cut),
        "max_output_tokens": b"%d" % RESPONSES_MAX_TOKENS_MIN,
        "store": b"false",
    }
    shorter = scan.splice(body, scan.set_members(body, found, members))
    return scan.splice(shorter, scan.remove(shorter, scan.spans(shorter), _NOT_ALONE))


def _cut(items: list[msgspec.Raw], budget: int) -> list[Piece]:
    whole, over = keep_whole(items, budget)
    kept: list[Piece] = list(whole)
    if over is None:
        return kept
    raw, left = over
    item = Fields.parse(raw)
    if item.text("type") == "function_call_output":
        return kept + _cut_outputs(items[len(whole) :], left)
    if (last := _cut_message(item, left)) is not None:
        return [*kept, last]
    while whole and not _is_askers(Fields.parse(whole[-1])):
        whole.pop()
    return list(whole) or [_first(items)]


def _is_askers(item: Fields) -> bool:
    return item.text("type") == "function_call_output" or item.text("role") in _ASKED


def _first(items: list[msgspec.Raw]) -> Piece:
    """The budget holds no item at all: the caller's first message with one character."""
    for raw in items:
        if (message := _cut_message(Fields.parse(raw), 1)) is not None:
            return message
    raise BadRequest("There is no text of the caller in the prompt to cut.", param="input")


def _cut_message(item: Fields, budget: int) -> Piece | None:
    """A message of the caller with about ``budget`` bytes; None for another item, or when none of its text fits."""
    if item.text("role") not in _ASKED:
        return None
    if item.is_text("content"):
        return replaced(item, content=cut_text(item.text("content"), budget))
    whole, over = keep_whole(item.need("content", list[msgspec.Raw]), budget)
    content: list[Piece] = list(whole)
    if over is not None:
        part = Fields.parse(over[0])
        if part.text("type") in ("input_text", "text"):
            content.append(replaced(part, text=cut_text(part.text("text"), over[1])))
    return replaced(item, content=content) if content else None


def _cut_outputs(items: list[msgspec.Raw], budget: int) -> list[Piece]:
    """One output cut inside its text; those right behind it stay as empty ones, since their calls were kept."""
    kept: list[Piece] = []
    for raw in items:
        item = Fields.parse(raw)
        if item.text("type") != "function_call_output":
            break
        text = msgspec.Raw(b'""')
        if not kept:
            whole = item.text("output") if item.is_text("output") else "".join(c.text("text") for c in item.objects("output"))
            text = cut_text(whole, budget)
        kept.append(replaced(item, output=text))
    return kept
