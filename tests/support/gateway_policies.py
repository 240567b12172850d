"""A call policy that asks what a test tells it to."""

from collections.abc import Callable, Sequence

from headway.calls.model import Admit, Arrived, Effect, Told
from headway.kernel.instants import MonoNs


class Scripted:
    """Asks what the test tells it to; admits otherwise."""

    name = "scripted"
    wants_chunks = True
    wants_text = True

    def __init__(self, on: Callable[[Told, MonoNs], Sequence[Effect] | None]) -> None:
        self.on = on
        self.told: list[Told] = []

    def receive(self, event: Told, now: MonoNs) -> Sequence[Effect]:
        self.told.append(event)
        asked = self.on(event, now)
        if asked is not None:
            return asked
        return (Admit(call=event.call),) if isinstance(event, Arrived) else ()
