"""One try at one target: build its body, be admitted, send, relay what comes. Returns what the failover generator needs to know.

Everything before the first committed byte may be tried again elsewhere; nothing after it may.
"""

import asyncio

import msgspec

from headway.calls.conversation import Answer, DialectName
from headway.calls.model import Arrived, AttemptStarted, Chunk, Closed, Head, Outcome, Wire
from headway.estate.reliability.failover import Failure, Tried
from headway.gateway.deadlines import told_deadline
from headway.gateway.dialects.port import Dialect, Seen
from headway.gateway.engine.hints import with_engine_hints
from headway.gateway.flow import Flow, PassedError, Track
from headway.gateway.heads import Told, read_head, retry_after_ms, upstream_headers
from headway.gateway.live import Endpoint, Target
from headway.gateway.opening import Opening
from headway.gateway.relay import PassRelay, Relay, TranslateRelay, deltas_of, failure_in
from headway.gateway.reserving import output_tokens_cap
from headway.gateway.services import Services
from headway.gateway.stream_tap import CHUNK_BYTES_ALONE, CHUNKS_AT_ONCE, StreamTap
from headway.gateway.upstream.port import Exchange, UpstreamError, UpstreamPhase, UpstreamRequest
from headway.gateway.writing import commit, release_all, say
from headway.kernel.errors import CallError, CannotCarry, DeadlineExceeded, HeadwayError, Overloaded, UpstreamFailed
from headway.kernel.instants import MonoNs, mono_ns, ms_between, wall_ms
from headway.kernel.limits import ANSWER_BYTES_MAX

ERROR_BODY_BYTES_MAX = 256 * 1024
DETAIL_CHARS_MAX = 500
PING_BYTES_MAX = 64
STREAM_HEAD = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


async def try_once(services: Services, flow: Flow, target: Target, number: int) -> Tried:
    """Never raises for what the upstream does; CallError for what makes every further try useless."""
    track = Track(number, target, mono_ns(), wall_ms())
    flow.tracks.append(track)
    if number > 1:
        _begin_anew(flow)
    try:
        tried = await _exchange(services, flow, track)
    except UpstreamError as error:
        tried = _failed(flow, track, error)
    except Unusable as unusable:
        flow.error = unusable.reason
        track.outcome, track.error_code = Outcome.REFUSED, unusable.reason.reason
        track.error_detail = unusable.reason.message[:DETAIL_CHARS_MAX]
        tried = Tried(failure=Failure.UNUSABLE)
    except asyncio.CancelledError:
        track.outcome = Outcome.EVICTED if flow.interrupted != "gone" else Outcome.CLIENT_GONE
        if flow.interrupted != "withdrawn_retry":
            raise
        flow.interrupted = ""
        assert flow.task is not None
        flow.task.uncancel()
        flow.error = UpstreamFailed("the answer was withdrawn before it was shown", code="withdrawn")
        tried = Tried(failure=Failure.BROKE_OFF)
    except CallError as error:
        track.outcome, track.error_code = Outcome.REFUSED, error.reason
        raise
    finally:
        track.ended = mono_ns()
    if flow.admitted is not None and track.admitted is not None and tried.failure is not Failure.NONE:
        services.desk.tell(Closed(call=flow.call, endpoint=target.endpoint.name, outcome=track.outcome, last=False), mono_ns())
    return tried


async def send_admitted(services: Services, flow: Flow, target: Target) -> Tried:
    """One try of a sub-call, whose parent's policy has already decided that it goes now."""
    track = Track(1, target, mono_ns(), wall_ms())
    track.admitted = track.started
    flow.tracks.append(track)
    try:
        return await _exchange(services, flow, track, ask=False)
    except UpstreamError as error:
        return _failed(flow, track, error)
    except Unusable as unusable:
        track.outcome, track.error_code = Outcome.REFUSED, unusable.reason.reason
        raise unusable.reason from unusable
    except asyncio.CancelledError:
        track.outcome = Outcome.CLIENT_GONE
        raise
    finally:
        track.ended = mono_ns()


class Unusable(HeadwayError):
    """This target cannot take the call, and nothing was sent: the next may."""

    def __init__(self, reason: CallError) -> None:
        super().__init__(reason.message)
        self.reason = reason


def _begin_anew(flow: Flow) -> None:
    """What an earlier attempt left is not this one's: its usage stays with its own track."""
    flow.error = flow.passed_error = None
    flow.usage = flow.stop = flow.relay = flow.head = None
    flow.output_chars = flow.untold_events = flow.untold_bytes = 0
    flow.lost = ()
    flow.priority = flow.slot = flow.admitted = None
    if flow.recorded_answer:
        flow.recorded_answer.clear()
    flow.holding = False
    flow.drop_held()


