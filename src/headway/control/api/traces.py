"""``/v1/traces``: OTLP over HTTP, as any exporter or collector sends it. ``/api/v1/traces``: a file of Jaeger's or of OTLP's JSON, and the counts.

The answer to OTLP is OTLP's: what was refused is its partial success, in the form in which the request came.
"""

import msgspec
from fastapi import APIRouter, Request
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from starlette.exceptions import HTTPException
from starlette.responses import Response

from headway.control.access import Who
from headway.control.deps import Deps, Operator, Use, Viewer, ViewerEverywhere
from headway.control.errors import JSON, Refused
from headway.control.ingest import NotStored
from headway.control.pages.ranges import range_named
from headway.control.schema import answer, says
from headway.control.traces import BODY_TOO_LARGE, Form, Taken, TooLarge, TooMany, TraceStats
from headway.facts.trace_files.reading import BODY_UNREADABLE, Unreadable
from headway.kernel.limits import TRACE_BODY_BYTES_MAX

PROTOBUF = "application/x-protobuf"
PARQUET = "application/vnd.apache.parquet"
router = APIRouter(tags=["traces"], max_body_size=TRACE_BODY_BYTES_MAX)


class _PartialSuccess(msgspec.Struct, rename="camel", omit_defaults=True):
    rejected_spans: str = ""
    error_message: str = ""


class _ExportAnswer(msgspec.Struct, rename="camel", omit_defaults=True):
    partial_success: _PartialSuccess | None = None


@router.post("/v1/traces", response_class=Response)
async def take_otlp(request: Request, who: Operator, use: Use) -> Response:
    """Spans as OTLP/HTTP, protobuf or JSON, plain or gzip. Durable once it answers 200; 429 and 503 mean: send it again."""
    form = {PROTOBUF: Form.OTLP_PROTOBUF, JSON: Form.OTLP_JSON}.get(_media(request))
    if form is None:
        use.traces.refuse(BODY_UNREADABLE)
        raise Refused(
            "bad_request", f"spans come as {PROTOBUF} or {JSON}", status=415, fix="set the exporter's protocol to http/protobuf"
        )
    taken = await _taken(request, use, who, form)
    if form is Form.OTLP_JSON:
        partial = _PartialSuccess(rejected_spans=str(taken.refused_spans), error_message=_words(taken))
        return answer(_ExportAnswer(partial_success=partial if taken.refused or taken.mended else None))
    told = ExportTraceServiceResponse()
    if taken.refused or taken.mended:
        told.partial_success.rejected_spans = taken.refused_spans
        told.partial_success.error_message = _words(taken)
    return Response(told.SerializeToString(), media_type=PROTOBUF)


@router.post("/api/v1/traces", **says(Taken))
async def upload(request: Request, who: Operator, use: Use, form: str = "jaeger") -> Response:
    """A document of traces: `form` is jaeger, otlp-json or otlp-protobuf. Plain or gzip."""
    if form not in list(Form):
        raise Refused.bad(f"form is {' or '.join(Form)}, not {form[:40]!r}")
    return answer(await _taken(request, use, who, Form(form)))


@router.get("/api/v1/traces", response_class=Response)
async def stored(who: Viewer, use: Use, range: str = "1h") -> Response:
    """The spans of traces that began in the range (15m, 1h, 24h or 7d, up to now), Headway's own among them, as a file of Parquet."""
    chosen, at = range_named(range), use.clock()
    return Response(await use.traces.stored(at - chosen.length_ms, at + 1, who.tenant), media_type=PARQUET)


@router.get("/api/v1/traces/counts", **says(TraceStats))
async def counts(who: ViewerEverywhere, use: Use) -> Response:
    """What was taken in, refused and changed since control started, by reason."""
    return answer(use.traces.stats())


async def _taken(request: Request, use: Deps, who: Who, form: Form) -> Taken:
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("identity", "gzip", ""):
        use.traces.refuse(BODY_UNREADABLE)
        raise Refused(
            "bad_request", f"a body packed with {coding[:40]} cannot be read", status=415, fix="use gzip, or no compression"
        )
    try:
        with use.traces.turn(_length(request)):
            return await use.traces.take(await _body(request, use), form, who.tenant, packed=coding == "gzip")
    except Unreadable as error:
        raise Refused.bad(str(error), "send whole OTLP or Jaeger documents") from error
    except TooLarge as error:
        raise Refused("too_large", str(error), status=413, fix="send smaller batches") from error
    except TooMany as error:
        raise Refused("busy", str(error), status=429, fix="exporters try again by themselves", retry_after_s=1) from error
    except NotStored as error:
        raise Refused("unavailable", str(error), status=503, fix="send it again", retry_after_s=2) from error


def _length(request: Request) -> int:
    """As declared, or the most that it may be; one that is declared as longer is not read."""
    declared = request.headers.get("content-length", "")
    return min(int(declared), TRACE_BODY_BYTES_MAX) if declared.isascii() and declared.isdigit() else TRACE_BODY_BYTES_MAX


async def _body(request: Request, use: Deps) -> bytes:
    try:
        return await request.body()
    except HTTPException:
        use.traces.refuse(BODY_TOO_LARGE)
        raise


def _media(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _words(taken: Taken) -> str:
    """``3 spans refused: id_malformed 3; changed: attribute_truncated 1``."""
    parts = []
    if taken.refused:
        parts.append(f"{taken.refused_spans} spans refused: " + ", ".join(f"{k} {n}" for k, n in sorted(taken.refused.items())))
    if taken.mended:
        parts.append("changed: " + ", ".join(f"{k} {n}" for k, n in sorted(taken.mended.items())))
    return "; ".join(parts)
