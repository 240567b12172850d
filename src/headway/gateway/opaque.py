"""Calls that pass unread within their dialect: embeddings, images, audio, files, token counting. Only what is listed here passes.

The same keys, budgets and facts as every call; one attempt, since nothing is known of what may be repeated.
"""

import re
from typing import Final

import msgspec

from headway.calls.conversation import DialectName, Usage
from headway.calls.model import Outcome, Wire
from headway.gateway.attempt import note_head, remaining_ms, upstream_call_error
from headway.gateway.dialects.port import Scan
from headway.gateway.dialects.scan import dump, read_str, replace, spans, splice
from headway.gateway.flow import Flow, Track
from headway.gateway.heads import caller_headers
from headway.gateway.live import Live, Target
from headway.gateway.services import Services
from headway.gateway.upstream import UpstreamError, UpstreamRequest
from headway.gateway.writing import commit
from headway.kernel.errors import BadRequest, Forbidden, NotFound
from headway.kernel.instants import mono_ns, wall_ms
from headway.kernel.limits import ANSWER_BYTES_MAX

_FILE: Final = r"[A-Za-z0-9_-]{1,100}"
_ALLOWED: Final = re.compile(
    r"POST /v1/(embeddings|completions|moderations|images/(generations|edits|variations)|audio/(speech|transcriptions|translations)"
    r"|messages/count_tokens|files)"
    rf"|GET /v1/files(/{_FILE}(/content)?)?|DELETE /v1/files/{_FILE}"
)
_MULTIPART_MODEL: Final = re.compile(rb'name="model"\r\n(?:[^\r\n]+\r\n)*\r\n([^\r\n]{1,200})\r\n')
_CONTENT_TYPE: Final = re.compile(rb"[A-Za-z0-9/+.-]{1,100}(; ?(boundary|charset)=\"?[A-Za-z0-9'()+_,./:=? -]{1,100}\"?)?")
MULTIPART_HEAD_BYTES: Final = 64 * 1024


class _CountedUsage(msgspec.Struct):
    prompt_tokens: int | None = None
    input_tokens: int | None = None
    completion_tokens: int | None = None
    output_tokens: int | None = None


class _Counted(msgspec.Struct):
    model: str = ""
    usage: _CountedUsage | None = None


_counted: msgspec.json.Decoder[_Counted] = msgspec.json.Decoder(_Counted, strict=False)


def allowed(method: str, path: str) -> bool:
    return _ALLOWED.fullmatch(f"{method} {path}") is not None


def methods(path: str) -> tuple[str, ...]:
    """Those that pass at ``path``; none where nothing does."""
    return tuple(method for method in ("GET", "POST", "DELETE") if allowed(method, path))


def dialect_of(path: str) -> DialectName:
    return DialectName.ANTHROPIC if path.startswith("/v1/messages") else DialectName.OPENAI_CHAT


def read_request(flow: Flow) -> None:
    """Scan for the model where the body names one; the rest stays unread."""
    body, content_type = flow.inbound.body, flow.inbound.headers.get(b"content-type", b"")
    flow.wire = Wire.OPAQUE
    model, found = "", {}
    if content_type.startswith(b"multipart/form-data"):
        form = _MULTIPART_MODEL.search(body[:MULTIPART_HEAD_BYTES]) or _MULTIPART_MODEL.search(body[-MULTIPART_HEAD_BYTES:])
        model = form.group(1).decode("utf-8", "replace") if form else ""
    elif body:
        found = spans(body)
        model = read_str(body, found, "model") or ""
    flow.scan = Scan(model=model, stream=False, max_tokens=0, spans=found, prompt_bytes=len(body))


def file_target(flow: Flow) -> Target:
    """Files belong to a provider's account, which knows no tenants: they pass only for the tenant that the provider is set aside for."""
    for name, provider in flow.live.settings.providers.items():
        if provider.files_tenant and provider.files_tenant == flow.caller.tenant:
            return Target(flow.live.endpoints[name][0], "")
    raise Forbidden(
        f"no provider is set aside for files of {flow.caller.tenant}; set files_tenant at one",
        code="files_not_shared",
        param="model",
    )