async def _exchange(services: Services, flow: Flow, track: Track, *, ask: bool = True) -> Tried:
    target, scan = track.target, flow.scan
    assert scan is not None
    dialect = _dialect_for(flow, target)
    endpoint = target.endpoint
    try:
        body = _body(services, flow, target, dialect)
        own_headers = endpoint.headers(track.started)
    except (CannotCarry, Overloaded) as error:
        raise Unusable(error) from error
    if ask:
        await _admit(services, flow, track)
    body = with_engine_hints(flow, target, body)
    left_ms = remaining_ms(flow)
    request = UpstreamRequest(
        method="POST",
        url=endpoint.url(services.dialects[dialect].path, target.model),
        headers=upstream_headers(
            own_headers,
            dialect,
            stream=scan.stream,
            caller=flow.inbound.headers if flow.wire is Wire.BYTES else None,
        )
        + told_deadline(endpoint.provider, left_ms),
        body=body,
        timeouts=endpoint.provider.timeouts,
        remaining_ms=left_ms,
    )
    track.sent = True
    track.engine = services.engine_loads.get(endpoint.name) if services.engine_loads else None
    exchange = await services.upstream.exchange(request)
    try:
        note_head(services, flow, track, exchange)
        if exchange.status >= 300:
            return await _refused(services, flow, track, exchange, services.dialects[dialect])
        if scan.stream and track.told.is_stream:
            relay = _relay(services, flow, dialect)
            return await _relay_stream(services, flow, track, exchange, relay)
        return await _relay_whole(services, flow, track, exchange, services.dialects[dialect])
    finally:
        track.answered_at = exchange.ended_at
        await exchange.close()


def _dialect_for(flow: Flow, target: Target) -> DialectName:
    spoken = target.endpoint.dialects
    flow.wire = Wire.BYTES if flow.dialect.name in spoken else Wire.TRANSLATED
    return flow.dialect.name if flow.wire is Wire.BYTES else spoken[0]


def _body(services: Services, flow: Flow, target: Target, dialect: DialectName) -> bytes:
    """Spliced where the dialects agree, else decoded and encoded. CannotCarry at a strict feature that would lose something."""
    scan, route = flow.scan, flow.route
    assert scan is not None
    assert route is not None
    cap = output_tokens_cap(flow)
    if flow.wire is Wire.BYTES:
        return flow.dialect.splice(
            flow.inbound.body, scan, model=target.model, want_usage=target.endpoint.preset.stream_usage, max_tokens=cap
        )
    if flow.conversation is None:
        flow.conversation, flow.conversation_lost = flow.dialect.decode_request(flow.inbound.body)
    conversation = msgspec.structs.replace(flow.conversation, model=target.model, max_tokens=flow.conversation.max_tokens or cap)
    body, lost = services.dialects[dialect].encode_request(conversation)
    flow.lost = tuple(dict.fromkeys(flow.conversation_lost + lost))
    if flow.lost and route.strict:
        raise CannotCarry(
            f"{target.name} speaks {dialect} and cannot carry {', '.join(flow.lost)}; feature {route.feature!r} is strict",
            param=flow.lost[0],
        )
    return body


def _relay(services: Services, flow: Flow, dialect: DialectName) -> Relay:
    assert flow.scan is not None
    if flow.wire is Wire.BYTES:
        flow.relay = PassRelay(flow.dialect, flow.scan)
    else:
        assert flow.conversation is not None
        flow.relay = TranslateRelay(services.dialects[dialect], flow.dialect, flow.conversation)
    return flow.relay


