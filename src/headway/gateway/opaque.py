"""Calls that pass unread within their dialect: embeddings, images, audio, files, token counting. Only what is listed here passes.

The same keys, budgets and facts as every call; one attempt, since nothing is known of what may be repeated.
"""

import asyncio
import re
from typing import Final

import msgspec

from headway.calls.conversation import DialectName, Usage
from headway.calls.model import Outcome, Wire
from headway.gateway.attempt import note_head, remaining_ms, upstream_call_error
from headway.gateway.deadlines import told_deadline
from headway.gateway.dialects.port import Scan
from headway.gateway.dialects.scan import dump, raw, read_bool, read_int, read_str, replace, set_members, spans, splice
from headway.gateway.flow import Flow, Track
from headway.gateway.forms import form_model
from headway.gateway.heads import caller_headers
from headway.gateway.live import Live, Target
from headway.gateway.reserving import draws
from headway.gateway.services import Services
from headway.gateway.upstream.port import Exchange, UpstreamError, UpstreamRequest
from headway.gateway.writing import commit
from headway.kernel.errors import BadRequest, CallError, Forbidden, NotFound, UpstreamFailed
from headway.kernel.instants import MonoNs, mono_ns, wall_ms
from headway.kernel.limits import ANSWER_BYTES_MAX

_FILE: Final = r"[A-Za-z0-9_-]{1,100}"
_ALLOWED: Final = re.compile(
    r"POST /v1/(embeddings|completions|moderations|images/(generations|edits|variations)|audio/(speech|transcriptions|translations)"
    r"|messages/count_tokens|files)"
    rf"|GET /v1/files(/{_FILE}(/content)?)?|DELETE /v1/files/{_FILE}"
)
FORM_MODEL: Final = "\0form model"
"""Under this no JSON key can be: where a form's model lies."""
_CONTENT_TYPE: Final = re.compile(rb"[A-Za-z0-9/+.-]{1,100}(; ?(boundary|charset)=\"?[A-Za-z0-9'()+_,./:=? -]{1,100}\"?)?")
_READ_WHOLE: Final = ("application/json", "text/plain", "text/html")
_FREE: Final = re.compile(r"/v1/(files(/.*)?|messages/count_tokens|moderations)")
COMPLETION_TOKENS_UNSTATED: Final = 16
"""What the old completions route answers at most when no maximum is named, by its documentation."""


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


def costs_nothing(path: str) -> bool:
    """Routes that no provider bills."""
    return _FREE.fullmatch(path) is not None


def dialect_of(path: str) -> DialectName:
    return DialectName.ANTHROPIC if path.startswith("/v1/messages") else DialectName.OPENAI_CHAT


def read_request(flow: Flow) -> None:
    """Scan for the model where the body names one; the rest stays unread."""
    body, content_type = flow.inbound.body, flow.inbound.headers.get(b"content-type", b"")
    flow.wire = Wire.OPAQUE
    if content_type.startswith(b"multipart/form-data"):
        # Bytes of a file say nothing of tokens: they are in no estimate.
        form = form_model(body, content_type)
        flow.scan = Scan(model=form.name, stream=False, max_tokens=0, spans={FORM_MODEL: (form.start, form.end)}, prompt_bytes=0)
        return
    found = spans(body) if body else {}
    completes = flow.inbound.path == "/v1/completions"
    max_tokens = read_int(body, found, "max_tokens", least=0) if completes else 0
    flow.scan = Scan(
        model=read_str(body, found, "model") or "",
        stream=completes and read_bool(body, found, "stream"),
        max_tokens=COMPLETION_TOKENS_UNSTATED if max_tokens is None else max_tokens,
        spans=found,
        prompt_bytes=len(body),
    )


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
    started = mono_ns()
    left_ms = remaining_ms(flow)
    request = UpstreamRequest(
        method=flow.inbound.method,
        url=target.endpoint.url(flow.inbound.path, target.model),
        headers=_headers(flow, target, started) + told_deadline(target.endpoint.provider, left_ms),
        body=_body(flow, target),
        timeouts=target.endpoint.provider.timeouts,
        remaining_ms=left_ms,
    )
    track = Track(1, target, started, wall_ms(), admitted=started, sent=True)
    flow.tracks.append(track)
    try:
        exchange = await services.upstream.exchange(request)
        try:
            note_head(services, flow, track, exchange)
            await _pass(flow, track, exchange)
        finally:
            track.answered_at = exchange.ended_at
            await exchange.close()
    except UpstreamError as error:
        track.sent = error.sent
        track.outcome = Outcome.TIMEOUT if error.timed_out else Outcome.UPSTREAM_ERROR
        track.error_code, track.error_detail = f"{error.phase}{'_timeout' if error.timed_out else ''}", str(error)[:500]
        raise upstream_call_error(flow, error) from error
    except asyncio.CancelledError:
        track.outcome = Outcome.CLIENT_GONE if flow.interrupted == "gone" else Outcome.EVICTED
        raise
    except CallError as error:
        track.outcome, track.error_code = Outcome.UPSTREAM_ERROR, error.reason
        raise
    finally:
        track.ended = mono_ns()
        track.outcome = flow.outcome or track.outcome


