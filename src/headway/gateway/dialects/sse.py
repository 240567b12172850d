"""Server-sent events out of any split of bytes: a cutter for bytes that pass, a parser for events that are read, a writer.

Both take CR, LF and CRLF line ends, comments and a BOM; ``id`` and ``retry`` are ignored. Both hold at most one unfinished event of
STREAM_EVENT_BYTES_MAX bytes; a longer one is an UpstreamFailed.
"""

import re

from headway.kernel.errors import UpstreamFailed
from headway.kernel.limits import STREAM_EVENT_BYTES_MAX

Event = tuple[str, bytes]
"""(event type, data). The type is "" where the stream names none; data lines are joined by LF."""

_BOM = b"\xef\xbb\xbf"
_BLANK = re.compile(rb"(?>\r\n|\r|\n)(?>\r\n|\r|\n)")
_DATA_LINE = re.compile(rb"(?:\A|[\r\n])data:")
_LINE_ENDS = b"\r\n"
_SEAM_BYTES = 3
"""The longest blank line, CR LF CR LF, less one: what an earlier read may hold of it."""

_PIECES_MAX = 256
"""Reads kept apart before they are joined: an event that trickles in must not cost an object a byte."""


class Cutter:
    """Cuts reads after the last whole event; the bytes that come out, joined, are the bytes that went in, less a torn tail.

    An event that ends with CR is given out at once: where a LF follows, it comes with the next.
    """

    __slots__ = ("_bytes_max", "_drop_lf", "_fresh", "_pieces", "_seam", "_size", "events", "torn")

    def __init__(self, bytes_max: int = STREAM_EVENT_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._pieces: list[bytes] = []
        self._seam = b""
        self._size = 0
        self._fresh = True
        self._drop_lf = False
        self.events = 0
        """Data lines seen in whole events: one an event with every provider known."""
        self.torn = False
        """After ``finish``: bytes were left that make no event."""

    def feed(self, data: bytes) -> bytes:
        """Whole events of what is held and ``data``; may be empty. UpstreamFailed when an unfinished event grows too long."""
        if not self._pieces and data.endswith(b"\n\n") and b"\r" not in data:
            return self._count(data)
        if self._drop_lf and data:
            self._drop_lf = False
            data = data.removeprefix(b"\n")
        joined = self._seam + data if self._seam else data
        end = _last_blank(joined) - len(self._seam)
        if end <= 0:
            self._keep(data)
            return b""
        whole = b"".join((*self._pieces, data[:end])) if self._pieces else data[:end]
        self._pieces.clear()
        self._size, self._seam = 0, b""
        if end < len(data):
            self._keep(data[end:])
        return self._count(whole)

    def finish(self) -> bytes:
        """The rest, ended properly, when only its blank line is missing; else no more than the line ends that it begins with, and
        ``torn`` says whether bytes were dropped."""
        rest = b"".join(self._pieces)
        self._pieces.clear()
        self._size, self._seam = 0, b""
        event = rest.lstrip(_LINE_ENDS)
        if event.endswith((b"\n", b"\r", b"data: [DONE]")) and _DATA_LINE.search(event):
            return self._count(rest + (b"\n" if rest.endswith(b"\n") else b"\n\n"))
        self.torn = bool(event.strip())
        return self._count(rest[: len(rest) - len(event)])

    def drop_lf(self) -> None:
        """The event given out last is dropped by its reader and ended with CR: a LF that follows belongs to it."""
        self._drop_lf = True
        self._pieces.append(b"")  # so that the next read does not take the short way

    def _keep(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self._bytes_max:
            raise UpstreamFailed(f"The provider sent a stream event of more than {self._bytes_max} bytes.", code="event_too_large")
        self._pieces.append(data)
        if len(self._pieces) > _PIECES_MAX:
            self._pieces = [b"".join(self._pieces)]
        self._seam = (self._seam + data)[-_SEAM_BYTES:]

    def _count(self, whole: bytes) -> bytes:
        seen = whole
        if self._fresh and whole:
            self._fresh = False
            seen = whole.removeprefix(_BOM)
        if b"\r" in seen:
            self.events += len(_DATA_LINE.findall(seen))
        else:
            self.events += seen.count(b"\ndata:") + seen.startswith(b"data:")
        return whole


def _last_blank(data: bytes) -> int:
    """The offset after the last blank line; -1 when there is none."""
    if b"\r" not in data:
        return data.rfind(b"\n\n") + 2 if b"\n\n" in data else -1
    end = -1
    for match in _BLANK.finditer(data):
        end = match.end()
    return end


class Parser:
    """Events one by one, for decoders. ``comments`` counts comment lines, which keep a stream alive and say nothing."""

    __slots__ = ("_cutter", "_fresh", "comments")

    def __init__(self, bytes_max: int = STREAM_EVENT_BYTES_MAX) -> None:
        self._cutter = Cutter(bytes_max)
        self._fresh = True
        self.comments = 0

    def feed(self, data: bytes) -> list[Event]:
        """Events completed by ``data``."""
        return self._parse(self._cutter.feed(data))

    def finish(self) -> list[Event]:
        """The last event, when only its blank line is missing."""
        return self._parse(self._cutter.finish())

    @property
    def torn(self) -> bool:
        """After ``finish``: the stream broke off inside an event."""
        return self._cutter.torn

    def _parse(self, whole: bytes) -> list[Event]:
        if not whole:
            return []
        if self._fresh:
            self._fresh = False
            whole = whole.removeprefix(_BOM)
        found: list[Event] = []
        for block in blocks(whole):
            if block[:1] == b":" or b"\n:" in block:
                self.comments += sum(line.startswith(b":") for line in block.split(b"\n"))
            event = parse_block(block)
            if event is not None:
                found.append(event)
        return found


def blocks(whole: bytes) -> list[bytes]:
    """The blocks of whole events (lines joined by LF, without the blank line): comments and empty ones included."""
    if b"\r" in whole:
        whole = whole.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return [block for block in whole.split(b"\n\n") if block]


def segments(whole: bytes) -> list[bytes]:
    """Whole events apart, each with its own line ends and blank line; joined they are ``whole``."""
    if b"\r" not in whole:
        parts = whole.split(b"\n\n")
        rest = parts.pop()
        found = [part + b"\n\n" for part in parts]
        return [*found, rest] if rest else found
    ends = [match.end() for match in _BLANK.finditer(whole)]
    found = [whole[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    return [*found, whole[ends[-1] :]] if ends and ends[-1] < len(whole) else found or [whole]


def leading_line_ends(segment: bytes) -> bytes:
    """What stands before the event in one of ``segments``: line ends that an earlier read may as well have held."""
    return segment[: len(segment) - len(segment.lstrip(_LINE_ENDS))]


def parse_segment(segment: bytes) -> Event | None:
    """The event in one of ``segments``; None when it has no data."""
    block = segment.lstrip(_LINE_ENDS).removeprefix(_BOM)
    if b"\r" in block:
        block = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return parse_block(block.strip(b"\n"))


def parse_block(block: bytes) -> Event | None:
    """The event in one block with LF line ends; None when it has no data (then no client dispatches it)."""
    if b"\n" not in block:
        return ("", _value(block, 5)) if block.startswith(b"data:") else ("", b"") if block == b"data" else None
    kind, data = "", []
    for line in block.split(b"\n"):
        if line.startswith(b"data:"):
            data.append(_value(line, 5))
        elif line.startswith(b"event:"):
            kind = _value(line, 6).decode(errors="replace")
        elif line == b"data":
            data.append(b"")
        elif line == b"event":
            kind = ""
    return (kind, data[0] if len(data) == 1 else b"\n".join(data)) if data else None


def _value(line: bytes, colon_end: int) -> bytes:
    return line[colon_end + 1 :] if line[colon_end : colon_end + 1] == b" " else line[colon_end:]


def write(data: bytes, event: str = "") -> bytes:
    """One event with one data line; ``data`` holds no line end (compact JSON never does)."""
    if event:
        return b"event: " + event.encode() + b"\ndata: " + data + b"\n\n"
    return b"data: " + data + b"\n\n"