async def _admit(services: Services, flow: Flow, track: Track) -> None:
    """Ask the policies, wait for Admit and for sub-calls that must come first. DeadlineExceeded when it takes too long."""
    desk = services.desk
    if not desk.concerns(track.target.endpoint.name):
        track.admitted = track.started
        return
    scan, caller = flow.scan, flow.caller
    assert scan is not None
    flow.admitted = asyncio.Event()
    desk.flows[flow.call] = flow
    left_ms = remaining_ms(flow)
    desk.tell(
        Arrived(
            call=flow.call,
            endpoint=track.target.endpoint.name,
            tenant=caller.tenant,
            klass=caller.klass,
            feature=flow.route.feature if flow.route else "",
            dialect=flow.dialect.name,
            prompt_tokens_estimate=flow.estimate_tokens,
            prompt_tokens_error=services.estimator.learnt(scan.model).error,
            output_tokens_max=scan.max_tokens,
            deadline_remaining_ms=left_ms,
            run=caller.run,
            step=caller.step,
            prefix_hashes=flow.prefix_hashes,
            origin=flow.origin,
            parent_call=flow.parent,
            charged_to=flow.charged_to or caller.tenant,
            stream=scan.stream,
            attempt=track.number,
        ),
        mono_ns(),
    )
    if flow.waiting_for or not flow.admitted.is_set():
        try:
            async with asyncio.timeout(None if left_ms is None else left_ms / 1000):
                await flow.admitted.wait()
                while flow.waiting_for:
                    await asyncio.wait(flow.waiting_for)
        except TimeoutError:
            raise DeadlineExceeded("the deadline passed while the call waited to be admitted") from None
    track.admitted = mono_ns()
    flow.queue_ns += track.admitted - track.started
    desk.tell(
        AttemptStarted(
            call=flow.call, endpoint=track.target.endpoint.name, attempt=track.number, upstream_model=track.target.model
        ),
        track.admitted,
    )


def note_head(services: Services, flow: Flow, track: Track, exchange: Exchange) -> None:
    track.status, track.head, track.connected = exchange.status, exchange.head_at, exchange.connected_at
    track.told = told = _blanked(track.target.endpoint, read_head(exchange.headers))
    track.upstream_request, track.region, track.ratelimit = told.request_id, told.region, told.ratelimit
    track.sent_at, track.address = exchange.sent_at, exchange.address
    if flow.admitted is not None:
        services.desk.tell(
            Head(call=flow.call, endpoint=track.target.endpoint.name, status=exchange.status, headers=tuple(exchange.headers)),
            exchange.head_at,
        )
    if told.encoded:
        raise UpstreamError("answered with a content-encoding, although plain bytes were asked for", phase=UpstreamPhase.BODY)


def _blanked(endpoint: Endpoint, told: Told) -> Told:
    """``told`` without the endpoint's own keys, where an upstream repeats one in a header that callers see."""
    if not _repeats_a_key(endpoint, told):
        return told
    passed = [(name, endpoint.without_secrets(value)) for name, value in told.passed]
    kind = endpoint.text_without_secrets(told.content_type)
    return told._replace(passed=passed, content_type=kind, request_id="", region="", ratelimit="", edge="")


def _repeats_a_key(endpoint: Endpoint, told: Told) -> bool:
    values = b"\n".join([value for _, value in told.passed])
    if True in [secret in values for secret in endpoint.secrets]:
        return True
    return True in [text in told.content_type for text in endpoint.secret_texts]


async def _refused(services: Services, flow: Flow, track: Track, exchange: Exchange, dialect: Dialect) -> Tried:
    """The upstream answered with an error status: kept whole within one dialect, retold in the caller's otherwise."""
    body = track.target.endpoint.without_secrets(await exchange.read(ERROR_BODY_BYTES_MAX))
    headers = list(exchange.headers)
    kind, message = dialect.decode_error(exchange.status, body)
    track.outcome, track.error_code = Outcome.UPSTREAM_ERROR, (kind or f"status_{exchange.status}")[:100]
    track.error_detail = message[:DETAIL_CHARS_MAX]
    track.retry_after_ms = retry_after_ms(headers)
    told = dict(headers).get("x-should-retry")
    redirected = exchange.status < 400
    if redirected:
        message = f"{track.target.name} answered with a redirect ({exchange.status}), which is never followed; correct its base_url"
    flow.error = UpstreamFailed(
        message or f"{track.target.name} answered {exchange.status}",
        status=exchange.status if 400 <= exchange.status < 600 else None,
        code=kind or None,
        retry_after_ms=track.retry_after_ms,
        should_retry=exchange.status in (408, 429, 503, 529) if told is None else told == "true",
    )
    if flow.wire is Wire.BYTES and body and not redirected:
        content_type = dict(headers).get("content-type", "application/json")
        passed = [(b"content-type", content_type.encode("latin-1", "replace")), *track.told.passed]
        flow.passed_error = PassedError(exchange.status, passed, body)
    should = None if told is None else told == "true"
    return Tried(failure=Failure.STATUS, status=exchange.status, retry_after_ms=track.retry_after_ms, should_retry=should)


