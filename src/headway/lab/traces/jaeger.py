"""Jaeger's JSON in the shared folder: CRISP's hand-made cases (Zhang et al., ATC 2022; Apache-2.0) and a generated agent's trace (Jaeger UI)."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from headway.calls.hops.model import HopSpan
from headway.lab.traces.reading import DATA_VARIABLE, TraceError, TraceMissing

T = TypeVar("T")
CASES: Final = "crisp_jaeger_test_cases.json.gz"
AGENT: Final = "jaeger_genai_trace.json.gz"
MODEL_OPERATIONS: Final = frozenset({"chat", "text_completion", "generate_content"})


class _Reference(msgspec.Struct, frozen=True, rename="camel"):
    span_id: str = msgspec.field(name="spanID")
    ref_type: str = "CHILD_OF"


class _Tag(msgspec.Struct, frozen=True):
    key: str
    value: Any = None


class _Span(msgspec.Struct, frozen=True, rename="camel"):
    span_id: str = msgspec.field(name="spanID")
    process_id: str = msgspec.field(name="processID")
    operation_name: str
    start_time: int
    duration: int
    references: list[_Reference] = []
    tags: list[_Tag] | None = None


class _Process(msgspec.Struct, frozen=True, rename="camel"):
    service_name: str


class _Trace(msgspec.Struct, frozen=True, rename="camel"):
    spans: list[_Span]
    processes: dict[str, _Process]
    trace_id: str = msgspec.field(name="traceID", default="")


class _Case(msgspec.Struct, frozen=True):
    data: list[_Trace]
    testing: list[dict[str, int]] | dict[str, Any]


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """``expected`` is CRISP's own answer: exclusive microseconds by service."""

    name: str
    spans: tuple[HopSpan, ...]
    expected: dict[str, int]


def load_cases(folder: Path) -> list[Case]:
    """33 traces, each under its case's name. TraceMissing, TraceError."""
    path = folder / CASES
    cases = []
    for name, case in _read(path, dict[str, _Case]).items():
        told = case.testing[0] if isinstance(case.testing, list) else case.testing["opTimeExclusive"]
        expected = {operation.partition("]")[0].lstrip("["): us for operation, us in told.items()}
        cases += [Case(name=name, spans=tuple(_spans(trace, name)), expected=expected) for trace in case.data]
    return cases


def load_agent(folder: Path) -> list[HopSpan]:
    """One trace of 57 spans. TraceMissing, TraceError."""
    trace = _read(folder / AGENT, _Trace)
    return list(_spans(trace, trace.trace_id))


def _spans(trace: _Trace, name: str) -> Iterator[HopSpan]:
    for span in trace.spans:
        tags = {tag.key: tag.value for tag in span.tags or ()}
        service = trace.processes[span.process_id].service_name
        is_model = tags.get("gen_ai.operation.name") in MODEL_OPERATIONS
        reference = span.references[0] if span.references else None
        yield HopSpan(
            trace=name,
            span=span.span_id,
            parent=reference.span_id if reference else "",
            hop=str(tags.get("gen_ai.request.model") or service) if is_model else service,
            name=span.operation_name,
            start_us=span.start_time,
            duration_us=span.duration,
            awaited=reference is None or reference.ref_type != "FOLLOWS_FROM",
            error=bool(tags.get("error")),
            is_model=is_model,
        )


def _read(path: Path, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(gzip.decompress(path.read_bytes()), type=kind)
    except FileNotFoundError:
        raise TraceMissing(path, 0, f"is not in {path.parent}; set {DATA_VARIABLE} or give --data") from None
    except (OSError, EOFError, zlib.error, msgspec.MsgspecError) as error:
        raise TraceError(path, 0, f"cannot be read: {error}") from None
