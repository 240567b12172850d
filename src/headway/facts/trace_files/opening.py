"""A file of traces, whatever it is: the form is told from its first bytes, never from its name."""

import gzip
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from headway.facts.trace_files.columns import MAGIC, read_columns
from headway.facts.trace_files.jaeger import read_jaeger
from headway.facts.trace_files.otlp_json import read_otlp_json
from headway.facts.trace_files.otlp_protobuf import frames, read_otlp_protobuf
from headway.facts.trace_files.reading import BODY_UNREADABLE, Reading, Unreadable
from headway.kernel.limits import TRACE_FILE_BYTES_MAX

FORMS: Final = "OTLP (protobuf or JSON, one document or one a line), Jaeger's JSON, or Parquet with trace, span, parent, service, operation, start_us, dur_us"
_GZIP: Final = b"\x1f\x8b"
_JSON: Final = (b"{", b"[")
_MARK: Final = b"\xef\xbb\xbf"
_LINES_AT_ONCE = 1_000
Say = Callable[[str], None]


class _Keys(msgspec.Struct, rename="camel"):
    """By which keys a JSON document is told."""

    resource_spans: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    spans: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


def read_traces(path: Path, say: Say = lambda _: None, *, bytes_max: int = TRACE_FILE_BYTES_MAX) -> Reading:
    """All spans of a file. ``Unreadable`` when it is absent, too large, or none of ``FORMS``; single bad lines and spans are counted."""
    into = Reading()
    try:
        with path.open("rb") as file:
            head = file.read(4)
        if head == MAGIC:
            read_columns(path, into, say)
        else:
            read_bytes(_content(path, head, bytes_max), into, say)
    except OSError as error:
        raise Unreadable(f"{path} cannot be read: {error.strerror or error}") from error
    except (EOFError, zlib.error) as error:
        raise Unreadable(f"{path} is no whole gzip file: {error}") from error
    return into


def read_bytes(data: bytes, into: Reading, say: Say = lambda _: None) -> None:
    """The same for what was read already, Parquet aside."""
    data = data.removeprefix(_MARK)
    if not data.strip():
        raise Unreadable("there is nothing in it")
    if data.lstrip()[:1] in _JSON:
        _json(data, into, say)
        return
    try:
        for message in frames(data) or (data,):
            read_otlp_protobuf(message, into)
            say(f"{into.spans_in:,} spans read")
    except Unreadable as error:
        raise Unreadable(f"it is none of {FORMS} ({error})") from error


def _content(path: Path, head: bytes, bytes_max: int) -> bytes:
    if head[:2] == _GZIP:
        with gzip.open(path) as packed:
            data = packed.read(bytes_max + 1)
    else:
        data = path.read_bytes() if path.stat().st_size <= bytes_max else bytes(bytes_max + 1)
    if len(data) > bytes_max:
        raise Unreadable(f"{path} holds more than {bytes_max:,} bytes; split it by time")
    return data


def _json(data: bytes, into: Reading, say: Say) -> None:
    """One document, or one a line: the first line tells which. A line that cannot be read is counted."""
    first = data.lstrip().split(b"\n", 1)
    if len(first) == 1 or not first[1].strip() or not _is_document(first[0]):
        _document(data, into)
        return
    for number, line in enumerate(_lines(data)):
        try:
            _document(line, into)
        except Unreadable:
            into.refused[BODY_UNREADABLE] += 1
        if number % _LINES_AT_ONCE == 0:
            say(f"{into.spans_in:,} spans read")
    if not into.spans_in:
        raise Unreadable(f"no line of it is any of {FORMS}")


def _lines(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        end = data.find(b"\n", at)
        end = len(data) if end < 0 else end
        if line := data[at:end].strip():
            yield line
        at = end + 1


def _is_document(line: bytes) -> bool:
    try:
        msgspec.json.decode(line, type=msgspec.Raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _document(data: bytes, into: Reading) -> None:
    if data.lstrip()[:1] == b"[":
        read_jaeger(data, into)
        return
    try:
        keys = msgspec.json.decode(data, type=_Keys)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(f"it is no JSON: {error}") from error
    if keys.resource_spans is not msgspec.UNSET:
        read_otlp_json(data, into)
    elif keys.data is not msgspec.UNSET or keys.spans is not msgspec.UNSET:
        read_jaeger(data, into)
    else:
        raise Unreadable(f"it has neither resourceSpans nor data nor spans; files may be {FORMS}")
