"""The gateway's part in a world: tells the admission policy what happens and does what it asks, as ``gateway/desk.py`` does.

The policy is the same object that the gateway uses. None sends everything straight on, as an ordinary proxy would.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from headway.calls.conversation import DialectName, StopReason, Usage
from headway.calls.model import (
    Admit,
    Arrived,
    AttemptStarted,
    CallPolicy,
    Chunk,
    Closed,
    Effect,
    Head,
    Outcome,
    PassThrough,
    Refuse,
    SubCall,
    Tick,
    Told,
    WaitUntil,
)
from headway.kernel.instants import NS_PER_MS
from headway.kernel.limits import PREFIX_HASHES_MAX, SUBCALLS_PER_CALL_MAX
from headway.lab.engine.model import EngineEvent, EngineRequest
from headway.lab.worlds.agenda import Agenda
from headway.lab.worlds.model import Refusal, Try

BYTES_A_TOKEN = 4
Log = Callable[[int, str, str, int], None]
"""(instant, what, call or request, a number): one line of the world's event log."""


class Upstream(Protocol):
    """What the gate sends to: an engine, a hosted provider."""

    def send(self, request: EngineRequest) -> None: ...

    def abort(self, request_id: str) -> None: ...


class Piece:
    """A part of a long prompt on its way."""

    __slots__ = ("id", "parent", "tokens", "waited_for")

    def __init__(self, id: str, parent: Try, tokens: int, waited_for: bool) -> None:
        self.id, self.parent, self.tokens, self.waited_for = id, parent, tokens, waited_for


