"""OTLP traces in protobuf: the body of a post, or a file of one such message or of several with their lengths before them.

https://opentelemetry.io/docs/specs/otlp/
"""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from headway.calls.hops.recognise import SERVICE, WANTED, Value
from headway.facts.trace_files.reading import ATTRIBUTE_TRUNCATED, ID_MALFORMED, KINDS, PARENT_MALFORMED, Reading, Unreadable
from headway.kernel.limits import TRACE_ATTRIBUTE_CHARS_MAX

_NS_PER_US = 1_000
_TRACE_BYTES, _SPAN_BYTES = 16, 8
_LENGTH_BYTES = 4
_NO_TRACE, _NO_SPAN = bytes(_TRACE_BYTES), bytes(_SPAN_BYTES)
_ERROR = 2


def read_otlp_protobuf(data: bytes, into: Reading) -> None:
    """One message. ``Unreadable`` when it is none."""
    for resource_spans in message_of(data).resource_spans:
        service = ""
        for pair in resource_spans.resource.attributes:
            if pair.key == SERVICE:
                service = pair.value.string_value
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                _take(span, service, into)


def message_of(data: bytes) -> Any:
    """The message. ``Unreadable`` when it is none."""
    try:
        return ExportTraceServiceRequest.FromString(data)
    except (DecodeError, RecursionError) as error:
        raise Unreadable(f"the body is no OTLP message of spans: {error}") from error


def frames(data: bytes) -> Iterator[bytes] | None:
    """Messages with four bytes of length before each, as a collector's file exporter writes them; None when ``data`` is not that."""
    bounds: list[tuple[int, int]] = []
    at = 0
    while at < len(data):
        begin = at + _LENGTH_BYTES
        at = begin + int.from_bytes(data[at:begin], "big")
        if at > len(data) or at == begin:
            return None
        bounds.append((begin, at))
    return (data[begin:end] for begin, end in bounds)


def _take(span: Any, service: str, into: Reading) -> None:
    trace, own, parent = span.trace_id, span.span_id, span.parent_span_id
    if len(trace) != _TRACE_BYTES or len(own) != _SPAN_BYTES or trace == _NO_TRACE or own == _NO_SPAN:
        into.refused[ID_MALFORMED] += 1
        return
    if len(parent) not in (0, _SPAN_BYTES):
        into.mended[PARENT_MALFORMED] += 1
        parent = b""
    start = span.start_time_unix_nano // _NS_PER_US
    kind = span.kind
    into.take(
        trace=trace.hex(),
        span=own.hex(),
        parent="" if parent == _NO_SPAN else parent.hex(),
        service=service,
        name=span.name,
        kind=KINDS[kind] if 0 <= kind < len(KINDS) else "",
        start_us=start,
        duration_us=span.end_time_unix_nano // _NS_PER_US - start,
        attributes=_attributes(span.attributes, into),
        error=span.status.code == _ERROR,
    )


def _attributes(pairs: Iterable[Any], into: Reading) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for pair in pairs:
        key = pair.key
        if key in WANTED:
            into.put(found, key, _value(pair.value))
        elif pair.ByteSize() > TRACE_ATTRIBUTE_CHARS_MAX:
            into.mended[ATTRIBUTE_TRUNCATED] += 1
    return found


def _value(value: Any) -> Value | None:
    """A single value as it is; lists and maps as JSON."""
    which = value.WhichOneof("value")
    if which in ("array_value", "kvlist_value"):
        return msgspec.json.encode(_plain(value)).decode()
    if which is None or which == "bytes_value":
        return None
    single: Value = getattr(value, which)
    return single


def _plain(value: Any) -> object:
    """Protobuf's own bound of nesting (100) bounds the recursion."""
    which = value.WhichOneof("value")
    if which == "array_value":
        return [_plain(each) for each in value.array_value.values]
    if which == "kvlist_value":
        return {pair.key: _plain(pair.value) for pair in value.kvlist_value.values}
    return _value(value)
