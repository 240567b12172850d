"""The beginning of a chat request as a request of its own: what warms an engine's prompt cache piece by piece."""

from headway.gateway.dialects import scan
from headway.gateway.dialects.openai_chat_encode import max_tokens_key
from headway.gateway.dialects.scan import Edit, Span, Spans
from headway.kernel.errors import BadRequest

_PROMPT_BEFORE = ("tools", "functions", "response_format")
_MAXIMA = ("max_tokens", "max_completion_tokens")
_ENDS = (b'"user"', b'"tool"', b'"function"')
"""Roles with which a prompt may end; system text and the assistant's turns are never cut."""


def prefix(body: bytes, prompt_bytes: int) -> bytes:
    """About ``prompt_bytes`` of the prompt, cut inside a text where they end; it makes one token and is not streamed. Else byte-equal.

    BadRequest when no text can be cut there.
    """
    found = scan.spans(body)
    if "messages" not in found:
        raise _nothing_to_cut()
    members = {key: b"1" for key in _MAXIMA if key in found}
    if not members:
        members = {max_tokens_key(scan.read_model(body, found)): b"1"}
    cut = _cut(body, found["messages"], prompt_bytes - scan.bytes_of(found, _PROMPT_BEFORE))
    shorter = scan.splice(body, [*scan.set_members(body, found, members), *cut])
    return scan.splice(shorter, scan.remove(shorter, scan.spans(shorter), ("stream", "stream_options")))


def _cut(body: bytes, messages: Span, budget: int) -> list[Edit]:
    """The first messages that fit, and the beginning of the first that does not; where that one may not be cut, the last that may end
    a prompt. When nothing fits, the first such message with one character."""
    last: Span | None = None
    for span in scan.items(body, messages):
        over = span[1] - span[0] > budget
        inner = scan.spans_of(body, span)
        ends = scan.raw(body, inner, "role") in _ENDS
        if over:
            edits = _cut_message(body, inner, span[0], budget) if ends else None
            if edits is not None:
                return [*edits, (span[1], messages[1] - 1, b"")]
            if last is not None:
                return [(last[1], messages[1] - 1, b"")]
            budget = 0
        else:
            budget -= span[1] - span[0]
            last = span if ends else last
    if last is None:
        raise _nothing_to_cut()
    return []


def _cut_message(body: bytes, inner: Spans, start: int, budget: int) -> list[Edit] | None:
    """Edits that leave about ``budget`` bytes of a message; None when it has no text there."""
    content = inner.get("content")
    if content is None:
        return None
    if _is_text(body, content):
        return [_cut_text(body, content, start + budget)]
    if body[content[0]] != ord("["):
        return None
    kept = 0
    for part in scan.items(body, content):
        members = scan.spans_of(body, part)
        text = members.get("text")
        if part[1] - start <= budget:
            kept = part[1]
        elif text is not None and _is_text(body, text):
            return [_cut_text(body, text, start + budget), (part[1], content[1] - 1, b"")]
        elif kept:
            return [(kept, content[1] - 1, b"")]
    return None


def _is_text(body: bytes, span: Span) -> bool:
    return span[1] - span[0] > 2 and body[span[0]] == ord('"')


def _cut_text(body: bytes, span: Span, upto: int) -> Edit:
    """The text ends at offset ``upto`` of the body, or after its first character."""
    text = body[span[0] : span[1]]
    cut = scan.cut_string(text, upto - span[0] - 1)
    keep_bytes = 1
    while cut == b'""':
        cut = scan.cut_string(text, keep_bytes)
        keep_bytes += 1
    return (*span, cut)


def _nothing_to_cut() -> BadRequest:
    return BadRequest("There is no text in the prompt at which it could be cut.", param="messages")
