"""Admission for every endpoint: what the pipeline tells, what it is asked to do.

Each endpoint has a ``Scheduler``. After whatever may have freed a place, ``_pump`` admits who may go now. A long prompt at an endpoint that is paced
goes in pieces first (``pacing.py``): it counts as running from its first piece on. Events that are late, double or about calls nobody knows
are ignored and counted: nothing here raises for what it is told.
"""

from collections.abc import Callable, Mapping, Sequence

from headway.calls.admission.counters import Counters
from headway.calls.admission.days import Days
from headway.calls.admission.model import EndpointAdmission, EndpointView, EngineLoad, Share
from headway.calls.admission.others import Others
from headway.calls.admission.place import Place
from headway.calls.admission.scheduler import Refused, Used
from headway.calls.admission.state import State
from headway.calls.admission.views import view_of
from headway.calls.model import (
    Arrived,
    AttemptStarted,
    Chunk,
    ClientGone,
    Closed,
    Effect,
    Head,
    Outcome,
    Refuse,
    Tick,
    Told,
    WaitUntil,
)
from headway.kernel.instants import MonoNs
from headway.kernel.limits import ADMISSION_EFFECTS_PER_EVENT

EVICTED = frozenset({Outcome.EVICTED, Outcome.CLIENT_GONE, Outcome.REFUSED})
OK_BELOW = 300


