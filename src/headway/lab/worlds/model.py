"""What clients of a world ask for, and what became of each call. Instants are nanoseconds of the virtual clock."""

from array import array

import msgspec

from headway.calls.model import Outcome


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """One call that a client will make. ``band`` is how reports group it (small, giant); ``blocks`` hash the prompt's whole blocks."""

    call: str
    at: int
    tenant: str
    band: str
    prompt_tokens: int
    output_tokens: int
    output_tokens_max: int | None = None
    blocks: tuple[int, ...] = ()
    klass: str = "interactive"
    run: str = ""
    estimate_tokens: int | None = None
    """What the gateway believes of the prompt from its bytes; None: the truth."""
    deadline_ms: float | None = None
    """Of each try: not let in by then, it is given up."""
    retries_max: int = 0
    """How often the client comes again after a refusal that says when."""


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    at: int
    reason: str
    retry_after_ms: int | None


class Try:
    """One time that a client's call was at the gate, and how it went on."""

    __slots__ = (
        "admitted",
        "ask",
        "cached_tokens",
        "call",
        "finished",
        "first",
        "gaps_ms",
        "last",
        "outcome",
        "output_tokens",
        "piece_first",
        "pieces",
        "preempted",
        "refusal",
        "started",
        "status",
    )

    def __init__(self, ask: Ask, call: str, started: int) -> None:
        self.ask, self.call, self.started = ask, call, started
        self.admitted: int | None = None
        self.piece_first: int | None = None
        """When the first piece of it was sent; None where it was not cut."""
        self.first: int | None = None
        self.last = 0
        self.finished: int | None = None
        self.outcome: Outcome | None = None
        self.status = 0
        """What an HTTP provider answered; 0 where none was asked."""
        self.refusal: Refusal | None = None
        self.output_tokens = 0
        self.cached_tokens = 0
        self.pieces = 0
        self.preempted = 0
        self.gaps_ms: array[float] = array("f")
        """Between its tokens as the client sees them."""

    @property
    def sent(self) -> int | None:
        """When its first work went to the engine: a piece, or itself."""
        return self.piece_first if self.piece_first is not None else self.admitted


class Made:
    """One call of a client with all its tries, oldest first."""

    __slots__ = ("ask", "tries")

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.tries: list[Try] = []

    @property
    def last(self) -> Try:
        return self.tries[-1]

    @property
    def done(self) -> bool:
        return bool(self.tries) and self.last.outcome is Outcome.DONE

    @property
    def ttft_ms(self) -> float | None:
        """From the client's first try to its first token, so that waiting to come again counts."""
        return None if not self.tries or self.last.first is None else (self.last.first - self.ask.at) / 1e6

    @property
    def e2e_ms(self) -> float | None:
        return None if not self.tries or self.last.finished is None else (self.last.finished - self.ask.at) / 1e6

    @property
    def queue_ms(self) -> float | None:
        """At our gate, before anything of it was sent."""
        return None if not self.tries or self.last.sent is None else (self.last.sent - self.ask.at) / 1e6
