"""Jaeger's JSON: what its query service answers (``{"data": [trace, ...]}``), one trace, or a list of them.

Ids are hexadecimal without leading zeros, as Jaeger strips them; any other text is kept as it is. Times are microseconds.
"""

from collections.abc import Iterable, Sequence

import msgspec

from headway.calls.hops.recognise import Value
from headway.facts.trace_files.reading import KINDS, SPAN_UNREADABLE, Reading, Unreadable, is_hex

FOLLOWS = "FOLLOWS_FROM"
_TRACE_CHARS, _SPAN_CHARS = 32, 16
_TRUE = (True, "true", "True", 1)


class _Tag(msgspec.Struct):
    key: str = ""
    value: str | int | float | bool | None = None


class _Process(msgspec.Struct, rename="camel"):
    service_name: str | None = None


class _Reference(msgspec.Struct):
    ref_type: str = msgspec.field(name="refType", default="")
    trace: str = msgspec.field(name="traceID", default="")
    span: str = msgspec.field(name="spanID", default="")


class _Span(msgspec.Struct):
    trace: str = msgspec.field(name="traceID", default="")
    span: str = msgspec.field(name="spanID", default="")
    parent: str | None = msgspec.field(name="parentSpanID", default=None)
    name: str | None = msgspec.field(name="operationName", default=None)
    references: list[_Reference] | None = None
    start: int | float = msgspec.field(name="startTime", default=0)
    duration: int | float = 0
    tags: list[_Tag] | None = None
    process_id: str | None = msgspec.field(name="processID", default=None)
    process: _Process | None = None


class _Trace(msgspec.Struct):
    spans: list[msgspec.Raw] | None = None
    processes: dict[str, _Process] | None = None


class _Answer(msgspec.Struct):
    data: list[_Trace] | None = None


_spans = msgspec.json.Decoder(_Span)
_documents = msgspec.json.Decoder(_Answer)
_traces = msgspec.json.Decoder(_Trace)
_lists = msgspec.json.Decoder(list[_Trace])


def read_jaeger(data: bytes, into: Reading) -> None:
    """One document. ``Unreadable`` when it is none."""
    try:
        traces = _found(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(f"the body is no document of Jaeger's: {error}") from error
    for trace in traces:
        processes = {key: process.service_name or "" for key, process in (trace.processes or {}).items()}
        for raw in trace.spans or ():
            _take(raw, processes, into)


def _found(data: bytes) -> Sequence[_Trace]:
    if data.lstrip()[:1] == b"[":
        return _lists.decode(data)
    answer = _documents.decode(data)
    return answer.data if answer.data is not None else [_traces.decode(data)]


def _take(raw: msgspec.Raw, processes: dict[str, str], into: Reading) -> None:
    try:
        span = _spans.decode(raw)
        start, duration = int(span.start), int(span.duration)
    except (msgspec.MsgspecError, RecursionError, ValueError, OverflowError):
        into.refused[SPAN_UNREADABLE] += 1
        return
    parent, follows = _parent(span)
    attributes = _attributes(span.tags or (), into)
    kind = str(attributes.get("span.kind", "")).lower()
    own = span.process.service_name if span.process is not None else None
    into.take(
        trace=_id(span.trace, _TRACE_CHARS),
        span=_id(span.span, _SPAN_CHARS),
        parent=_id(parent, _SPAN_CHARS),
        service=own or processes.get(span.process_id or "", ""),
        name=span.name or "",
        kind=kind if kind in KINDS else "",
        start_us=start,
        duration_us=duration,
        attributes=attributes,
        awaited=not follows,
        error=attributes.get("error") in _TRUE,
    )


def _parent(span: _Span) -> tuple[str, bool]:
    """The parent's id, and whether the span merely follows from it. A reference into another trace is no parent."""
    here = [reference for reference in span.references or () if reference.trace in ("", span.trace) and reference.span]
    for reference in here:
        if reference.ref_type != FOLLOWS:
            return reference.span, False
    return (here[0].span, True) if here else (span.parent or "", False)


def _attributes(tags: Iterable[_Tag], into: Reading) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for tag in tags:
        into.put(found, tag.key, tag.value)
    return found


def _id(text: str, chars: int) -> str:
    """Lower case with its zeros again; a text that is not hexadecimal as it is; nothing for all zeros."""
    padded = text.lower().zfill(chars)
    if not text or not padded.strip("0"):
        return ""
    return padded if is_hex(padded, chars) else text
