"""Clients, gate, engine and clock put together: ask in, what became of each call out. The same log, byte for byte, for the same asks."""

from collections.abc import Callable, Iterable, Sequence

import msgspec

from headway.calls.model import CallPolicy
from headway.kernel.instants import NS_PER_MS
from headway.lab.engine.model import Engine
from headway.lab.worlds.agenda import Agenda
from headway.lab.worlds.engines import EngineOnAgenda, StepWatcher
from headway.lab.worlds.gate import Gate, Log, Upstream
from headway.lab.worlds.model import Ask, Made, Try

PROGRESS_TURNS = 4_096
CLIENT_RETRY_MS = 1_000
"""A client that was refused without being told when comes again after so long."""


class Outcomes(msgspec.Struct, frozen=True, kw_only=True):
    """``made`` in the order of the asks; ``ended_at`` is the instant of the last thing that happened; ``steps`` 0 where no engine ran."""

    made: list[Made]
    ended_at: int
    steps: int = 0
    busy_ns: int = 0

    @property
    def makespan_s(self) -> float:
        """From the first ask to the last token."""
        last = max((m.last.finished or 0 for m in self.made if m.tries), default=0)
        return (last - min((m.ask.at for m in self.made), default=0)) / 1e9

    @property
    def tokens_per_s(self) -> float:
        """Each client's prompt and answer tokens once over makespan; pieces and cached repeats count nothing."""
        tokens = sum(m.ask.prompt_tokens + m.last.output_tokens for m in self.made if m.done)
        return tokens / self.makespan_s if self.makespan_s > 0 else 0.0


class Clients:
    """Send what they want when they want it; come again after a refusal as often as each may."""

    def __init__(self, agenda: Agenda, asks: Iterable[Ask]) -> None:
        self.made: list[Made] = []
        self.by_call: dict[str, Made] = {}
        self.gate: Gate
        self._agenda = agenda
        for ask in asks:
            made = Made(ask)
            self.made.append(made)
            if ask.call in self.by_call:
                raise ValueError(f"two asks are named {ask.call!r}: each call of a world needs a name of its own")
            self.by_call[ask.call] = made
            agenda.at(ask.at, self._send, made)

    def closed(self, call: Try) -> None:
        made = self.by_call[call.ask.call]
        refusal = call.refusal
        if refusal is None or len(made.tries) > made.ask.retries_max:
            return
        wait_ms = CLIENT_RETRY_MS if refusal.retry_after_ms is None else refusal.retry_after_ms
        self._agenda.at(self._agenda.now + wait_ms * NS_PER_MS, self._send, made)

    def _send(self, made: Made) -> None:
        number = len(made.tries)
        name = made.ask.call if number == 0 else f"{made.ask.call}~{number + 1}"
        call = Try(made.ask, name, self._agenda.now)
        made.tries.append(call)
        self.gate.arrive(call)


def drive(
    asks: Sequence[Ask],
    engine: Engine,
    policy: CallPolicy | None = None,
    *,
    endpoint: str = "lab",
    hop_ms: float = 0.5,
    block_tokens: int = 16,
    watcher: StepWatcher | None = None,
    log: Log | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Outcomes:
    """Run ``asks`` against one engine. ``progress`` is told (calls ended, calls in all) now and then."""
    agenda = Agenda()
    clients = Clients(agenda, asks)
    ended = 0

    def closed(call: Try) -> None:
        nonlocal ended
        ended += 1
        clients.closed(call)

    gate = Gate(agenda, policy, closed, endpoint=endpoint, block_tokens=block_tokens, log=log)
    place = EngineOnAgenda(agenda, engine, gate.events, hop_ms=hop_ms, watcher=watcher)
    gate.upstream = place
    clients.gate = gate
    turn(agenda, progress, lambda: ended, len(clients.made))
    return Outcomes(made=clients.made, ended_at=agenda.now, steps=place.steps, busy_ns=place.busy_ns)


def turn(agenda: Agenda, progress: Callable[[int, int], None] | None, ended: Callable[[], int], whole: int) -> None:
    """Let everything happen that is on the agenda."""
    turns = 0
    while agenda.turn():
        turns += 1
        if progress is not None and turns % PROGRESS_TURNS == 0:
            progress(ended(), whole)


__all__ = ["Outcomes", "Upstream", "drive", "turn"]