async def _relay_stream(services: Services, flow: Flow, track: Track, exchange: Exchange, relay: Relay) -> Tried:
    flow.head = (200, STREAM_HEAD + track.told.passed)
    seen, feed, endpoint = relay.seen, relay.feed, track.target.endpoint
    secrets = endpoint.secrets
    watched = (services.desk.wants_chunks and flow.admitted is not None) or flow.recorded_answer is not None
    opening = Opening(flow, seen) if flow.onward else None
    timed = flow.live.settings.gateway.phases
    tap = track.health = StreamTap(flow.dialect.name) if timed else None
    error: CallError | None = None
    try:
        async for data in exchange.chunks():
            out = feed(data)
            if seen.failed:
                error = error or _said(track, seen)
                if not (flow.committed and flow.wire is Wire.BYTES and not flow.holding):
                    break
                # Within one dialect the provider's own words end the stream: ours would say less.
                flow.error_told = True
                if opening is not None:
                    out = await opening.rest() + out
                await say(flow, endpoint.without_secrets(out))
                continue
            if out:
                for secret in secrets:
                    if secret in out:  # whole events: no more than a key within one of them is looked for
                        out = endpoint.without_secrets(out)
                now = mono_ns()
                if seen.started and track.first_token is None:
                    track.first_token = now
                if tap is None:
                    track.chunks += 1
                elif len(out) > PING_BYTES_MAX or not _says_nothing(out):
                    track.saw_read(now)
                    tap.kept.append(out)
                    if len(tap.kept) >= CHUNKS_AT_ONCE or len(out) >= CHUNK_BYTES_ALONE:
                        tap.look()
                if seen.stop is not None and track.last_token is None:
                    track.last_token = now
                if watched:
                    _tell_chunk(services, flow, relay, out)
                if opening is not None:
                    out = await opening.passes(out)
                    if not opening.over:
                        continue
                    opening = None
                await say(flow, out)
        tail = b"" if error else endpoint.without_secrets(relay.finish())
        if error is None and seen.failed:
            error = _said(track, seen)
        if error is None and not seen.ended and seen.stop is None:
            error = UpstreamFailed("the provider closed the stream before its end", code="upstream_cut")
        if error is None and opening is not None:
            tail = await opening.rest() + tail
    except UpstreamError as broken:
        tail, error = b"", error or upstream_call_error(flow, broken)
    finally:
        _note_seen(flow, track, seen)  # whoever ends it: what was seen is what is charged
        if seen.started and track.last_token is None:
            track.last_token = MonoNs(track.reads[-1]) if track.reads else mono_ns()
        if opening is not None:
            await opening.close()
    if error is not None:
        return _broke_off(flow, track, error)
    await _finish(services, flow, tail)
    return Tried(failure=Failure.NONE, status=200)


def _says_nothing(out: bytes) -> bool:
    """A comment or Anthropic's ping: sent to keep the connection, it is no token and ends no gap."""
    return b"data:" not in out or b'"ping"' in out


def _said(track: Track, seen: Seen) -> UpstreamFailed:
    """What the upstream reported inside its stream, without the keys that it was sent."""
    seen.failed_message = track.target.endpoint.without_secrets(seen.failed_message.encode()).decode()
    return failure_in(seen)


async def _relay_whole(services: Services, flow: Flow, track: Track, exchange: Exchange, dialect: Dialect) -> Tried:
    """An answer that is not streamed, or that the upstream did not stream although it was asked to."""
    assert flow.scan is not None
    body = track.target.endpoint.without_secrets(await exchange.read(ANSWER_BYTES_MAX))
    track.first_token = mono_ns()
    if flow.wire is Wire.BYTES and not flow.scan.stream:
        seen = dialect.see_answer(body)
        out = body
    else:
        answer = dialect.decode_answer(body)
        seen = Seen(
            id=answer.id,
            model=answer.model,
            fingerprint=answer.fingerprint,
            tier=dialect.see_answer(body).tier,
            stop=answer.stop,
            usage=answer.usage,
            started=True,
            ended=True,
        )
        out = _encoded(flow, answer)
    _note_seen(flow, track, seen)
    content = STREAM_HEAD if flow.scan.stream else [(b"content-type", b"application/json")]
    flow.head = (exchange.status, content + track.told.passed)
    if flow.recorded_answer is not None:
        flow.recorded_answer.append(body)
    if services.desk.wants_chunks and flow.admitted is not None:
        services.desk.tell_chunk(Chunk(call=flow.call, events=1, bytes=len(out), usage=seen.usage), mono_ns())
    if flow.holding:
        await say(flow, out)
        out = b""
    await _finish(services, flow, out)
    return Tried(failure=Failure.NONE, status=exchange.status)


