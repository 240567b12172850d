"""OTLP traces in JSON: ids in hexadecimal, 64-bit numbers as texts or numbers, enumerations as numbers or names.

https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding. One span that cannot be read is counted and the others stay.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from headway.calls.hops.recognise import SERVICE, WANTED, Value
from headway.facts.trace_files.reading import (
    ATTRIBUTE_TRUNCATED,
    ID_MALFORMED,
    KINDS,
    PARENT_MALFORMED,
    SPAN_UNREADABLE,
    Reading,
    Unreadable,
    is_hex,
)
from headway.kernel.limits import TRACE_ATTRIBUTE_CHARS_MAX

_NS_PER_US = 1_000
_TRACE_CHARS, _SPAN_CHARS = 32, 16
_ERRORS: Final = (2, "2", "STATUS_CODE_ERROR")


class _Value(msgspec.Struct, rename="camel"):
    string_value: str | None = None
    bool_value: bool | None = None
    int_value: int | str | None = None
    double_value: float | str | None = None
    array_value: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    kvlist_value: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Pair(msgspec.Struct):
    key: str = ""
    value: _Value | None = None


class _Status(msgspec.Struct):
    code: int | str | None = None


class _Span(msgspec.Struct, rename="camel"):
    trace_id: str | None = None
    span_id: str | None = None
    parent_span_id: str | None = None
    name: str | None = None
    kind: int | str | None = None
    start_time_unix_nano: int | str | None = None
    end_time_unix_nano: int | str | None = None
    attributes: list[_Pair] | None = None
    status: _Status | None = None


class _Scope(msgspec.Struct, rename="camel"):
    spans: list[msgspec.Raw] | None = None


class _Resource(msgspec.Struct):
    attributes: list[_Pair] | None = None


class _ResourceSpans(msgspec.Struct, rename="camel"):
    resource: _Resource | None = None
    scope_spans: list[_Scope] | None = None
    instrumentation_library_spans: list[_Scope] | None = None
    """What scope spans were called before OTLP 0.15."""


class _Request(msgspec.Struct, rename="camel"):
    resource_spans: list[_ResourceSpans] | None = None


_requests = msgspec.json.Decoder(_Request)
_spans = msgspec.json.Decoder(_Span)
_nested = msgspec.json.Decoder(Any)


def read_otlp_json(data: bytes | msgspec.Raw, into: Reading) -> None:
    """One document. ``Unreadable`` when it is none."""
    try:
        request = _requests.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(f"the body is no OTLP document of spans: {error}") from error
    for resource_spans in request.resource_spans or ():
        service = _service(resource_spans.resource)
        for scope in (*(resource_spans.scope_spans or ()), *(resource_spans.instrumentation_library_spans or ())):
            for raw in scope.spans or ():
                _take(raw, service, into)


def _service(resource: _Resource | None) -> str:
    pairs = (resource.attributes if resource is not None else None) or ()
    return next((pair.value.string_value or "" for pair in pairs if pair.key == SERVICE and pair.value is not None), "")


def _take(raw: msgspec.Raw, service: str, into: Reading) -> None:
    try:
        span = _spans.decode(raw)
        start = int(span.start_time_unix_nano or 0) // _NS_PER_US
        end = int(span.end_time_unix_nano or 0) // _NS_PER_US
        attributes = _attributes(span.attributes or (), into)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        into.refused[SPAN_UNREADABLE] += 1
        return
    trace, own, parent = (span.trace_id or "").lower(), (span.span_id or "").lower(), (span.parent_span_id or "").lower()
    if not is_hex(trace, _TRACE_CHARS) or not is_hex(own, _SPAN_CHARS):
        into.refused[ID_MALFORMED] += 1
        return
    if parent.strip("0") and not is_hex(parent, _SPAN_CHARS):
        into.mended[PARENT_MALFORMED] += 1
        parent = ""
    into.take(
        trace=trace,
        span=own,
        parent=parent if parent.strip("0") else "",
        service=service,
        name=span.name or "",
        kind=_kind(span.kind),
        start_us=start,
        duration_us=end - start,
        attributes=attributes,
        error=span.status is not None and span.status.code in _ERRORS,
    )


def _kind(kind: int | str | None) -> str:
    if isinstance(kind, str):
        word = kind.removeprefix("SPAN_KIND_").lower()
        return word if word in KINDS else ""
    return KINDS[kind] if kind is not None and 0 <= kind < len(KINDS) else ""


def _attributes(pairs: Sequence[_Pair], into: Reading) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for pair in pairs:
        value = pair.value
        if value is None:
            continue
        if pair.key in WANTED:
            into.put(found, pair.key, _single(value))
        elif value.string_value is not None and len(value.string_value) > TRACE_ATTRIBUTE_CHARS_MAX:
            into.mended[ATTRIBUTE_TRUNCATED] += 1
    return found


def _single(value: _Value) -> Value | None:
    """A single value as it is; lists and maps as the JSON that they come in, whose single values are the same."""
    if value.string_value is not None:
        return value.string_value
    if value.bool_value is not None:
        return value.bool_value
    if value.int_value is not None:
        try:
            return int(value.int_value)
        except ValueError:
            return None
    if value.double_value is not None:
        return value.double_value
    nested = value.array_value if value.array_value is not msgspec.UNSET else value.kvlist_value
    return None if nested is msgspec.UNSET else msgspec.json.encode(_plain(_nested.decode(nested))).decode()


def _plain(value: object) -> object:
    """``{"values": [{"key": "a", "value": {"stringValue": "b"}}]}`` as ``{"a": "b"}``. The decoder bounds the depth."""
    if not isinstance(value, dict):
        return value
    if isinstance(values := value.get("values"), list):
        if all(isinstance(each, dict) and "key" in each for each in values):
            return {str(each["key"]): _plain(each.get("value")) for each in values}
        return [_plain(each) for each in values]
    return next((_plain(inner) for inner in value.values()), None)
