"""Where policies meet calls: tells each policy what happened and does what it asks. The only writer of what policies decide.

Policies are synchronous, so one event is wholly dealt with before the next; nothing here needs a lock.
A policy that raises is a fault of ours, not of the call: it is logged and counted, and an arriving call is admitted.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence

from headway.calls.model import (
    Admit,
    Arrived,
    Ask,
    CallPolicy,
    Effect,
    Hold,
    PassThrough,
    Refuse,
    Release,
    SubCall,
    Tick,
    Told,
    WaitUntil,
    Withdraw,
)
from headway.gateway.flow import Flow
from headway.gateway.writing import note_segment
from headway.kernel.errors import BadRequest, CallError, RateLimited
from headway.kernel.instants import NS_PER_S, MonoNs, mono_ns
from headway.kernel.limits import POLICY_EFFECTS_PER_EVENT_MAX, SUBCALLS_PER_CALL_MAX

EVENTS_AT_ONCE = 16
"""What admission counts while an answer streams may lag so far behind: it settles by the reported usage in the end."""
log = logging.getLogger(__name__)


class Desk:
    """``admission`` answers Arrived; ``others`` (format, commitment, framing) look on and may hold."""

    def __init__(self, admission: CallPolicy | None = None, others: tuple[CallPolicy, ...] = ()) -> None:
        self.others = others
        self.shared: frozenset[str] | None = None
        """Endpoints that admission is asked about; None for all."""
        self._admit_by(admission or PassThrough())
        self.flows: dict[str, Flow] = {}
        self.start_subcall: Callable[[Flow, SubCall], None] = _no_subcalls
        self.flush: Callable[[Flow, int | None], None] = _no_flush
        self.errors = 0
        self.refused_effects = 0
        self._ticks: dict[tuple[str, str], asyncio.TimerHandle] = {}

    def _admit_by(self, admission: CallPolicy) -> None:
        self.policies: tuple[CallPolicy, ...] = (admission, *self.others)
        self.active = bool(self.others) or type(admission) is not PassThrough
        """False: nothing is configured, and no event is even made."""
        self.wants_chunks = tuple(p for p in self.policies if p.wants_chunks)
        self.wants_text = any(p.wants_text for p in self.wants_chunks)
        alone = self.wants_chunks == (admission,) and not self.wants_text
        self.events_at_once = EVENTS_AT_ONCE if alone else 1
        """A chunk is told when it brings so many events together; an answer's first always is."""

    def admit_by(self, admission: CallPolicy, endpoints: frozenset[str]) -> None:
        """From now on ``admission`` answers for calls at ``endpoints``; other calls go at once, and it hears nothing of them."""
        self._admit_by(admission)
        self.shared = endpoints

    def concerns(self, endpoint: str) -> bool:
        """Whether any policy is to hear of a call there."""
        return self.active and (self.shared is None or endpoint in self.shared or bool(self.others))

    def do(self, effects: Sequence[Effect], now: MonoNs) -> None:
        """What a policy asked for when it was told something beside a call."""
        for effect in effects:
            self._do(effect, now)

    def tell(self, event: Told, now: MonoNs) -> None:
        for policy in self.policies:
            self._tell_one(policy, event, now)

    def tell_chunk(self, event: Told, now: MonoNs) -> None:
        for policy in self.wants_chunks:
            self._tell_one(policy, event, now)

    def forget(self, flow: Flow) -> None:
        """The call is over: its timers go, later effects for it are ignored."""
        if self.flows.pop(flow.call, None) is None:
            return
        for key in [k for k in self._ticks if k[0] == flow.call]:
            self._ticks.pop(key).cancel()

    def _tell_one(self, policy: CallPolicy, event: Told, now: MonoNs) -> None:
        try:
            effects = policy.receive(event, now)
        except Exception:
            self.errors += 1
            log.exception("policy %s failed on %s", policy.name, type(event).__name__)
            effects = (Admit(call=event.call),) if type(event) is Arrived and policy is self.policies[0] else ()
        if len(effects) > POLICY_EFFECTS_PER_EVENT_MAX:
            self.refused_effects += len(effects) - POLICY_EFFECTS_PER_EVENT_MAX
            effects = effects[:POLICY_EFFECTS_PER_EVENT_MAX]
        for effect in effects:
            self._do(effect, now)

    def _do(self, effect: Effect, now: MonoNs) -> None:
        if type(effect) is WaitUntil:
            self._wait_until(effect, now)
            return
        flow = self.flows.get(effect.call)
        if flow is None:
            self.refused_effects += 1  # it ended while the policy still had it in mind
            return
        match effect:
            case Admit():
                flow.priority = effect.priority
                if flow.admitted is not None:
                    flow.admitted.set()
            case Refuse():
                flow.error = flow.error or _refusal(effect)
                flow.interrupt("refused")
            case SubCall():
                if flow.subcalls < SUBCALLS_PER_CALL_MAX:
                    flow.subcalls += 1
                    self.start_subcall(flow, effect)
                else:
                    self.refused_effects += 1
            case Hold():
                if not flow.holding:
                    flow.holding, flow.held_since = True, now
            case Release():
                flow.holding = flow.holding and not effect.resume
                self.flush(flow, effect.chunks)
            case Withdraw():
                note_segment(flow, "withdrawn", len(flow.held), flow.held_bytes, effect.reason)
                flow.drop_held()
                flow.interrupt("withdrawn_retry" if effect.retry and not flow.committed else "withdrawn")
            case Ask():
                if not flow.committed:
                    flow.question = effect.question
                    flow.interrupt("asked")

    def _wait_until(self, effect: WaitUntil, now: MonoNs) -> None:
        key = (effect.call, effect.endpoint)
        if (old := self._ticks.pop(key, None)) is not None:
            old.cancel()
        delay_s = max(0.0, (effect.at - now) / NS_PER_S)
        self._ticks[key] = asyncio.get_running_loop().call_later(delay_s, self._tick, key)

    def _tick(self, key: tuple[str, str]) -> None:
        self._ticks.pop(key, None)
        self.tell(Tick(call=key[0], endpoint=key[1]), mono_ns())


def _refusal(effect: Refuse) -> CallError:
    if effect.reason == "bad_request":
        return BadRequest(effect.message)
    return RateLimited(effect.message, retry_after_ms=effect.retry_after_ms, code=effect.reason)


def _no_subcalls(flow: Flow, effect: SubCall) -> None:
    raise AssertionError("the pipeline installs this")


def _no_flush(flow: Flow, chunks: int | None) -> None:
    raise AssertionError("the pipeline installs this")
