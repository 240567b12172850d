"""The way of a call, on one screen:

    identify -> resolve the feature -> set the deadline -> shape the format -> reserve the budget
      -> for each attempt { admit at that endpoint, send, time the phases }      (again elsewhere while nothing is committed)
      -> check -> hold, commit, release -> settle -> record

Each step is one function here or one module beside this one. A refusal is a CallError from anywhere on the way; whatever happens, the call is
settled and recorded exactly once, and the caller gets an answer in its own dialect or the dialect's error, never a clean end to half an answer.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Protocol

from headway.calls.conversation import Answer, DialectName, StopReason, Text, Usage
from headway.calls.model import ClientGone, Closed, Outcome
from headway.estate.reliability.failover import Attempt, Failure, Tried, Wait, attempts, spent
from headway.gateway import opaque, subcalls
from headway.gateway.attempt import try_once
from headway.gateway.estimate import prefix_hashes
from headway.gateway.flow import Flow, Inbound, Reply
from headway.gateway.heads import refusal_headers
from headway.gateway.identify import identify
from headway.gateway.live import Live, Route
from headway.gateway.record import record
from headway.gateway.relay import deltas_of
from headway.gateway.reserving import reserve
from headway.gateway.services import Services
from headway.gateway.writing import commit, flush_held, own_headers, stop_pending
from headway.kernel.errors import CallError, DeadlineExceeded, Draining, Overloaded, UpstreamFailed
from headway.kernel.instants import after_ms, mono_ns, ms_between, wall_ms
from headway.kernel.limits import CALLS_IN_FLIGHT_MAX

log = logging.getLogger(__name__)


Run = Callable[[Flow], Awaitable[None]]


class CallerWatch(Protocol):
    """Who to cancel when the caller goes, and where to say so."""

    task: "asyncio.Task[None] | None"
    on_gone: Callable[[], None] | None
    disconnected: bool
    """The caller went before anybody watched."""


class Pipeline:
    def __init__(self, services: Services) -> None:
        self.services = services
        services.desk.start_subcall = lambda flow, effect: subcalls.start(services, flow, effect)
        services.desk.flush = flush_held

    async def handle(
        self, inbound: Inbound, reply: Reply, dialect: DialectName, live: Live, watch: CallerWatch, run: Run | None = None
    ) -> None:
        """One call from its bytes to its record. Never raises for what a caller or an upstream does."""
        services = self.services
        flow = Flow(services.new_call_id(inbound.started_wall), inbound, reply, services.dialects[dialect], live)
        flow.task = watch.task
        watch.on_gone = lambda: flow.interrupt("gone")
        services.in_flight[flow.call] = flow
        services.metrics.submitted.inc()
        if watch.disconnected:
            flow.interrupt("gone")
        try:
            await (run or self.run)(flow)
        except CallError as error:
            flow.error = error
            await self.refuse(flow, error)
        except asyncio.CancelledError:
            if not flow.interrupted:
                flow.outcome = Outcome.EVICTED
                raise
            assert flow.task is not None
            flow.task.uncancel()
            try:
                await self.interrupted(flow)
            except CallError as error:  # the question could not be put into the caller's dialect
                flow.error = error
                await self.refuse(flow, error)
        except Exception:
            log.exception("call %s failed", flow.call)
            flow.outcome = Outcome.INTERNAL
            flow.error = CallError("the gateway failed on this call; its log has the details under this call's id")
            await self.refuse(flow, flow.error)
        finally:
            watch.on_gone = None  # or flow, reply and watch would keep each other alive until the collector comes
            services.in_flight.pop(flow.call, None)
            self.close(flow)
            _untie(flow.error)

    async def run(self, flow: Flow) -> None:
        services = self.services
        self.enter()
        flow.caller = identify(flow.inbound, flow.live, flow.inbound.started_wall)
        flow.origin = flow.caller.origin
        flow.scan = flow.dialect.scan(flow.inbound.body)
        self.resolve(flow)
        if flow.caller.idempotency_key and await services.repeats.replayed(flow):
            return
        services.feed.opened(flow)
        await self.reserve(flow)
        await self.attempt_until_answered(flow)

    async def run_opaque(self, flow: Flow) -> None:
        """The same way for what passes unread: no failover, nothing to hold."""
        services = self.services
        self.enter()
        flow.caller = identify(flow.inbound, flow.live, flow.inbound.started_wall)
        opaque.read_request(flow)
        flow.free = opaque.costs_nothing(flow.inbound.path)
        if flow.inbound.path.startswith("/v1/files"):
            target = opaque.file_target(flow)
            flow.route = Route(feature="", groups=((target,),))
        else:
            self.resolve(flow)
            assert flow.route is not None
            target = flow.route.targets()[0]
            opaque.check_served(flow.live, target, flow.inbound.path)
        if flow.caller.idempotency_key and await services.repeats.replayed(flow):
            return
        services.feed.opened(flow)
        await self.reserve(flow)
        await opaque.send(services, flow, target)

    def enter(self) -> None:
        if self.services.draining:
            raise Draining("this gateway is being stopped; the next attempt reaches another", retry_after_ms=1_000)
        live = self.services.live
        most = live.settings.gateway.limits.calls_in_flight_max if live is not None else CALLS_IN_FLIGHT_MAX
        if len(self.services.in_flight) > most:
            raise Overloaded(f"{most} calls are in flight here (gateway.limits.calls_in_flight_max)", retry_after_ms=1_000)

    def resolve(self, flow: Flow) -> None:
        """Route, deadline, estimate."""
        scan = flow.scan
        assert scan is not None
        live, caller = flow.live, flow.caller
        tenant = live.tenant(caller.tenant)
        route = flow.route = live.route(scan.model, tenant.features, caller.features)
        live.check_allowed(scan.model, route, tenant, caller.features)
        limits_ms = [ms for ms in (route.deadline_ms, caller.deadline_ms) if ms is not None]
        if limits_ms:
            flow.deadline = after_ms(flow.inbound.started, min(limits_ms))
        flow.estimate_tokens = self.services.estimator.tokens(scan.model, scan.prompt_bytes)
        if scan.prefix_end:
            flow.prefix_hashes = prefix_hashes(memoryview(flow.inbound.body)[: scan.prefix_end])
        if route.record.text:
            flow.recorded_answer = []

    async def reserve(self, flow: Flow) -> None:
        """Reserve the most this call can cost in every budget that covers it, waiting a little for a block where one is on its way."""
        if not flow.live.scopes or flow.free:
            return
        scopes = tuple(s for s in flow.caller.scopes if s in flow.live.scopes)
        if not scopes:
            return
        await reserve(self.services, flow, scopes)

    async def attempt_until_answered(self, flow: Flow) -> None:
        """Drive the failover generator: it decides where, ``try_once`` does it."""
        assert flow.route is not None
        targets = flow.route.targets()
        if not targets:
            raise Overloaded(f"feature {flow.route.feature!r} has no target that is configured", should_retry=False)
        retries_max = targets[0].endpoint.provider.retries_max
        plan = attempts(
            len(targets),
            retries_max=retries_max,
            budget=self.services.retry_budget,
            jitter=random.random(),
            providers=[t.endpoint.provider_name for t in targets] if len(targets) > 1 else None,
        )
        try:
            step = next(plan)
            while True:
                if type(step) is Wait:
                    await self.pause(flow, step.ms)
                    step = next(plan)
                    continue
                assert type(step) is Attempt
                flow.onward = step.target + 1 < len(targets)
                flow.tried = await try_once(self.services, flow, targets[step.target], step.number)
                step = plan.send((flow.tried, mono_ns()))
        except StopIteration as done:
            await self.conclude(flow, done.value)

    async def pause(self, flow: Flow, ms: float) -> None:
        if flow.deadline is not None and ms_between(mono_ns(), flow.deadline) <= ms:
            raise DeadlineExceeded("the deadline comes before the provider may be asked again")
        await asyncio.sleep(ms / 1000)

    async def conclude(self, flow: Flow, last: Tried) -> None:
        """Nothing more will be tried: the answer is out, or the caller is told why there is none."""
        if last.failure is Failure.NONE:
            return
        no_more = spent(last, len(flow.tracks), flow.tracks[0].target.endpoint.provider.retries_max)
        if flow.passed_error is not None and not flow.committed:
            passed = flow.passed_error
            flow.status = passed.status
            flow.outcome = flow.outcome or Outcome.UPSTREAM_ERROR
            headers = passed.headers
            if no_more:
                headers = [*(h for h in headers if h[0] != b"x-should-retry"), (b"x-should-retry", b"false")]
            await flow.reply.start(passed.status, headers + own_headers(flow))
            await flow.reply.end(passed.body)
            return
        error = flow.error or UpstreamFailed("no provider answered")
        if no_more:
            error.should_retry = False
        raise error

    async def refuse(self, flow: Flow, error: CallError) -> None:
        """The dialect's error: a whole answer while nothing was committed, else the event that ends the stream."""
        if flow.outcome is None:
            flow.outcome = _outcome_of(error, flow)
        await stop_pending(flow)
        try:
            if flow.committed:
                await self.break_off(flow, error)
                return
            flow.status = error.http_status
            await flow.reply.start(error.http_status, refusal_headers(error) + own_headers(flow))
            await flow.reply.end(flow.dialect.error_body(error, request_id=flow.call))
        except (ConnectionError, asyncio.CancelledError):
            flow.outcome = Outcome.CLIENT_GONE

    async def break_off(self, flow: Flow, error: CallError) -> None:
        """After the first committed byte: an honest error event, never the dialect's clean end."""
        flow.outcome = Outcome.INCOMPLETE if flow.outcome is Outcome.UPSTREAM_ERROR else flow.outcome
        if flow.error_told:
            await flow.reply.end()
        elif flow.scan is not None and flow.scan.stream:
            await flow.reply.end(flow.relay.error(error) if flow.relay else flow.dialect.error_event(error))
        else:
            await flow.reply.abort()

    async def interrupted(self, flow: Flow) -> None:
        """Somebody ended the call from outside: the caller, the deadline, a policy, a stop."""
        now = mono_ns()
        match flow.interrupted:
            case "gone":
                flow.outcome = Outcome.CLIENT_GONE
                if flow.admitted is not None:
                    self.services.desk.tell(ClientGone(call=flow.call), now)
            case "asked":
                await self.ask(flow)
            case "refused" if flow.error is not None:
                flow.outcome = Outcome.EVICTED if flow.tracks and flow.tracks[-1].admitted else Outcome.REFUSED
                await self.refuse(flow, flow.error)
            case "withdrawn":
                flow.error = UpstreamFailed("the answer was withdrawn before it was shown", code="withdrawn")
                flow.outcome = Outcome.EVICTED
                await self.refuse(flow, flow.error)
            case _:
                flow.error = Draining("this gateway was stopped before the answer ended", retry_after_ms=1_000)
                flow.outcome = Outcome.EVICTED
                await self.refuse(flow, flow.error)

    async def ask(self, flow: Flow) -> None:
        """A policy's question instead of the model's answer, as an ordinary answer of the caller's dialect."""
        assert flow.scan is not None
        answer = Answer(
            id=flow.call, model=flow.scan.model, parts=(Text(text=flow.question),), stop=StopReason.END, created_s=wall_ms() // 1000
        )
        conversation, _ = flow.dialect.decode_request(flow.inbound.body)
        if flow.scan.stream:
            encoder = flow.dialect.encoder(conversation)
            await commit(flow, 200, [(b"content-type", b"text/event-stream")])
            await flow.reply.end(b"".join(encoder.encode(d) for d in deltas_of(answer)))
        else:
            await commit(flow, 200, [(b"content-type", b"application/json")])
            await flow.reply.end(flow.dialect.encode_answer(answer, model=flow.scan.model))
        flow.outcome, flow.stop = Outcome.DONE, StopReason.END

    def close(self, flow: Flow) -> None:
        """Settle, record, tell. Runs once for each call, whatever happened."""
        for task in flow.pending:
            task.cancel()
        record(self.services, flow, mono_ns())
        if flow.caller.idempotency_key:
            self.services.repeats.end(flow)
        if flow.admitted is not None:
            track = flow.track
            self.services.desk.tell(
                Closed(
                    call=flow.call,
                    endpoint=track.target.endpoint.name if track else "",
                    outcome=flow.outcome or Outcome.DONE,
                    stop=flow.stop,
                    parent_call=flow.parent,
                    usage=flow.usage or Usage(),
                ),
                mono_ns(),
            )
        self.services.desk.forget(flow)


def _untie(error: CallError | None) -> None:
    """A traceback holds frames, frames hold the flow and its body, and the flow holds the error: in a ring they wait for the collector,
    which seldom comes, and refused bodies would pile up."""
    if error is not None:
        error.__traceback__ = error.__context__ = error.__cause__ = None


def _outcome_of(error: CallError, flow: Flow) -> Outcome:
    if isinstance(error, UpstreamFailed) and flow.tracks:
        late = flow.tracks[-1].outcome is Outcome.TIMEOUT and not flow.committed
        return Outcome.TIMEOUT if late else Outcome.UPSTREAM_ERROR
    sent = any(track.sent for track in flow.tracks)
    if isinstance(error, DeadlineExceeded):
        return Outcome.TIMEOUT if sent else Outcome.REFUSED
    return Outcome.EVICTED if sent else Outcome.REFUSED
