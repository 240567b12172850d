"""A file of traces in whole documents that each fit a post, as they stand: nothing is decoded but where documents begin and end."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from headway.facts.trace_files.columns import MAGIC
from headway.facts.trace_files.opening import content, documents, is_json
from headway.facts.trace_files.otlp_protobuf import frames, message_of
from headway.facts.trace_files.reading import Unreadable
from headway.kernel.limits import TRACE_FILE_BYTES_MAX

PART_BYTES: Final = 8 * 1024 * 1024
"""Sent at once, unless one trace or one resource alone is larger."""
OTLP_JSON, OTLP_PROTOBUF, JAEGER = "otlp-json", "otlp-protobuf", "jaeger"


class Part(NamedTuple):
    form: str
    data: bytes


class _Otlp(msgspec.Struct, rename="camel"):
    resource_spans: list[msgspec.Raw] | msgspec.UnsetType = msgspec.UNSET


class _Jaeger(msgspec.Struct):
    data: list[msgspec.Raw] | msgspec.UnsetType | None = msgspec.UNSET


def parts_of(path: Path) -> Iterator[Part]:
    """``Unreadable`` when it is absent, too large or none of the forms that control takes."""
    try:
        with path.open("rb") as file:
            head = file.read(len(MAGIC))
        if head == MAGIC:
            raise Unreadable("Parquet is read by `headway hops attribute` and is not stored")
        data = content(path, head, TRACE_FILE_BYTES_MAX)
    except OSError as error:
        raise Unreadable(f"{path} cannot be read: {error.strerror or error}") from error
    if is_json(data):
        for document in documents(data):
            yield from _split(document)
        return
    for message in frames(data) or (data,):
        message_of(message)  # or control would be asked to read what is none
        yield Part(OTLP_PROTOBUF, message)


def _split(document: bytes) -> Iterator[Part]:
    try:
        if document.lstrip()[:1] == b"[":
            yield from _joined(JAEGER, b"data", msgspec.json.decode(document, type=list[msgspec.Raw]))
            return
        otlp = msgspec.json.decode(document, type=_Otlp)
        if otlp.resource_spans is not msgspec.UNSET:
            yield from _joined(OTLP_JSON, b"resourceSpans", otlp.resource_spans)
            return
        jaeger = msgspec.json.decode(document, type=_Jaeger)
        yield from _joined(JAEGER, b"data", jaeger.data if isinstance(jaeger.data, list) else [msgspec.Raw(document)])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(f"it is no JSON of traces: {error}") from error


def _joined(form: str, key: bytes, pieces: Sequence[msgspec.Raw]) -> Iterator[Part]:
    held: list[bytes] = []
    size = 0
    for piece in pieces:
        data = bytes(piece)
        if held and size + len(data) > PART_BYTES:
            yield Part(form, _document(key, held))
            held, size = [], 0
        held.append(data)
        size += len(data)
    if held:
        yield Part(form, _document(key, held))


def _document(key: bytes, pieces: Sequence[bytes]) -> bytes:
    return b'{"' + key + b'":[' + b",".join(pieces) + b"]}"