def check_served(live: Live, target: Target, path: str) -> None:
    preset = target.endpoint.preset
    if path.endswith("/count_tokens") and not preset.count_tokens:
        raise NotFound(f"{target.name} does not count tokens")
    if path.endswith("/embeddings") and not preset.embeddings:
        raise NotFound(f"{target.name} makes no embeddings")


async def send(services: Services, flow: Flow, target: Target) -> None:
    """One exchange, streamed through as it comes."""
    scan = flow.scan
    assert scan is not None
    track = Track(1, target, mono_ns(), wall_ms())
    track.admitted = track.started
    flow.tracks.append(track)
    request = UpstreamRequest(
        method=flow.inbound.method,
        url=target.endpoint.url(flow.inbound.path, target.model),
        headers=_headers(flow, target, track),
        body=_body(flow, target),
        timeouts=target.endpoint.provider.timeouts,
        remaining_ms=remaining_ms(flow),
    )
    try:
        exchange = await services.upstream.exchange(request)
        try:
            note_head(services, flow, track, exchange)
            content_type = track.told.content_type or "application/octet-stream"
            head = [(b"content-type", content_type.encode("latin-1", "replace")), *track.told.passed]
            if content_type.startswith("application/json"):
                body = await exchange.read(ANSWER_BYTES_MAX)
                _note_usage(flow, track, body)
                await commit(flow, exchange.status, head)
                flow.answer_bytes = len(body)
                flow.outcome = Outcome.DONE if exchange.status < 400 else Outcome.UPSTREAM_ERROR
                await flow.reply.end(body)
            else:
                await commit(flow, exchange.status, head)
                async for data in exchange.chunks():
                    track.first_token = track.first_token or mono_ns()
                    flow.answer_bytes += len(data)
                    await flow.reply.send(data)
                flow.outcome = Outcome.DONE if exchange.status < 400 else Outcome.UPSTREAM_ERROR
                await flow.reply.end()
        finally:
            await exchange.close()
    except UpstreamError as error:
        track.outcome, track.error_detail = Outcome.UPSTREAM_ERROR, str(error)[:500]
        raise upstream_call_error(flow, error) from error
    finally:
        track.ended = mono_ns()
        track.outcome = flow.outcome or track.outcome


def _headers(flow: Flow, target: Target, track: Track) -> tuple[tuple[str, str], ...]:
    own = target.endpoint.headers(track.started)
    content_type = flow.inbound.headers.get(b"content-type", b"application/json")
    if not _CONTENT_TYPE.fullmatch(content_type):
        raise BadRequest("header content-type holds characters that it cannot hold", param="content-type")
    base: tuple[tuple[str, str], ...] = (("accept", "*/*"), ("user-agent", "headway"))
    if flow.inbound.body:
        base += (("content-type", content_type.decode("ascii")),)
    return base + own + caller_headers(flow.inbound.headers, flow.dialect.name, {n for n, _ in own})


def _body(flow: Flow, target: Target) -> bytes:
    scan = flow.scan
    assert scan is not None
    if "model" in scan.spans and target.model != scan.model:
        return splice(flow.inbound.body, [replace(scan.spans, "model", dump(target.model))])
    if not scan.spans and scan.model and target.model != scan.model:
        raise BadRequest(
            f"in a form the model is passed on as it is: write {target.model!r}, the provider's own name, with its provider before it",
            param="model",
        )
    return flow.inbound.body


def _note_usage(flow: Flow, track: Track, body: bytes) -> None:
    try:
        counted = _counted.decode(body)
    except msgspec.MsgspecError:
        return
    track.answered = counted.model
    if counted.usage is not None:
        usage = counted.usage
        into = usage.prompt_tokens if usage.prompt_tokens is not None else usage.input_tokens
        out = usage.completion_tokens if usage.completion_tokens is not None else usage.output_tokens
        flow.usage = track.usage = Usage(input_tokens=into, output_tokens=out or 0)
