"""The text of a stream that passes, for ``stream_health``: kept a moment as bytes, then searched for its text in one go.

A chunk costs one append; a batch one search in C and one unescape. Nothing of the text outlives the window that ``StreamHealth`` keeps.
"""

import re
from types import MappingProxyType
from typing import Final

import msgspec

from headway.calls.conversation import DialectName
from headway.calls.phases.stream_health import StreamHealth

_TEXT: Final = msgspec.json.Decoder(str)
CHUNKS_AT_ONCE = 32
CHUNK_BYTES_ALONE = 4_096
"""A read of this size is searched at once, so that no more than CHUNKS_AT_ONCE times it is ever kept."""
_STRING: Final = rb'":[ ]?"([^"\\]*(?:\\.[^"\\]*)*)"'
_SAID: Final = MappingProxyType(
    {
        DialectName.OPENAI_CHAT: re.compile(rb"content" + _STRING),  # reasoning_content ends with it too
        DialectName.OPENAI_RESPONSES: re.compile(rb'"delta' + _STRING),
        DialectName.ANTHROPIC: re.compile(rb'"(?:text|thinking)' + _STRING),
    }
)


class StreamTap:
    __slots__ = ("_find", "health", "kept")

    def __init__(self, dialect: DialectName) -> None:
        self._find = _SAID[dialect].findall
        self.kept: list[bytes] = []
        """Reads not searched yet; whoever appends calls ``look`` in time."""
        self.health = StreamHealth()

    def look(self) -> None:
        found = b"".join(self._find(b"".join(self.kept)))
        self.kept.clear()
        if found:
            self.health.feed(_unescaped(found))


def _unescaped(text: bytes) -> str:
    try:
        return _TEXT.decode(b'"%b"' % text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return text.decode("utf-8", "replace")  # what is no JSON string repeats itself just as well
