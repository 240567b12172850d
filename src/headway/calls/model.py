"""The vocabulary between the pipeline and every call policy: what a policy is told, and what it may ask for.

A policy is a plain object with ``receive(event, now) -> effects``. It never reads a clock, never awaits and never touches a socket;
it may mutate its own state. One policy object may serve many calls (admission), so events and effects name their call.

    told:  Arrived  AttemptStarted  Head  Chunk  ClientGone  Tick  Closed
    asks:  Admit  WaitUntil  Refuse  SubCall  Hold  Release  Withdraw  Ask
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from headway.calls.conversation import DialectName, StopReason, Usage
from headway.kernel.instants import MonoNs


class Origin(StrEnum):
    """Why a call exists. Reports default to ``client``."""

    CLIENT = "client"
    PIECE = "piece"
    SECOND_PASS = "second_pass"
    PROBE = "probe"
    DRILL = "drill"
    SHADOW = "shadow"
    EVAL = "eval"
    HEDGE = "hedge"


class Outcome(StrEnum):
    """How a call or an attempt ended: few enough for a metric label; the detail stands in ``error_code`` beside it."""

    DONE = "done"
    REFUSED = "refused"
    """By us, before anything was sent upstream."""
    EVICTED = "evicted"
    """By us, after it had queued or begun."""
    UPSTREAM_ERROR = "upstream_error"
    INCOMPLETE = "incomplete"
    """The upstream broke off after the answer had begun."""
    TIMEOUT = "timeout"
    CLIENT_GONE = "client_gone"
    INTERNAL = "internal"


FAILED = frozenset({Outcome.EVICTED, Outcome.UPSTREAM_ERROR, Outcome.INCOMPLETE, Outcome.TIMEOUT, Outcome.INTERNAL})
"""Outcomes of calls that wanted an answer and got none or a part, by no doing of their caller: what an error rate counts.

Refused calls were told why at once (a key, a budget, a name), and callers that went away wanted no more.
"""


class Wire(StrEnum):
    """What passes between caller and target."""

    BYTES = "bytes"
    """One dialect on both sides: the body is spliced, not rebuilt."""
    TRANSLATED = "translated"
    OPAQUE = "opaque"
    """Images, audio, files: passed within a dialect, not read."""


# --- told ----------------------------------------------------------------------------------------------------------------


class Arrived(msgspec.Struct, frozen=True, kw_only=True):
    """A call has been identified and wants to run at ``endpoint``.

    ``prompt_tokens_estimate`` comes from bytes a token learnt by model and route; its error is a one-sigma share of itself
    (0.5 means "half as much again would not surprise"). ``prefix_hashes`` chain over blocks of the prompt's bytes, oldest first.
    """

    call: str
    endpoint: str
    tenant: str
    klass: str
    feature: str
    dialect: DialectName
    prompt_tokens_estimate: int
    prompt_tokens_error: float
    output_tokens_max: int | None
    deadline_remaining_ms: float | None
    run: str = ""
    step: str = ""
    prefix_hashes: tuple[int, ...] = ()
    origin: Origin = Origin.CLIENT
    parent_call: str = ""
    charged_to: str = ""
    stream: bool = False
    attempt: int = 1


class AttemptStarted(msgspec.Struct, frozen=True, kw_only=True):
    call: str
    endpoint: str
    attempt: int
    upstream_model: str


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """Status and headers of the upstream are here. ``headers`` has lower-case names."""

    call: str
    endpoint: str
    status: int
    headers: tuple[tuple[str, str], ...] = ()


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """One read of a streamed answer holding ``events`` whole events. ``text`` is filled for policies with ``wants_text``."""

    call: str
    events: int
    bytes: int
    text: str = ""
    usage: Usage | None = None


class ClientGone(msgspec.Struct, frozen=True, kw_only=True):
    call: str


class Tick(msgspec.Struct, frozen=True, kw_only=True):
    """The instant asked for by WaitUntil has come. ``call`` is empty when it was asked for the endpoint."""

    call: str = ""
    endpoint: str = ""


class Closed(msgspec.Struct, frozen=True, kw_only=True):
    """The call, attempt or sub-call is over; its usage is what was reported, else None fields."""

    call: str
    endpoint: str
    outcome: Outcome
    usage: Usage = Usage()
    stop: StopReason | None = None
    parent_call: str = ""
    last: bool = True
    """False when another attempt of the same call may follow."""


Told = Arrived | AttemptStarted | Head | Chunk | ClientGone | Tick | Closed


# --- asks ----------------------------------------------------------------------------------------------------------------


class Admit(msgspec.Struct, frozen=True, kw_only=True):
    """Let the call go to its endpoint. ``priority`` is handed to engines that take one (vLLM, SGLang), lower first."""

    call: str
    priority: int | None = None


class WaitUntil(msgspec.Struct, frozen=True, kw_only=True):
    """Tell me a Tick at ``at``. One per (call, endpoint) is kept: a later one replaces it."""

    at: MonoNs
    call: str = ""
    endpoint: str = ""


class Refuse(msgspec.Struct, frozen=True, kw_only=True):
    """Before an answer began: refuse with Retry-After. Afterwards: cut with the dialect's error event."""

    call: str
    reason: str
    message: str
    retry_after_ms: int | None = None


class SubCallSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A call made on a call's behalf, built by the codec of the parent's dialect.

    ``upto_tokens`` cuts the parent's body inside its last text (max_tokens 1, not streamed, tools and system byte-equal); None
    sends it whole. ``instruction`` is appended as a user turn (second passes, probes). ``share`` names what it must have in common with its
    parent: ``slot`` (llama.cpp's ``id_slot``), ``replica`` (the same base URL) or nothing.
    """

    origin: Origin
    codec: DialectName
    upto_tokens: int | None = None
    instruction: str = ""
    share: str = ""
    max_tokens: int | None = None
    wait_for_it: bool = True
    """The parent's own attempt starts only after it has closed."""


class SubCall(msgspec.Struct, frozen=True, kw_only=True):
    """Start ``spec`` now. Its end is told as ``Closed`` with ``parent_call``; tokens are charged to ``charge_to`` (a tenant)."""

    call: str
    spec: SubCallSpec
    charge_to: str


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """Keep what arrives from now on from the caller, up to HOLD_BYTES_MAX; past that the hold is released and counted."""

    call: str


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """Send the first ``chunks`` held chunks (None: all) and, with ``resume``, everything after as it comes."""

    call: str
    chunks: int | None = None
    resume: bool = True


class Withdraw(msgspec.Struct, frozen=True, kw_only=True):
    """Drop what is held, for good. With ``retry`` the call goes on to its next attempt if nothing was committed."""

    call: str
    reason: str
    retry: bool = False


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """Answer the caller with this question instead of the model's answer. Only while nothing was committed."""

    call: str
    question: str


Effect = Admit | WaitUntil | Refuse | SubCall | Hold | Release | Withdraw | Ask


class CallPolicy(Protocol):
    """What admission, format, commitment and framing are to the pipeline. ``wants_chunks`` False keeps it off the per-chunk path."""

    name: str
    wants_chunks: bool
    wants_text: bool

    def receive(self, event: Told, now: MonoNs) -> Sequence[Effect]: ...


class PassThrough:
    """Admits everything at once: what runs where no policy is configured."""

    name = "pass"
    wants_chunks = False
    wants_text = False

    def receive(self, event: Told, now: MonoNs) -> Sequence[Effect]:
        if type(event) is Arrived:
            return (Admit(call=event.call),)
        return ()
