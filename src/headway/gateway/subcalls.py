"""Calls made on a call's behalf: pieces of a long prompt, second passes, probes. Same budgets, same facts, their own origin."""

import asyncio
import logging

import msgspec

from headway.calls.conversation import Conversation, Message, Role, Text, Usage
from headway.calls.model import Closed, Origin, Outcome, SubCall
from headway.estate.reliability.failover import Failure
from headway.gateway import attempt, reserving
from headway.gateway.caller import Caller
from headway.gateway.engine.hints import slot_for
from headway.gateway.flow import Flow, Inbound
from headway.gateway.heads import Headers
from headway.gateway.live import Route, Target
from headway.gateway.record import record, usage_of
from headway.gateway.services import Services
from headway.kernel.errors import CallError
from headway.kernel.instants import mono_ns, wall_ms

log = logging.getLogger(__name__)


class Discard:
    """The reply of a call that nobody reads; keeps the last body for second passes, bounded by the answer bound upstream."""

    blocked = ()

    def __init__(self) -> None:
        self.status = 0
        self.body = b""

    async def start(self, status: int, headers: Headers) -> None:
        self.status = status

    async def send(self, data: bytes) -> None:
        self.body += data

    async def end(self, data: bytes = b"") -> None:
        self.body += data

    async def abort(self) -> None:
        self.status = 0


def start(services: Services, parent: Flow, effect: SubCall) -> None:
    """Run the sub-call beside its parent; its end is told as Closed with ``parent_call``."""
    task = asyncio.get_running_loop().create_task(_run(services, parent, effect))
    parent.pending.add(task)
    task.add_done_callback(parent.pending.discard)
    if effect.spec.wait_for_it:
        parent.waiting_for.add(task)
        task.add_done_callback(parent.waiting_for.discard)


async def _run(services: Services, parent: Flow, effect: SubCall) -> None:
    target = parent.tracks[-1].target  # the replica that the parent goes to: it shares its prefix cache
    flow = _flow(services, parent, effect, target)
    flow.task = asyncio.current_task()
    services.in_flight[flow.call] = flow
    services.metrics.submitted.inc()
    try:
        flow.inbound.body = _body(services, parent, effect)
        flow.scan = flow.dialect.scan(flow.inbound.body)
        flow.estimate_tokens = services.estimator.tokens(flow.scan.model, flow.scan.prompt_bytes)
        scopes = tuple(s for s in flow.caller.scopes if s in flow.live.scopes)
        if scopes and not flow.free:
            await reserving.reserve(services, flow, scopes)
        tried = await attempt.send_admitted(services, flow, target)
        flow.outcome = Outcome.DONE if tried.failure is Failure.NONE else flow.tracks[-1].outcome
    except CallError as error:
        flow.error, flow.outcome = error, Outcome.EVICTED if any(t.sent for t in flow.tracks) else Outcome.REFUSED
    except asyncio.CancelledError:
        flow.outcome = Outcome.CLIENT_GONE if parent.interrupted == "gone" else Outcome.EVICTED
        raise
    except Exception:
        log.exception("sub-call %s of %s failed", flow.call, parent.call)
        flow.outcome = Outcome.INTERNAL
    finally:
        services.in_flight.pop(flow.call, None)
        if flow.origin is Origin.PIECE:
            _note_piece(parent, flow)
        record(services, flow, mono_ns())
        services.desk.tell(
            Closed(
                call=flow.call,
                endpoint=target.endpoint.name,
                outcome=flow.outcome or Outcome.DONE,
                usage=flow.usage or Usage(),
                stop=flow.stop,
                parent_call=parent.call,
            ),
            mono_ns(),
        )


def _flow(services: Services, parent: Flow, effect: SubCall, target: Target) -> Flow:
    spec, charge_to = effect.spec, effect.charge_to
    codec = services.dialects[spec.codec]
    inbound = Inbound(method="POST", path=codec.path, headers={}, body=b"", peer="", started=mono_ns(), started_wall=wall_ms())
    caller = Caller(
        tenant=charge_to,
        principal=parent.caller.principal,
        key=parent.caller.key,
        klass=parent.caller.klass,
        run=parent.caller.run,
        step=parent.caller.step,
        # What is done on a key's own behalf draws on that key's budget too.
        scopes=parent.caller.scopes if charge_to == parent.caller.tenant else (f"tenant:{charge_to}",),
    )
    flow = Flow(
        services.new_call_id(inbound.started_wall), inbound, Discard(), codec, parent.live, origin=spec.origin, parent=parent.call
    )
    flow.charged_to, flow.caller, flow.deadline = charge_to, caller, parent.deadline
    flow.priority = parent.priority
    # A piece is a part of its parent's prompt: the parent's own reservation covers it, and the parent pays.
    flow.free = spec.origin is Origin.PIECE and charge_to == parent.caller.tenant
    if spec.share == "slot":
        flow.slot = parent.slot = slot_for(parent.call, target)
    assert parent.route is not None
    flow.route = Route(feature=parent.route.feature, groups=((target,),), strict=parent.route.strict)
    return flow


def _note_piece(parent: Flow, piece: Flow) -> None:
    """What a piece read that neither a cache nor an earlier piece had."""
    usage, _ = usage_of(piece)
    if usage is None or not usage.input_tokens:
        return
    parent.pieces_tokens += max(0, usage.input_tokens - max(usage.cached_tokens or 0, parent.pieces_upto))
    parent.pieces_upto = max(parent.pieces_upto, usage.input_tokens)


def _body(services: Services, parent: Flow, effect: SubCall) -> bytes:
    """The parent's body, cut or with an instruction after it, in the dialect the spec names."""
    spec = effect.spec
    codec = services.dialects[spec.codec]
    body = parent.inbound.body
    assert parent.scan is not None
    if spec.codec is not parent.dialect.name or spec.instruction or spec.max_tokens is not None:
        conversation, _ = parent.dialect.decode_request(body)
        body, _ = codec.encode_request(_with_instruction(conversation, spec.instruction, spec.max_tokens))
    if spec.upto_tokens is not None:
        # As the parent was estimated when it arrived: what pieces teach must not move the places where it is cut.
        bytes_per_token = parent.scan.prompt_bytes / max(1, parent.estimate_tokens)
        body = codec.prefix(body, spec.upto_tokens, bytes_per_token)
    return body


def _with_instruction(conversation: Conversation, instruction: str, max_tokens: int | None) -> Conversation:
    messages = conversation.messages
    if instruction:
        messages = (*messages, Message(role=Role.USER, parts=(Text(text=instruction),)))
    return msgspec.structs.replace(
        conversation, messages=messages, stream=False, max_tokens=max_tokens if max_tokens is not None else conversation.max_tokens
    )
