"""A spool segment: bytes to facts and back, without a file or a clock.

    segment = header record* footer?
    header  = b"HWFACTS1" u32 length, msgpack {schema_version, gateway, segment}, u32 crc32 of all before it
    record  = 0xF5 0xF6  u32 row  u32 length  u32 crc32(row, length, payload)  payload (one fact as msgpack)
    footer  = 0xF5 0xF7  u32 rows  u32 0  u32 crc32(rows, 0)

All numbers are big endian. ``row`` counts from 0, so that a gap says how many rows were lost; a segment that was closed in order
ends with a footer, so that a cut tail is counted as well. 0xF5 and above never occur in UTF-8, so text inside a fact cannot be taken for
a record when the reader looks for the next whole one after damage. A row is given out only when its checksum holds.
"""

import re
import struct
import zlib
from collections.abc import Iterator

import msgspec

from headway.facts.model import Fact
from headway.kernel.limits import SPOOL_ROW_BYTES_MAX

SCHEMA_VERSION = 1
MAGIC = b"HWFACTS1"
_RECORD = b"\xf5\xf6"
_FOOTER = b"\xf5\xf7"
_MARK = re.compile(rb"\xf5[\xf6\xf7]")
_FIXED = struct.Struct(">2sIII")
RECORD_OVERHEAD_BYTES = _FIXED.size
_TWO = struct.Struct(">II")
_ONE = struct.Struct(">I")
_HEADER_BYTES_MAX = 4096

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Fact] = msgspec.msgpack.Decoder(Fact)


class SegmentHeader(msgspec.Struct, frozen=True, kw_only=True):
    """Who wrote the segment, and by which version of the fact tables."""

    schema_version: int
    gateway: str
    segment: str


class SegmentContent(msgspec.Struct, frozen=True, kw_only=True):
    """What could be read, and what could not. ``facts`` are in the order in which they were put."""

    facts: tuple[Fact, ...]
    header: SegmentHeader | None
    """None when the header is damaged; the rows behind it are read all the same."""
    closed: bool
    """It ends with a footer: it was closed in order and the count of rows is exact."""
    rows_lost: int
    """Rows known to be missing, from gaps in the row numbers and from the footer."""
    rows_unreadable: int
    """Whole rows with a good checksum that this version cannot read (a newer gateway's table, a wrong type)."""
    bytes_skipped: int
    """Bytes that belong to no whole row."""


def encode_fact(fact: Fact) -> bytes:
    """One fact as msgpack. Raises what msgspec raises when a field cannot be written."""
    return _encoder.encode(fact)


def header_bytes(gateway: str, segment: str) -> bytes:
    """What a segment begins with."""
    body = _encoder.encode(SegmentHeader(schema_version=SCHEMA_VERSION, gateway=gateway, segment=segment))
    head = MAGIC + _ONE.pack(len(body)) + body
    return head + _ONE.pack(zlib.crc32(head))


def record_bytes(row: int, payload: bytes) -> bytes:
    """One framed fact."""
    size = len(payload)
    return _FIXED.pack(_RECORD, row, size, zlib.crc32(payload, zlib.crc32(_TWO.pack(row, size)))) + payload


def footer_bytes(rows: int) -> bytes:
    """What a segment of ``rows`` rows ends with when it is closed in order."""
    return _FIXED.pack(_FOOTER, rows, 0, zlib.crc32(_TWO.pack(rows, 0)))


def read_segment(data: bytes) -> SegmentContent:
    """All whole rows of a segment, whatever happened to the rest. Never raises; wrong bytes are counted, not guessed."""
    header, at = _read_header(data)
    facts: list[Fact] = []
    rows_lost = rows_unreadable = bytes_skipped = expected = 0
    rows_declared: int | None = None
    for skipped, frame in _frames(data, at):
        bytes_skipped += skipped
        if frame is None:
            continue
        row, payload = frame
        if payload is None:
            rows_declared = row
            continue
        rows_lost += max(0, row - expected)
        expected = max(expected, row + 1)
        try:
            facts.append(_decoder.decode(payload))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            rows_unreadable += 1
    if rows_declared is not None:
        rows_lost += max(0, rows_declared - expected)
    return SegmentContent(
        facts=tuple(facts),
        header=header,
        closed=rows_declared is not None,
        rows_lost=rows_lost,
        rows_unreadable=rows_unreadable,
        bytes_skipped=bytes_skipped,
    )


def valid_prefix(data: bytes) -> tuple[int, int, bool]:
    """(bytes, rows, closed) of the longest undamaged beginning: what recovery keeps of a file whose writer was killed.

    Zero bytes when not even the header is whole.
    """
    header, at = _read_header(data)
    if header is None:
        return 0, 0, False
    rows = 0
    while (frame := _frame_at(data, at)) is not None:
        end, row, payload = frame
        if payload is None:
            return end, rows, True
        if row != rows:
            break
        at, rows = end, rows + 1
    return at, rows, False


def _read_header(data: bytes) -> tuple[SegmentHeader | None, int]:
    """The header and where the rows begin; (None, 0) when it is damaged."""
    fixed = len(MAGIC) + _ONE.size
    if len(data) < fixed or not data.startswith(MAGIC):
        return None, 0
    (size,) = _ONE.unpack_from(data, len(MAGIC))
    end = fixed + size
    if size > _HEADER_BYTES_MAX or len(data) < end + _ONE.size:
        return None, 0
    if _ONE.unpack_from(data, end)[0] != zlib.crc32(data[:end]):
        return None, 0
    try:
        return msgspec.msgpack.decode(data[fixed:end], type=SegmentHeader), end + _ONE.size
    except msgspec.MsgspecError:
        return None, 0


def _frame_at(data: bytes, at: int) -> tuple[int, int, bytes | None] | None:
    """(end, row, payload) of the whole frame that begins at ``at``; payload None is the footer; None when there is no whole frame."""
    if len(data) - at < _FIXED.size:
        return None
    mark, row, size, crc = _FIXED.unpack_from(data, at)
    start = at + _FIXED.size
    end = start + size
    if size > SPOOL_ROW_BYTES_MAX or end > len(data) or mark not in (_RECORD, _FOOTER):
        return None
    payload = data[start:end]
    if zlib.crc32(payload, zlib.crc32(data[at + 2 : at + 10])) != crc:
        return None
    if mark == _FOOTER:
        return (end, row, None) if size == 0 else None
    return end, row, payload


def _frames(data: bytes, at: int) -> Iterator[tuple[int, tuple[int, bytes | None] | None]]:
    """(bytes skipped before it, (row, payload)) for each whole frame; the last skip comes with None."""
    good = at
    while True:
        frame = _frame_at(data, at)
        if frame is not None:
            end, row, payload = frame
            yield at - good, (row, payload)
            at = good = end
            continue
        at = _next_mark(data, at + 1)
        if at < 0:
            break
    yield len(data) - good, None


def _next_mark(data: bytes, at: int) -> int:
    """Where the next record or footer may begin; -1 when nowhere."""
    found = _MARK.search(data, at)
    return found.start() if found else -1
