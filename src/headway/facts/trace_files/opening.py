"""A file of traces, whatever it is: the form is told from its first bytes, never from its name."""

import gzip
import io
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
            head = file.read(len(MAGIC))
        if head == MAGIC:
            read_columns(path, into, say)
        else:
            read_bytes(content(path, head, bytes_max), into, say)
    except OSError as error:
        raise Unreadable(f"{path} cannot be read: {error.strerror or error}") from error
    return into


def read_bytes(data: bytes, into: Reading, say: Say = lambda _: None) -> None:
    """The same for what was read already."""
    if data.startswith(MAGIC):
        read_columns(io.BytesIO(data), into, say)
        return
    data = data.removeprefix(_MARK)
    if not data.strip():
        raise Unreadable("there is nothing in it")
    if is_json(data):
        _read_json(data, into, say)
        return
    try:
        for message in frames(data) or (data,):
            read_otlp_protobuf(message, into)
            say(f"{into.spans_in:,} spans read")
    except Unreadable as error:
        raise Unreadable(f"it is none of {FORMS} ({error})") from error


def content(path: Path, head: bytes, bytes_max: int) -> bytes:
    """All of a file that is no Parquet, unpacked; ``head`` are its first bytes. ``Unreadable`` when it is too large or cut off."""
    if head[: len(_GZIP)] == _GZIP:
        try:
            with gzip.open(path) as packed:
                data = packed.read(bytes_max + 1)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise Unreadable(f"{path} is no whole gzip file: {error}") from error
        size = len(data)
    else:
        size = path.stat().st_size
        data = path.read_bytes() if size <= bytes_max else b""
    if size > bytes_max:
        raise Unreadable(f"{path} holds more than {bytes_max:,} bytes; split it by time")
    return data.removeprefix(_MARK)


def is_json(data: bytes) -> bool:
    """By its first byte that is no blank."""
    return data.lstrip()[:1] in _JSON


def documents(data: bytes) -> Iterator[bytes]:
    """One document, or one a line: the first line tells which."""
    first, _, rest = data.lstrip().partition(b"\n")
    if not rest.strip() or not _is_document(first):
        yield data
        return
    at = 0
    while at < len(data):
        end = data.find(b"\n", at)
        end = len(data) if end < 0 else end
        if line := data[at:end].strip():
            yield line
        at = end + 1


def _read_json(data: bytes, into: Reading, say: Say) -> None:
    """Of many documents one that cannot be read is counted; a single one, or all of them, is an error."""
    good, problem = 0, None
    for number, document in enumerate(documents(data)):
        try:
            _document(document, into)
            good += 1
        except Unreadable as error:
            into.refused[BODY_UNREADABLE] += 1
            problem = problem or error
        if number % _LINES_AT_ONCE == 0:
            say(f"{into.spans_in:,} spans read")
    if not good:
        raise problem or Unreadable(f"it is none of {FORMS}")


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
