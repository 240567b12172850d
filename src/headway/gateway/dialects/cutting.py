"""Cutting a conversation to a number of bytes: what the prefixes of the dialects share."""

from typing import Any

import msgspec

from headway.gateway.dialects.reading import Fields
from headway.gateway.dialects.scan import cut_string, dump

Piece = msgspec.Raw | dict[str, Any]


def keep_whole(pieces: list[msgspec.Raw], budget: int) -> tuple[list[msgspec.Raw], tuple[msgspec.Raw, int] | None]:
    """The first pieces that fit ``budget`` bytes together; then the first that does not, with the bytes left for it."""
    kept: list[msgspec.Raw] = []
    for piece in pieces:
        if len(piece) > budget:
            return kept, (piece, budget)
        kept.append(piece)
        budget -= len(piece)
    return kept, None


def cut_text(text: str, budget: int) -> msgspec.Raw:
    """JSON of the beginning of ``text`` in at most ``budget`` bytes, at a character; at least one character where there is one."""
    cut = cut_string(dump(text), budget)
    return msgspec.Raw(dump(text[:1]) if cut == b'""' else cut)


def replaced(fields: Fields, **values: object) -> Piece:
    """The object with some of its members replaced; the others keep their bytes and order."""
    return {name: values.get(name, fields.raw(name)) for name in fields}
