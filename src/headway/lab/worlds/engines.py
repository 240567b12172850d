"""An engine on the agenda: a hop away from the gate, one step after another."""

from collections.abc import Callable, Sequence
from typing import Protocol

from headway.kernel.instants import NS_PER_MS
from headway.lab.engine.model import Engine, EngineEvent, EngineRequest
from headway.lab.worlds.agenda import Agenda


class StepWatcher(Protocol):
    """Looks at each step after it was computed."""

    def sent(self, request: EngineRequest) -> None: ...

    def step(self, began: int, ended: int, events: Sequence[EngineEvent]) -> None: ...

    def aborted(self, request_id: str) -> None: ...


class EngineOnAgenda:
    """``hop_ms`` is the way from the gate to the engine, and the way back."""

    def __init__(
        self,
        agenda: Agenda,
        engine: Engine,
        deliver: Callable[[Sequence[EngineEvent]], None],
        *,
        hop_ms: float = 0.5,
        watcher: StepWatcher | None = None,
    ) -> None:
        self.engine = engine
        self.steps = 0
        self.busy_ns = 0
        self._agenda, self._deliver, self._watcher = agenda, deliver, watcher
        self._hop_ns = int(hop_ms * NS_PER_MS)
        self._stepping = False

    def send(self, request: EngineRequest) -> None:
        self._agenda.at(self._agenda.now + self._hop_ns, self._submit, request)

    def abort(self, request_id: str) -> None:
        self._agenda.at(self._agenda.now + self._hop_ns, self._abort, request_id)

    def _abort(self, request_id: str) -> None:
        if self._watcher is not None:
            self._watcher.aborted(request_id)
        self.engine.abort(request_id)

    def _submit(self, request: EngineRequest) -> None:
        if self._watcher is not None:
            self._watcher.sent(request)
        self.engine.submit(request, self._agenda.now)
        self._go_on()

    def _go_on(self) -> None:
        if self._stepping or not self.engine.busy:
            return
        self._stepping = True
        self._agenda.at(self._agenda.now, self._step, late=True)  # after all that comes at this same instant

    def _step(self) -> None:
        began = self._agenda.now
        if not self.engine.busy:  # what was there has been aborted meanwhile
            self._stepping = False
            return
        ended, events = self.engine.step(began)
        if ended <= began:
            raise RuntimeError(f"the engine is busy but its step from {began} ns took no time: it would step for ever")
        self.steps += 1
        self.busy_ns += ended - began
        if self._watcher is not None:
            self._watcher.step(began, ended, events)
        self._agenda.at(ended, self._stepped, events)

    def _stepped(self, events: Sequence[EngineEvent]) -> None:
        self._stepping = False
        if events:
            if self._hop_ns:
                self._agenda.at(self._agenda.now + self._hop_ns, self._deliver, events)
            else:
                self._deliver(events)
        self._go_on()
