"""One endpoint as the policy holds it: its scheduler, its provider's allowance where it is hosted, and the long prompts that are paced there."""

from collections.abc import Mapping

from headway.calls.admission.counters import Counters
from headway.calls.admission.days import Days
from headway.calls.admission.hosted import HostedCapacity
from headway.calls.admission.model import EndpointAdmission, Share
from headway.calls.admission.pacing import EndpointPacing, Pacer, Piece, Whole
from headway.calls.admission.scheduler import Scheduler, Used
from headway.calls.admission.state import Call
from headway.calls.model import Admit, Closed, Effect, Origin, Outcome, SubCall, SubCallSpec, WaitUntil
from headway.kernel.instants import MonoNs, ms_between
from headway.kernel.limits import ADMISSION_EFFECTS_PER_EVENT

PRIORITY_SMALL, PRIORITY_BATCH, PRIORITY_LONG = 0, 1, 2


class Paced:
    """A long call on its way in pieces. ``out_since`` is None while no piece is out."""

    __slots__ = ("call", "out_since", "pacer", "wakes_at")

    def __init__(self, call: Call, pacer: Pacer) -> None:
        self.call, self.pacer = call, pacer
        self.out_since: MonoNs | None = None
        self.wakes_at: MonoNs | None = None


class Place:
    __slots__ = ("hosted", "name", "paced", "pacing", "scheduler", "settings", "wake_at")

    def __init__(
        self, name: str, settings: EndpointAdmission, shares: Mapping[str, Share], days: Days, counters: Counters | None
    ) -> None:
        self.name, self.settings = name, settings
        self.hosted = HostedCapacity(settings.capacity) if settings.capacity.hosted else None
        self.scheduler = Scheduler(settings, shares, days=days, hosted=self.hosted, counters=counters)
        self.pacing = EndpointPacing(settings.pacing)
        self.paced: dict[str, Paced] = {}
        self.wake_at: MonoNs | None = None

    def reconfigure(self, settings: EndpointAdmission, shares: Mapping[str, Share], now: MonoNs) -> None:
        """Pieces that are out come to their end; the rest of their prompts follows the new settings."""
        if settings.capacity != self.settings.capacity:
            self.hosted = HostedCapacity(settings.capacity) if settings.capacity.hosted else None
            self.scheduler.room.hosted = self.hosted
        if settings.pacing != self.settings.pacing:
            self.pacing = EndpointPacing(settings.pacing)
        self.settings = settings
        self.scheduler.reconfigure(settings, shares, now)

    @property
    def waits_for_reading(self) -> bool:
        """Somebody is to be looked at when a prompt has been read."""
        return bool(self.paced) or self.scheduler.long_queued > 0

    def saw(self, call: Call, now: MonoNs) -> None:
        """It was queued here."""
        if not call.long:
            self.pacing.small.saw(now)

    def pump(self, now: MonoNs) -> list[Effect]:
        """Admit who may go now, then let paced prompts go on."""
        scheduler = self.scheduler
        scheduler.wake(now)
        effects: list[Effect] = []
        while len(effects) < ADMISSION_EFFECTS_PER_EVENT and (call := scheduler.pick(now)) is not None:
            if (effect := self._send(call, now)) is not None:
                effects.append(effect)
        if self.paced:
            for paced in list(self.paced.values()):
                if (effect := self._go_on(paced, now)) is not None:
                    effects.append(effect)
        return effects

    def stop_pacing(self, call: str) -> None:
        self.paced.pop(call, None)

    def ticked(self, call: str) -> None:
        if (paced := self.paced.get(call)) is not None:
            paced.wakes_at = None

    def subcall_closed(self, event: Closed, now: MonoNs) -> None:
        """A piece, or what another policy did on a call's behalf: that is charged besides."""
        paced = self.paced.get(event.parent_call)
        usage = event.usage
        if paced is not None and paced.out_since is not None:
            took_ms = ms_between(paced.out_since, now)
            paced.out_since = None
            done = event.outcome is Outcome.DONE and usage.input_tokens is not None and usage.input_tokens > 0
            paced.pacer.closed(usage.cached_tokens, usage.input_tokens if done else None, took_ms, now)
            if done:
                assert usage.input_tokens is not None
                _was_read(paced.call, usage.input_tokens, usage.cached_tokens or 0)
            return
        call = self.scheduler.calls.get(event.parent_call)
        if call is None:
            self.scheduler.ignored += 1
            return
        fresh = max(0, (usage.input_tokens or 0) - max(0, usage.cached_tokens or 0))
        settings = self.settings
        cost = settings.prompt_price * fresh + settings.output_price * max(0, usage.output_tokens or 0)
        self.scheduler.charge_besides(call, cost, now)

    def used(self, call_id: str, used: Used) -> Used:
        """What a call is to pay for: prompt tokens that its own pieces had read are paid once, whether or not the cache kept them."""
        call = self.scheduler.calls.get(call_id)
        if call is None:
            return used
        if not call.read_before:
            self._learn_from_whole(call, used)
            return used
        if used.input_tokens is None or used.input_tokens < 0:
            return used if call.head_ok else Used(call.uncached_before, max(0, used.output_tokens or 0), 0)
        cached = max(0, used.cached_tokens or 0)
        fresh = call.uncached_before + max(0, used.input_tokens - max(cached, call.read_before))
        return Used(used.input_tokens, used.output_tokens, max(0, used.input_tokens - fresh))

    def _learn_from_whole(self, call: Call, used: Used) -> None:
        """A long prompt that went whole tells what the next one would take by itself."""
        if call.long and call.began_at is not None and call.first_at is not None and used.input_tokens is not None:
            cached = max(0, used.cached_tokens or 0)
            self.pacing.cost.saw(used.input_tokens - cached, cached, ms_between(call.began_at, call.first_at))

    def _send(self, call: Call, now: MonoNs) -> Effect | None:
        if (
            call.long
            and not self.settings.long.engine_step_share
            and (pacer := self.pacing.begin(call.prompt_tokens, now)) is not None
        ):
            self.paced[call.id] = Paced(call, pacer)
            return None
        return _admit(call)

    def _go_on(self, paced: Paced, now: MonoNs) -> Effect | None:
        if paced.out_since is not None:
            return None
        call, scheduler = paced.call, self.scheduler
        unread = scheduler.short_unread
        answering = scheduler.running - scheduler.room.long_running - unread
        step = paced.pacer.next(now, scheduler.queued - scheduler.long_queued, unread, answering)
        if isinstance(step, Piece):
            paced.out_since = now
            spec = SubCallSpec(origin=Origin.PIECE, codec=call.dialect, upto_tokens=step.upto_tokens, share="slot")
            return SubCall(call=call.id, spec=spec, charge_to=call.tenant.name)
        if isinstance(step, Whole):
            del self.paced[call.id]
            return _admit(call)
        if step.until is None or (paced.wakes_at is not None and paced.wakes_at <= step.until):
            return None
        paced.wakes_at = step.until
        return WaitUntil(at=step.until, call=call.id)


def _admit(call: Call) -> Admit:
    """Engines that take a priority read lower ones first."""
    return Admit(call=call.id, priority=PRIORITY_LONG if call.long else PRIORITY_BATCH if call.batch else PRIORITY_SMALL)


def _was_read(call: Call, prompt_tokens: int, cached_tokens: int) -> None:
    call.uncached_before += max(0, prompt_tokens - max(cached_tokens, call.read_before))
    call.read_before = max(call.read_before, prompt_tokens)