class Gate:
    """``closed`` is told of each try that ended, refused ones too."""

    def __init__(
        self,
        agenda: Agenda,
        policy: CallPolicy | None,
        closed: Callable[[Try], None],
        *,
        endpoint: str = "lab",
        block_tokens: int = 16,
        log: Log | None = None,
    ) -> None:
        self.policy: CallPolicy = PassThrough() if policy is None else policy
        self.upstream: Upstream
        self.endpoint = endpoint
        self.effects_ignored = 0
        self._agenda, self._closed, self._log = agenda, closed, log
        self._block_tokens = block_tokens
        self._chunks = self.policy.wants_chunks
        self._open: dict[str, Try] = {}
        self._pieces: dict[str, Piece] = {}
        self._waiting_for: dict[str, int] = {}
        self._admitted: dict[str, int | None] = {}
        self._ticks: dict[tuple[str, str], int] = {}

    # --- from the client

    def arrive(self, call: Try) -> None:
        ask = call.ask
        self._open[call.call] = call
        self._waiting_for[call.call] = 0
        self._note("arrived", call.call, ask.prompt_tokens)
        if ask.deadline_ms is not None:
            self._agenda.at(int(self._agenda.now + ask.deadline_ms * NS_PER_MS), self._late, call)
        self._tell(
            Arrived(
                call=call.call,
                endpoint=self.endpoint,
                tenant=ask.tenant,
                klass=ask.klass,
                feature=ask.band,
                dialect=DialectName.OPENAI_CHAT,
                prompt_tokens_estimate=ask.prompt_tokens if ask.estimate_tokens is None else ask.estimate_tokens,
                prompt_tokens_error=0.1,
                output_tokens_max=ask.output_tokens_max,
                deadline_remaining_ms=ask.deadline_ms,
                run=ask.run,
                prefix_hashes=ask.blocks[:PREFIX_HASHES_MAX],
                charged_to=ask.tenant,
                stream=True,
            )
        )

    def _late(self, call: Try) -> None:
        """Its deadline has come: nobody waits for it any more. One that runs is let run."""
        if call.call in self._open and call.admitted is None:
            self._note("late", call.call, call.pieces)
            self._drop_pieces(call)
            self._close(call, Outcome.REFUSED, Usage())

    # --- from upstream

    def head(self, request: str, status: int, headers: tuple[tuple[str, str], ...]) -> None:
        """An HTTP answer began. Over 299 it is also its end."""
        call = self._open.get(request)
        if call is None:
            return
        call.status = status
        self._note("head", request, status)
        self._tell(Head(call=request, endpoint=self.endpoint, status=status, headers=headers))
        if status >= 300:
            self._tell(Closed(call=request, endpoint=self.endpoint, outcome=Outcome.UPSTREAM_ERROR, last=False))
            self._close(call, Outcome.UPSTREAM_ERROR, Usage())

    def events(self, events: Sequence[EngineEvent]) -> None:
        """What an engine's step brought."""
        for event in events:
            call = self._open.get(event.id)
            if call is not None:
                self._event(call, event)
            elif (piece := self._pieces.get(event.id)) is not None:
                self._piece_event(piece, event)

    def _event(self, call: Try, event: EngineEvent) -> None:
        now = self._agenda.now
        kind = event.kind
        if kind == "token":
            call.gaps_ms.append((now - call.last) / 1e6)
            call.last, call.output_tokens = now, event.output_tokens
            self._note("token", call.call, event.output_tokens)
        elif kind == "first":
            if call.first is None:
                call.first = now
            else:
                call.gaps_ms.append((now - call.last) / 1e6)  # preempted, and begun anew
            call.last, call.cached_tokens, call.output_tokens = now, event.cached_tokens, event.output_tokens
            self._note("first", call.call, event.cached_tokens)
            if not call.status:
                self.head(call.call, 200, ())
        elif kind == "preempted":
            call.preempted += 1
            self._note("preempted", call.call, event.output_tokens)
            return
        elif kind == "finished":
            usage = Usage(input_tokens=call.ask.prompt_tokens, output_tokens=event.output_tokens, cached_tokens=call.cached_tokens)
            call.output_tokens = event.output_tokens
            self._close(call, Outcome.DONE, usage)
            return
        if self._chunks:
            self._tell(Chunk(call=call.call, events=1, bytes=BYTES_A_TOKEN))

    def _piece_event(self, piece: Piece, event: EngineEvent) -> None:
        if event.kind == "first":
            piece.parent.cached_tokens = event.cached_tokens
        if event.kind != "finished":
            return
        del self._pieces[piece.id]
        parent = piece.parent
        self._note("piece_done", piece.id, piece.tokens)
        if parent.call in self._open and piece.waited_for:
            self._waiting_for[parent.call] -= 1
        self._tell(
            Closed(
                call=piece.id,
                endpoint=self.endpoint,
                outcome=Outcome.DONE,
                usage=Usage(input_tokens=piece.tokens, output_tokens=event.output_tokens, cached_tokens=parent.cached_tokens),
                stop=StopReason.LENGTH,
                parent_call=parent.call,
            )
        )
        self._start_if_ready(parent)

    # --- the policy

    def _tell(self, event: Told) -> None:
        for effect in self.policy.receive(event, self._agenda.now):
            self._do(effect)

    def _do(self, effect: Effect) -> None:
        if type(effect) is WaitUntil:
            key = (effect.call, effect.endpoint)
            self._ticks[key] = effect.at
            self._agenda.at(effect.at, self._tick, key, effect.at)
            return
        call = self._open.get(effect.call)
        if call is None:
            self.effects_ignored += 1
            return
        if type(effect) is Admit:
            self._admitted[call.call] = effect.priority
            self._start_if_ready(call)
        elif type(effect) is SubCall:
            self._send_piece(call, effect)
        elif type(effect) is Refuse:
            self._refuse(call, effect)
        else:
            self.effects_ignored += 1

    def _tick(self, key: tuple[str, str], at: int) -> None:
        if self._ticks.get(key) == at:  # else a later wish replaced it
            del self._ticks[key]
            self._tell(Tick(call=key[0], endpoint=key[1]))

    def _start_if_ready(self, call: Try) -> None:
        name = call.call
        if name not in self._admitted or self._waiting_for.get(name, 1) or call.admitted is not None:
            return
        call.admitted = self._agenda.now
        priority = self._admitted[name]
        self._note("admitted", name, call.ask.prompt_tokens)
        self._tell(AttemptStarted(call=name, endpoint=self.endpoint, attempt=1, upstream_model="lab"))
        self.upstream.send(
            EngineRequest(
                id=name,
                prompt_tokens=call.ask.prompt_tokens,
                output_tokens=call.ask.output_tokens,
                blocks=call.ask.blocks,
                priority=0 if priority is None else priority,
            )
        )

    def _send_piece(self, call: Try, effect: SubCall) -> None:
        if call.pieces >= SUBCALLS_PER_CALL_MAX:
            self.effects_ignored += 1
            return
        call.pieces += 1
        ask, upto = call.ask, effect.spec.upto_tokens
        tokens = ask.prompt_tokens
        if upto is not None:  # the policy speaks in the gateway's estimate of tokens; the cut is made in bytes
            believed = ask.prompt_tokens if ask.estimate_tokens is None else max(1, ask.estimate_tokens)
            tokens = min(tokens, max(1, upto * ask.prompt_tokens // believed))
        if call.piece_first is None:
            call.piece_first = self._agenda.now
        piece = Piece(f"{call.call}/{call.pieces}", call, tokens, effect.spec.wait_for_it)
        self._pieces[piece.id] = piece
        self._waiting_for[call.call] += piece.waited_for
        self._note("piece", piece.id, tokens)
        self.upstream.send(
            EngineRequest(
                id=piece.id,
                prompt_tokens=tokens,
                output_tokens=effect.spec.max_tokens or 1,
                blocks=ask.blocks[: tokens // self._block_tokens],
            )
        )

    def _refuse(self, call: Try, effect: Refuse) -> None:
        call.refusal = Refusal(at=self._agenda.now, reason=effect.reason, retry_after_ms=effect.retry_after_ms)
        self._note("refused", call.call, effect.retry_after_ms or 0)
        if call.admitted is not None:
            self.upstream.abort(call.call)
        self._drop_pieces(call)
        self._close(call, Outcome.REFUSED if call.admitted is None else Outcome.EVICTED, Usage())

    def _drop_pieces(self, call: Try) -> None:
        for piece in [p for p in self._pieces.values() if p.parent is call]:
            self.upstream.abort(piece.id)
            del self._pieces[piece.id]

    def _close(self, call: Try, outcome: Outcome, usage: Usage) -> None:
        del self._open[call.call]
        del self._waiting_for[call.call]
        self._admitted.pop(call.call, None)
        call.outcome, call.finished = outcome, self._agenda.now
        self._note(str(outcome), call.call, call.output_tokens)
        self._tell(Closed(call=call.call, endpoint=self.endpoint, outcome=outcome, usage=usage))
        self._closed(call)

    def _note(self, what: str, call: str, number: int) -> None:
        if self._log is not None:
            self._log(self._agenda.now, what, call, number)
