"""One call on its way: what was asked, who asked, how far it is. Everything the record needs ends up here."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from headway.calls.admission.model import EngineLoad
from headway.calls.conversation import Conversation, StopReason, Usage
from headway.calls.model import Origin, Outcome, Wire
from headway.estate.reliability.failover import Tried
from headway.facts.model import SegmentFact
from headway.gateway.budgets import NOTHING_RESERVED, Reservation
from headway.gateway.caller import Caller
from headway.gateway.dialects.port import Dialect, Scan
from headway.gateway.heads import NOTHING_TOLD, Headers, Told
from headway.gateway.live import Live, Route, Target
from headway.gateway.relay import Relay
from headway.gateway.stream_tap import StreamTap
from headway.kernel.errors import CallError
from headway.kernel.instants import MonoNs, WallMs
from headway.kernel.limits import TOKEN_TIMES_MAX


@dataclass(slots=True)
class Inbound:
    """A request as it came. ``headers`` has lower-case names; of a repeated name the first counts."""

    method: str
    path: str
    headers: dict[bytes, bytes]
    body: bytes
    peer: str
    started: MonoNs
    started_wall: WallMs
    whole: MonoNs | None = None
    """When the last byte of the request was read, as far as that is known."""


class Reply(Protocol):
    """Where an answer goes. ``send`` waits while the caller reads slowly."""

    async def start(self, status: int, headers: Headers) -> None: ...

    async def send(self, data: bytes) -> None: ...

    async def end(self, data: bytes = b"") -> None: ...

    @property
    def blocked(self) -> Sequence[int] | None:
        """When writes waited because the caller did not read: pairs of begin and end, monotonic ns, in order; None or empty if they never did."""
        ...

    async def abort(self) -> None:
        """Cut the connection: the only honest end of half a body that is no stream of events."""
        ...


@dataclass(slots=True)
class Track:
    """One attempt as it goes: instants and what the upstream said."""

    number: int
    target: Target
    started: MonoNs
    started_wall: WallMs
    admitted: MonoNs | None = None
    connected: MonoNs | None = None
    sent_at: MonoNs | None = None
    """When the request's bytes were handed to the socket, as far as its exchange came to say so."""
    head: MonoNs | None = None
    first_token: MonoNs | None = None
    last_token: MonoNs | None = None
    """The read that brought the finish reason, which takes a step of the model like a token; else the last read."""
    answered_at: MonoNs | None = None
    """When the last byte of the answer was read: from then on it is our time. None where it did not come whole."""
    ended: MonoNs | None = None
    status: int = 0
    outcome: Outcome = Outcome.DONE
    error_code: str = ""
    error_detail: str = ""
    answered: str = ""
    fingerprint: str = ""
    tier: str = ""
    answer_id: str = ""
    address: str = ""
    health: StreamTap | None = None
    """Looks at what a stream says; None where nobody looks."""
    engine: EngineLoad | None = None
    """What the engine last said of itself before this was sent."""
    upstream_request: str = ""
    region: str = ""
    usage: Usage = Usage()
    reads: list[int] = field(default_factory=list)
    """Instant of each read holding an event; past TOKEN_TIMES_MAX only the last is kept."""
    chunks: int = 0
    stream_fault: str = ""
    retry_after_ms: int | None = None
    ratelimit: str = ""
    told: Told = NOTHING_TOLD
    sent: bool = False
    """The request may have reached the upstream."""

    @property
    def consumed(self) -> bool:
        """Whether the upstream may have worked on it, and so may bill it. One that refused or broke the connection has not."""
        if not self.sent:
            return False
        return self.status < 300 if self.status else self.outcome is not Outcome.UPSTREAM_ERROR

    def saw_read(self, now: int) -> None:
        self.chunks += 1
        if len(self.reads) < TOKEN_TIMES_MAX:
            self.reads.append(now)
        else:
            self.reads[-1] = now


@dataclass(slots=True)
class PassedError:
    """An upstream's own error answer, forwarded as it is within one dialect."""

    status: int
    headers: Headers
    body: bytes


@dataclass(slots=True)
class Flow:
    call: str
    inbound: Inbound
    reply: Reply
    dialect: Dialect
    live: Live
    origin: Origin = Origin.CLIENT
    parent: str = ""
    charged_to: str = ""
    caller: Caller = Caller(tenant="", principal="")
    scan: Scan | None = None
    route: Route | None = None
    conversation: Conversation | None = None
    conversation_lost: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    wire: Wire = Wire.BYTES
    deadline: MonoNs | None = None
    reservation: Reservation = NOTHING_RESERVED
    reserved_nano_usd: int = 0
    reserved_tokens: int = 0
    free: bool = False
    """The route costs nothing anywhere: files, counting."""
    estimate_tokens: int = 0
    prefix_hashes: tuple[int, ...] = ()
    tracks: list[Track] = field(default_factory=list)
    tried: Tried | None = None
    onward: bool = False
    """Another target could still take the call if this attempt fails before its first token."""
    passed_error: PassedError | None = None
    error: CallError | None = None
    error_told: bool = False
    """The caller has read it in the provider's own event: nothing follows but the end."""
    outcome: Outcome | None = None
    replay_of: str = ""
    """The call whose answer this one was given again."""
    status: int = 0
    committed: bool = False
    answer_bytes: int = 0
    output_chars: int = 0
    usage: Usage | None = None
    """None until reported."""
    stop: StopReason | None = None
    queue_ns: int = 0
    task: asyncio.Task[None] | None = None
    relay: Relay | None = None
    head: tuple[int, Headers] | None = None
    """Status and headers to send before the first byte of an answer."""
    shown_live: bool | None = None
    """Whether control's board was told that it began, and so must be told that it ended; None for a call refused before that."""
    interrupted: str = ""
    """Why the task was cancelled: gone, deadline, refused, withdrawn, draining."""
    # What policies asked for; untouched where none runs.
    admitted: asyncio.Event | None = None
    """Set once this attempt may go; None while no policy was asked about it."""
    untold_events: int = 0
    untold_bytes: int = 0
    """Of the answer, since policies were last told of a chunk."""
    priority: int | None = None
    slot: int | None = None
    """Shared with sub-calls; see ``engine/hints.py``."""
    holding: bool = False
    held: list[bytes] = field(default_factory=list)
    outbox: list[bytes] = field(default_factory=list)
    """Released and not yet sent."""
    holds_released_full: int = 0
    segments: list[SegmentFact] = field(default_factory=list)
    held_bytes: int = 0
    held_since: MonoNs | None = None
    question: str = ""
    subcalls: int = 0
    pieces_upto: int = 0
    """Prompt tokens of the longest piece that was read on this call's behalf."""
    pieces_tokens: int = 0
    """Of these, what was in no cache before: this call pays for them, once."""
    waiting_for: set[asyncio.Task[None]] = field(default_factory=set)
    """Sub-calls that must close before the next attempt starts."""
    pending: set[asyncio.Task[None]] = field(default_factory=set)
    """Everything running on this call's behalf; cancelled when it closes."""
    write_lock: asyncio.Lock | None = None
    recorded_answer: list[bytes] | None = None

    @property
    def track(self) -> Track | None:
        return self.tracks[-1] if self.tracks else None

    def drop_held(self) -> None:
        """What is held is never sent."""
        self.held.clear()
        self.held_bytes = 0

    def interrupt(self, why: str) -> None:
        """End this call from outside its task; only the first reason counts."""
        if not self.interrupted and self.task is not None and not self.task.done():
            self.interrupted = why
            self.task.cancel()