async def _pass(flow: Flow, track: Track, exchange: Exchange) -> None:
    """Text and refusals whole, since something is read or blanked in them; everything else as it comes."""
    status, target = exchange.status, track.target
    if 300 <= status < 400:
        raise UpstreamFailed(f"{target.name} answered with a redirect ({status}), which is never followed; correct its base_url")
    content_type = track.told.content_type or "application/octet-stream"
    head = [(b"content-type", content_type.encode("latin-1", "replace")), *track.told.passed]
    if status >= 400 or content_type.startswith(_READ_WHOLE):
        body = target.endpoint.without_secrets(await exchange.read(ANSWER_BYTES_MAX))
        if status < 400:
            _note_usage(flow, track, body)
        await commit(flow, status, head)
        flow.answer_bytes = len(body)
        flow.outcome = Outcome.DONE if status < 400 else Outcome.UPSTREAM_ERROR
        await flow.reply.end(body)
        return
    await commit(flow, status, head)
    secrets = target.endpoint.secrets if content_type.startswith("text/") else ()
    async for data in exchange.chunks():
        track.first_token = track.first_token or mono_ns()
        for secret in secrets:
            if secret in data:
                data = target.endpoint.without_secrets(data)
        flow.answer_bytes += len(data)
        await flow.reply.send(data)
    flow.outcome = Outcome.DONE
    await flow.reply.end()


def _headers(flow: Flow, target: Target, now: MonoNs) -> tuple[tuple[str, str], ...]:
    own = target.endpoint.headers(now)
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
    members: dict[str, bytes] = {}
    if "model" in scan.spans and target.model != scan.model:
        members["model"] = dump(target.model)
    if scan.max_tokens and raw(flow.inbound.body, scan.spans, "max_tokens") in (None, b"null") and draws(flow):
        members["max_tokens"] = dump(scan.max_tokens)  # some engines know another default than the documented one
    if members:
        return splice(flow.inbound.body, set_members(flow.inbound.body, scan.spans, members))
    if FORM_MODEL in scan.spans and scan.model and target.model != scan.model:
        return splice(flow.inbound.body, [replace(scan.spans, FORM_MODEL, target.model.encode())])
    return flow.inbound.body


def _note_usage(flow: Flow, track: Track, body: bytes) -> None:
    try:
        counted = _counted.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return
    track.answered = counted.model
    if counted.usage is not None:
        usage = counted.usage
        into = usage.prompt_tokens if usage.prompt_tokens is not None else usage.input_tokens
        out = usage.completion_tokens if usage.completion_tokens is not None else usage.output_tokens
        flow.usage = track.usage = Usage(input_tokens=into, output_tokens=out or 0)
