"""The end of a call: what it cost, what the budgets are charged, and the rows that tell of it. Runs once for each call."""

import re
from typing import Final

import msgspec

from headway.calls.conversation import Usage
from headway.calls.model import Origin, Outcome, Wire
from headway.calls.phases.stream_health import SILENT_MS_MIN
from headway.calls.pricing import FREE, UNKNOWN, Cost
from headway.facts.model import AttemptFact, CallFact, Fact, RecordingFact
from headway.facts.redaction import redact
from headway.facts.token_times import encode as encode_token_times
from headway.gateway.flow import Flow, Track
from headway.gateway.prices import cost_of
from headway.gateway.reserving import output_tokens_cap
from headway.gateway.services import Services
from headway.kernel.instants import MonoNs, ms_between, wall_ms
from headway.kernel.limits import RECORDING_TEXT_BYTES_MAX
from headway.kernel.money import NanoUsd
from headway.ledger.model import BudgetUnit

CHARS_A_TOKEN = 4
DETAIL_CHARS_MAX = 500
NAME_CHARS_MAX = 200
SILENT_NS_MIN = SILENT_MS_MIN * 1e6
STOP_NAMES = ("stop", "stop_sequences")
"""Members of a request that end an answer anywhere."""
DAY_MS = 24 * 3600 * 1000
MESSAGE_CHARS_READ = 4_000
_QUOTED: Final = re.compile(r"(?<!\w)(['\"])(?:.*\1(?!\w)|.*)", re.DOTALL)
_FILE_ID: Final = re.compile(r"(?<=^/v1/files/)[^/]+")


def record(services: Services, flow: Flow, now: MonoNs) -> None:
    """Settle the reservation, put the facts, move the meters, feed the board."""
    usage, source = usage_of(flow)
    paid = _with_pieces(flow, usage)
    cost = _cost(flow, paid)
    charged_nano, charged_tokens, charges = _settle(services, flow, paid, cost)
    if source == "reported" and usage is not None and usage.input_tokens and flow.scan is not None and flow.wire is not Wire.OPAQUE:
        services.estimator.learn(flow.scan.model, flow.scan.prompt_bytes, usage.input_tokens)
    if flow.outcome is Outcome.DONE and flow.track is not None and flow.track.health is not None:
        flow.track.stream_fault = fault_of(flow, flow.track)
    call = _call_fact(services, flow, now, usage, source, cost, charged_nano, charged_tokens, charges)
    tries = [_attempt_fact(services, flow, track, now) for track in flow.tracks]
    services.metrics.ended(call, tries, flow.track, flow.reply.blocked)
    facts: list[Fact] = [call, *tries]
    facts += [msgspec.structs.replace(segment, gateway=services.gateway) for segment in flow.segments]
    if flow.recorded_answer is not None and flow.route is not None and flow.committed and flow.wire is not Wire.OPAQUE:
        facts.append(_recording(services, flow))
    for fact in facts:
        services.facts.put(fact)
    if flow.origin is not Origin.PIECE:  # hundreds of one prompt: the board shows the call, the facts have them all
        services.feed.closed(flow, facts)