async def _finish(services: Services, flow: Flow, tail: bytes) -> None:
    """The answer is whole. Policies may still withdraw what they hold; everything else goes out."""
    if services.desk.active and (flow.holding or flow.held):
        track = flow.tracks[-1]
        services.desk.tell(
            Closed(call=flow.call, endpoint=track.target.endpoint.name, outcome=Outcome.DONE, stop=flow.stop, last=False), mono_ns()
        )
        await asyncio.sleep(0)  # an interruption asked for just now takes effect here, before anything is sent
    await release_all(flow)
    if not flow.committed and flow.head is not None:
        await commit(flow, *flow.head)
    flow.answer_bytes += len(tail)
    flow.outcome = Outcome.DONE
    await flow.reply.end(tail)


def _encoded(flow: Flow, answer: Answer) -> bytes:
    """A whole answer in the caller's dialect, as a stream where the caller asked for one."""
    assert flow.scan is not None
    if not flow.scan.stream:
        return flow.dialect.encode_answer(answer, model=answer.model)
    if flow.conversation is None:
        flow.conversation, _ = flow.dialect.decode_request(flow.inbound.body)
    encoder = flow.dialect.encoder(flow.conversation)
    return b"".join(encoder.encode(delta) for delta in deltas_of(answer))


def _tell_chunk(services: Services, flow: Flow, relay: Relay, out: bytes) -> None:
    text = relay.text_of(out) if services.desk.wants_text or flow.recorded_answer is not None else ""
    if flow.recorded_answer is not None:
        flow.recorded_answer.append(text.encode())
    desk = services.desk
    if not desk.wants_chunks or flow.admitted is None:
        return
    flow.untold_events += max(1, out.count(b"\n\n"))
    flow.untold_bytes += len(out)
    if flow.untold_events >= desk.events_at_once or flow.tracks[-1].chunks <= 1:
        chunk = Chunk(call=flow.call, events=flow.untold_events, bytes=flow.untold_bytes, text=text, usage=relay.seen.usage)
        flow.untold_events = flow.untold_bytes = 0
        desk.tell_chunk(chunk, mono_ns())


def _note_seen(flow: Flow, track: Track, seen: Seen) -> None:
    track.answered, track.fingerprint, track.tier = seen.model, seen.fingerprint, seen.tier
    track.answer_id = track.target.endpoint.text_without_secrets(seen.id)
    if seen.usage is not None:
        flow.usage = track.usage = seen.usage
    flow.stop = seen.stop
    flow.output_chars = seen.output_chars


def _failed(flow: Flow, track: Track, error: UpstreamError) -> Tried:
    """Nothing, or only a part of a body that nobody has seen, came back."""
    flow.error = upstream_call_error(flow, error)
    track.outcome = Outcome.TIMEOUT if error.timed_out else Outcome.UPSTREAM_ERROR
    track.error_code, track.error_detail = f"{error.phase}{'_timeout' if error.timed_out else ''}", str(error)[:DETAIL_CHARS_MAX]
    if isinstance(flow.error, DeadlineExceeded):
        return Tried(failure=Failure.FINAL)
    if not error.sent:
        track.sent = False
        return Tried(failure=Failure.NOT_SENT)
    return Tried(failure=Failure.NO_ANSWER if error.phase is not UpstreamPhase.BODY else Failure.BROKE_OFF)


def _broke_off(flow: Flow, track: Track, error: CallError) -> Tried:
    flow.error = error
    track.outcome = Outcome.INCOMPLETE if flow.committed else Outcome.UPSTREAM_ERROR
    track.error_code, track.error_detail = error.reason, error.message[:DETAIL_CHARS_MAX]
    flow.drop_held()
    if isinstance(error, DeadlineExceeded):
        return Tried(failure=Failure.FINAL)
    return Tried(failure=Failure.COMMITTED if flow.committed else Failure.BROKE_OFF)


def upstream_call_error(flow: Flow, error: UpstreamError) -> CallError:
    left_ms = remaining_ms(flow)
    if error.timed_out and left_ms is not None and left_ms <= 0:
        return DeadlineExceeded("the deadline passed before the answer ended")
    name = flow.tracks[-1].target.name
    if error.timed_out:
        return UpstreamFailed(f"{name}: {error}", status=504, code=f"upstream_{error.phase}_timeout")
    return UpstreamFailed(f"{name}: {error}", code="upstream_cut" if error.phase is UpstreamPhase.BODY else "upstream_unreachable")


def remaining_ms(flow: Flow) -> float | None:
    return None if flow.deadline is None else ms_between(mono_ns(), flow.deadline)