class AdmissionPolicy:
    """``endpoints`` are settings by endpoint name, ``default`` those of any other. ``counters`` makes an endpoint's (shared) counters."""

    name = "admission"
    wants_chunks = True
    wants_text = False

    def __init__(
        self,
        endpoints: Mapping[str, EndpointAdmission],
        shares: Mapping[str, Share],
        *,
        default: EndpointAdmission,
        day_ends: MonoNs | None = None,
        counters: Callable[[str], Counters] | None = None,
    ) -> None:
        self._settings, self._shares, self._default = dict(endpoints), dict(shares), default
        self._counters = counters
        self.days = Days(self._shares, day_ends)
        self._days_seen = self.days.changes
        self._places: dict[str, Place] = {}
        self._where: dict[str, Place] = {}
        self._cutting: set[str] = set()
        self.ignored = 0
        """Events about calls that are not here (any more)."""
        self._told: dict[type, Callable[..., Sequence[Effect]]] = {
            Arrived: self._arrived,
            AttemptStarted: self._started,
            Head: self._head,
            Chunk: self._chunk,
            ClientGone: self._gone,
            Tick: self._tick,
            Closed: self._closed,
        }

    def receive(self, event: Told, now: MonoNs) -> Sequence[Effect]:
        return self._told[type(event)](event, now)

    # --- beside calls

    def load(self, endpoint: str, load: EngineLoad, now: MonoNs) -> Sequence[Effect]:
        """What an engine says of itself. The effects are to be done as those of ``receive``."""
        place = self._place(endpoint)
        place.scheduler.heard(load)
        return self._pump(place, now)

    def day_ends(self, at: MonoNs) -> None:
        """When budgets of the day begin anew; a day later again, and so on."""
        self.days.ends_at = at

    def reconfigure(
        self,
        endpoints: Mapping[str, EndpointAdmission],
        shares: Mapping[str, Share],
        now: MonoNs,
        *,
        default: EndpointAdmission | None = None,
    ) -> Sequence[Effect]:
        """New settings: who runs goes on, who waits is put in the new order. The effects are to be done as those of ``receive``."""
        self._settings, self._shares = dict(endpoints), dict(shares)
        self._default = default or self._default
        self.days.shared_by(self._shares)
        effects: list[Effect] = []
        for name, place in self._places.items():
            place.reconfigure(self._settings.get(name, self._default), self._shares, now)
            effects += self._pump(place, now)
        return effects

    def others_told(self, endpoint: str, others: Others, now: MonoNs) -> Sequence[Effect]:
        """What other gateways charged was merged into the endpoint's counters, and this is what they have there."""
        place = self._place(endpoint)
        place.scheduler.others_told(others, now)
        return self._pump(place, now)

    def own(self, endpoint: str, now: MonoNs) -> Others:
        """What this gateway has at an endpoint, in the words in which others' is told."""
        scheduler = self._place(endpoint).scheduler
        room = scheduler.room
        least = scheduler.order.contender(now) if scheduler.queued else None
        return Others(
            requests=room.requests,
            tokens=float(room.tokens),
            long=room.long_running,
            queued=scheduler.queued,
            weight=scheduler.waiting_weight if scheduler.queued else 0.0,
            least=least,
        )

    def counters(self, endpoint: str) -> Counters:
        return self._place(endpoint).scheduler.standing.counters

    def view(self, endpoint: str, now: MonoNs) -> EndpointView:
        return view_of(self._place(endpoint), now)

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Those that have seen calls."""
        return tuple(self._places)

    # --- told

    def _arrived(self, event: Arrived, now: MonoNs) -> Sequence[Effect]:
        place = self._place(event.endpoint)
        elsewhere = self._where.get(event.call)
        if elsewhere is not None:
            call = elsewhere.scheduler.calls.get(event.call)
            if elsewhere is place and call is not None and call.attempt >= event.attempt:
                place.scheduler.ignored += 1
                return ()
            # The end of the attempt before was not told.
            before = [*self._end(elsewhere, event.call, Used(), now, answered=False, evicted=False)]
        else:
            before = []
        result = place.scheduler.arrive(event, now)
        if isinstance(result, Refused):
            refuse = Refuse(call=event.call, reason=result.reason, message=result.message, retry_after_ms=result.retry_after_ms)
            return [*before, refuse]
        if result is not None:
            self._where[event.call] = place
            place.saw(result, now)
        return [*before, *self._pump(place, now)]

    def _started(self, event: AttemptStarted, now: MonoNs) -> Sequence[Effect]:
        return ()

    def _head(self, event: Head, now: MonoNs) -> Sequence[Effect]:
        place = self._where.get(event.call)
        if place is None or (call := place.scheduler.calls.get(event.call)) is None:
            self.ignored += 1
            return ()
        call.head_ok = event.status < OK_BELOW
        if place.hosted is None:
            return ()
        place.hosted.head(event.status, event.headers, now)
        return self._pump(place, now)

    def _chunk(self, event: Chunk, now: MonoNs) -> Sequence[Effect]:
        place = self._where.get(event.call)
        if place is None:
            self.ignored += 1
            return ()
        scheduler = place.scheduler
        first = scheduler.read(event.call, now)
        if event.events > 0:
            scheduler.produced(event.call, event.events, now)
        return self._pump(place, now) if first and place.waits_for_reading else ()

    def _gone(self, event: ClientGone, now: MonoNs) -> Sequence[Effect]:
        """One that runs is settled by the Closed that follows: it may still tell its usage."""
        place = self._where.get(event.call)
        if place is None:
            self.ignored += 1
            return ()
        place.stop_pacing(event.call)
        call = place.scheduler.calls.get(event.call)
        if call is None or call.state is not State.QUEUED:
            return ()
        return self._end(place, event.call, Used(), now, answered=False, evicted=True)

    def _tick(self, event: Tick, now: MonoNs) -> Sequence[Effect]:
        if event.call:
            place = self._where.get(event.call)
            if place is None:
                return ()
            place.ticked(event.call)
            return self._pump(place, now)
        place = self._places.get(event.endpoint)
        if place is None:
            return ()
        place.wake_at = None
        return self._pump(place, now)

    def _closed(self, event: Closed, now: MonoNs) -> Sequence[Effect]:
        if event.parent_call:
            return self._subcall_closed(event, now)
        place = self._where.get(event.call)
        if place is None:
            self.ignored += 1
            return ()
        usage = event.usage
        used = Used(usage.input_tokens, usage.output_tokens, usage.cached_tokens)
        if place.pacing.settings.on:
            used = place.used(event.call, used)
        return self._end(place, event.call, used, now, answered=event.outcome is Outcome.DONE, evicted=event.outcome in EVICTED)

    def _subcall_closed(self, event: Closed, now: MonoNs) -> Sequence[Effect]:
        place = self._where.get(event.parent_call)
        if place is None:
            self.ignored += 1
            return ()
        place.subcall_closed(event, now)
        return self._pump(place, now)

    # --- how

    def _end(self, place: Place, call: str, used: Used, now: MonoNs, *, answered: bool, evicted: bool) -> Sequence[Effect]:
        self._where.pop(call, None)
        if self._cutting:
            self._cutting.discard(call)
        if place.paced:
            place.stop_pacing(call)
        place.scheduler.close(call, now, used, answered=answered, evicted=evicted)
        return self._pump(place, now)

    def _pump(self, place: Place, now: MonoNs) -> list[Effect]:
        effects = place.pump(now)
        if self._days_seen != self.days.changes:
            effects += self._cut(place, now)
        wake_at = place.scheduler.next_wake(now)
        if len(effects) >= ADMISSION_EFFECTS_PER_EVENT:
            wake_at = now  # the rest at the next turn: what one event may ask for is bounded
        if wake_at is not None and (place.wake_at is None or wake_at < place.wake_at):
            place.wake_at = wake_at
            effects.append(WaitUntil(at=wake_at, endpoint=place.name))
        return effects

    def _cut(self, place: Place, now: MonoNs) -> list[Effect]:
        """Calls of tenants that are past a budget whose overrun cuts, wherever they are."""
        effects: list[Effect] = []
        for other in self._places.values():
            other.scheduler.heed_days(now)
            for call in other.scheduler.cut_off():
                if call.id in self._cutting:
                    continue
                if len(effects) >= ADMISSION_EFFECTS_PER_EVENT // 4:
                    return effects  # the rest at the next event
                if call.state is State.QUEUED:
                    other.scheduler.close(call.id, now, evicted=True)
                    self._where.pop(call.id, None)
                else:
                    self._cutting.add(call.id)
                message = f"tenant {call.tenant.name} has used its tokens of this day; they begin anew when it ends"
                effects.append(Refuse(call=call.id, reason="token_budget", message=message))
        self._days_seen = self.days.changes
        return effects

    def _place(self, endpoint: str) -> Place:
        place = self._places.get(endpoint)
        if place is None:
            settings = self._settings.get(endpoint, self._default)
            counters = self._counters(endpoint) if self._counters is not None else None
            place = self._places[endpoint] = Place(endpoint, settings, self._shares, self.days, counters)
        return place