def usage_of(flow: Flow) -> tuple[Usage | None, str]:
    """What the attempt that answered, or failed last, used and how we know: reported, estimated, or unknown.

    A call that never reached an upstream, and one that an upstream refused, used nothing. One that began to answer without a whole report is
    estimated from bytes sent and characters seen; one that was sent and never answered is unknown. Never silently 0.
    """
    track = flow.tracks[-1] if flow.tracks else None
    if track is None or not track.consumed:
        return None, "unknown"
    reported = flow.usage or Usage()
    whole = flow.stop is not None or flow.outcome is Outcome.DONE  # a report before the end counts what had come until then
    if whole and reported.input_tokens is not None and reported.output_tokens is not None:
        return reported, "reported"
    if flow.scan is None or not track.status or flow.wire is Wire.OPAQUE:
        return None, "unknown"
    estimate = msgspec.structs.replace(
        reported,
        input_tokens=reported.input_tokens if reported.input_tokens is not None else flow.estimate_tokens,
        output_tokens=max(reported.output_tokens or 0, -(-flow.output_chars // CHARS_A_TOKEN)),
    )
    return estimate, "estimated"


def _with_pieces(flow: Flow, usage: Usage | None) -> Usage | None:
    """What a call pays for whose prompt went ahead in pieces: each token once, as if it had gone whole. Its pieces cost nothing themselves."""
    if not flow.pieces_tokens:
        return usage
    if usage is None:
        sent = flow.track is not None and flow.track.consumed
        return None if sent else Usage(input_tokens=flow.pieces_tokens, output_tokens=0)
    if not usage.cached_tokens:
        return usage
    return msgspec.structs.replace(usage, cached_tokens=max(0, usage.cached_tokens - flow.pieces_tokens))


def _cost(flow: Flow, usage: Usage | None) -> Cost:
    """The price of all attempts: what an earlier one reported was used too, though nobody saw its answer."""
    if flow.free:
        return Cost(NanoUsd(0), FREE)
    if flow.replay_of:
        return Cost(NanoUsd(0), "replayed")
    if not flow.tracks:
        return UNKNOWN
    *earlier, last = flow.tracks
    wasted = [cost_of(flow.live, t.target, _at_least(t.usage)) for t in earlier if t.usage != Usage()]
    if usage is None:
        known = Cost(NanoUsd(0), "table") if wasted and not last.consumed else UNKNOWN
    else:
        known = cost_of(flow.live, last.target, usage)
    if known.nano_usd is None or not wasted:
        return known
    total = sum(w.nano_usd for w in wasted if w.nano_usd is not None)
    return Cost(NanoUsd(known.nano_usd + total), known.source) if all(w.nano_usd is not None for w in wasted) else UNKNOWN


def _settle(services: Services, flow: Flow, usage: Usage | None, cost: Cost) -> tuple[int, int, dict[str, int]]:
    """What budgets in money and in tokens were charged (0 where none of that kind holds), and each lease.

    The cost where it is known. Where a call was sent and nobody knows what it cost, at least its whole reservation is charged.
    """
    if not flow.reservation.holds:
        return 0, 0, {}
    earlier, last = flow.tracks[:-1], flow.track
    tokens = sum((t.usage.input_tokens or 0) + (t.usage.output_tokens or 0) for t in earlier)
    tokens += (usage.input_tokens or 0) + (usage.output_tokens or 0) if usage is not None else 0
    nano = cost.nano_usd or 0
    unknown = any(t.consumed and t.usage == Usage() for t in earlier)
    unknown_last = usage is None and last is not None and last.consumed
    if unknown or unknown_last:
        tokens = max(tokens, flow.reserved_tokens)
    if unknown or unknown_last or (cost.nano_usd is None and usage is not None):
        nano = max(nano, flow.reserved_nano_usd)
    units = {hold.block.lease.unit for hold in flow.reservation.holds}
    charges = services.book.settle(flow.reservation, nano, tokens)
    return nano if BudgetUnit.NANO_USD in units else 0, tokens if BudgetUnit.TOKENS in units else 0, charges


def _at_least(usage: Usage) -> Usage:
    """What a broken attempt reported, with 0 for what it did not come to report."""
    return msgspec.structs.replace(usage, input_tokens=usage.input_tokens or 0, output_tokens=usage.output_tokens or 0)


def _call_fact(
    services: Services,
    flow: Flow,
    now: MonoNs,
    usage: Usage | None,
    source: str,
    cost: Cost,
    charged_nano: int,
    charged_tokens: int,
    charges: dict[str, int],
) -> CallFact:
    scan, caller, inbound = flow.scan, flow.caller, flow.inbound
    track = flow.tracks[-1] if flow.tracks else None
    error = flow.error
    return CallFact(
        call=flow.call,
        started_wall_ms=inbound.started_wall,
        duration_ms=ms_between(inbound.started, now),
        gateway=services.gateway,
        origin=flow.origin,
        parent_call=flow.parent or caller.parent,
        charged_to=flow.charged_to or caller.tenant,
        tenant=caller.tenant,
        principal=caller.principal,
        key=caller.key,
        klass=caller.klass,
        run=caller.run,
        step=caller.step,
        feature=flow.route.feature if flow.route is not None else "",
        prompt_ref=caller.prompt_ref,
        prefix_hashes=flow.prefix_hashes,
        dialect=flow.dialect.name,
        path=_FILE_ID.sub("{id}", inbound.path) if inbound.path.startswith("/v1/files/") else inbound.path,
        wire=flow.wire,
        stream=scan.stream if scan is not None else False,
        requested=scan.model[:NAME_CHARS_MAX] if scan is not None else "",
        routed=track.target.name if track is not None else "",
        answered=track.answered[:NAME_CHARS_MAX] if track is not None else "",
        fingerprint=track.fingerprint[:NAME_CHARS_MAX] if track is not None else "",
        region=(track.region or track.target.endpoint.provider.region) if track is not None else "",
        outcome=flow.outcome or Outcome.DONE,
        error_code=error.reason if error is not None else "",
        error_detail=_detail(flow, error.message) if error is not None else "",
        status=flow.status,
        stop=flow.stop or "",
        attempts=len(flow.tracks),
        committed=flow.committed,
        first_token_ms=ms_between(inbound.started, track.first_token) if track is not None and track.first_token else None,
        queue_ms=flow.queue_ns / 1e6,
        input_tokens=usage.input_tokens if usage is not None else None,
        output_tokens=usage.output_tokens if usage is not None else None,
        cached_tokens=usage.cached_tokens if usage is not None else None,
        cache_write_tokens=usage.cache_write_tokens if usage is not None else None,
        reasoning_tokens=usage.reasoning_tokens if usage is not None else None,
        usage_source=source,
        cost_nano_usd=cost.nano_usd,
        cost_source="unknown" if cost.nano_usd is None else ("estimated" if source == "estimated" else cost.source),
        price_version=flow.live.prices.version,
        charged_nano_usd=charged_nano,
        charged_tokens=charged_tokens,
        leases=tuple(charges),
        lease_charges=tuple(charges.values()),
        idempotency_key=caller.idempotency_key,
        replay_of=flow.replay_of,
        traceparent=caller.traceparent,
        prompt_bytes=scan.prompt_bytes if scan is not None else len(inbound.body),
        answer_bytes=flow.answer_bytes,
        prompt_tokens_estimate=flow.estimate_tokens or None,
        lost=flow.lost,
        config_generation=flow.live.generation,
        blocked_ms=blocked_ns(flow) / 1e6,
        stream_fault=track.stream_fault if track is not None else "",
        output_tokens_max=scan.max_tokens if scan is not None and flow.wire is not Wire.OPAQUE else None,
        received_ms=ms_between(inbound.started, inbound.whole) if inbound.whole is not None else 0.0,
    )


def _detail(flow: Flow, message: str) -> str:
    """A message as it is kept: what it quotes may be of the prompt, and stays only where the feature keeps text."""
    message = message[:MESSAGE_CHARS_READ]
    if flow.route is None or not flow.route.record.text:
        message = _QUOTED.sub(r"\1...\1", message)
    return redact(message[:DETAIL_CHARS_MAX])


def _attempt_fact(services: Services, flow: Flow, track: Track, now: MonoNs) -> AttemptFact:
    start = track.started
    usage = track.usage
    blocked = flow.reply.blocked
    sent = (track.sent_at or track.connected or track.admitted) if track.sent else None
    return AttemptFact(
        call=flow.call,
        attempt=track.number,
        started_wall_ms=track.started_wall,
        gateway=services.gateway,
        provider=track.target.endpoint.provider_name,
        endpoint=track.target.endpoint.name,
        upstream_model=track.target.model,
        answered=track.answered[:NAME_CHARS_MAX],
        fingerprint=track.fingerprint[:NAME_CHARS_MAX],
        region=track.region or track.target.endpoint.provider.region,
        upstream_request=track.upstream_request,
        status=track.status,
        outcome=track.outcome,
        error_code=track.error_code,
        error_detail=_detail(flow, track.error_detail) if track.error_detail else "",
        queue_ms=ms_between(start, track.admitted) if track.admitted is not None else 0.0,
        connect_ms=ms_between(start, track.connected) if track.connected is not None else None,
        head_ms=ms_between(start, track.head) if track.head is not None else None,
        first_token_ms=ms_between(start, track.first_token) if track.first_token is not None else None,
        last_token_ms=ms_between(start, track.last_token) if track.last_token is not None else None,
        duration_ms=ms_between(start, track.ended or now),
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cached_tokens=usage.cached_tokens,
        token_times=encode_token_times(start, track.reads) if track.reads else b"",
        chunks=track.chunks,
        retry_after_ms=track.retry_after_ms,
        ratelimit=track.ratelimit,
        traceparent=flow.caller.traceparent,
        start_ms=ms_between(flow.inbound.started, start),
        sent_ms=ms_between(start, sent) if sent is not None else None,
        tier=track.tier[:NAME_CHARS_MAX],
        edge=track.told.edge,
        answer_id=track.answer_id[:NAME_CHARS_MAX],
        address=track.address,
        upstream_ms=track.told.took_ms,
        reasoning_tokens=usage.reasoning_tokens,
        blocked_times=encode_token_times(start, blocked) if blocked and track is flow.tracks[-1] else b"",
        stream_fault=track.stream_fault,
        engine_waiting=track.engine.waiting if track.engine is not None else None,
        engine_running=track.engine.running if track.engine is not None else None,
        answered_ms=ms_between(start, track.answered_at) if track.answered_at is not None else None,
    )


def fault_of(flow: Flow, track: Track) -> str:
    """What was wrong with a stream that ended well, by its text and its times."""
    assert track.health is not None
    assert flow.scan is not None
    track.health.look()
    ended = track.last_token or 0
    reads = [read / 1e6 for read in track.reads if read <= ended] if ended - track.started > SILENT_NS_MIN else ()
    return track.health.health.fault(
        flow.stop,
        track.usage,
        output_tokens_max=flow.scan.max_tokens or output_tokens_cap(flow),
        own_stops=any(name in flow.scan.spans for name in STOP_NAMES),
        said=track.first_token is not None,
        reads_ms=reads if not flow.reply.blocked else (),
    )


def blocked_ns(flow: Flow) -> int:
    blocked = flow.reply.blocked
    return sum(blocked[1::2]) - sum(blocked[::2]) if blocked else 0


def _recording(services: Services, flow: Flow) -> RecordingFact:
    """Text after redaction, with the day it must be gone."""
    assert flow.route is not None
    assert flow.recorded_answer is not None
    keep = flow.route.record
    answer = b"".join(flow.recorded_answer)
    prompt = flow.inbound.body
    at = wall_ms()
    return RecordingFact(
        call=flow.call,
        feature=flow.route.feature,
        tenant=flow.caller.tenant,
        at_wall_ms=at,
        keep_until_wall_ms=at + keep.keep_days * DAY_MS,
        prompt=redact(prompt[:RECORDING_TEXT_BYTES_MAX].decode("utf-8", "replace"), keep.redact),
        answer=redact(answer[:RECORDING_TEXT_BYTES_MAX].decode("utf-8", "replace"), keep.redact),
        truncated=len(prompt) > RECORDING_TEXT_BYTES_MAX or len(answer) > RECORDING_TEXT_BYTES_MAX,
        gateway=services.gateway,
    )
