"""``x-headway-idempotency-key``: one principal's call is made once under a name of its choice, however often it is sent.

While the first runs, a second is refused (409, with Retry-After). Once it has been answered whole, the same body gets the same answer again
and another body 422; what was streamed, or is too large to keep, is not kept: 409 names the call that answered. A call that ended without an
answer leaves nothing behind, and the next runs. All of it is this gateway's memory, bounded in entries, bytes and time: past a bound, or at
another gateway, the call runs again.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from headway.calls.model import Outcome
from headway.gateway.flow import Flow, Reply
from headway.gateway.heads import Headers
from headway.gateway.writing import commit
from headway.kernel.errors import BadRequest, Conflict
from headway.kernel.instants import MonoNs, after_ms, mono_ns
from headway.kernel.limits import (
    IDEMPOTENCY_ANSWER_BYTES_MAX,
    IDEMPOTENCY_BYTES_MAX,
    IDEMPOTENCY_ENTRIES_MAX,
    IDEMPOTENCY_TTL_S,
)

IN_FLIGHT_RETRY_AFTER_MS = 1_000
_ANSWERED = (Outcome.DONE, Outcome.CLIENT_GONE)
"""A caller whose connection broke under the last byte is the one who asks again."""
Name = tuple[str, str]
"""Principal and key."""


@dataclass(slots=True)
class Kept:
    """A call under its name. ``body`` None: running, streamed or too large."""

    call: str
    digest: bytes
    expires_at: MonoNs = MonoNs(0)
    """0 while it runs."""
    answered_by: str = ""
    content_type: bytes = b""
    status: int = 0
    body: bytes | None = None

    @property
    def size_bytes(self) -> int:
        return len(self.body or b"")


class Repeats:
    """One per gateway. ``begin`` and ``end`` once for each call that carries the header; no other call touches it."""

    def __init__(self) -> None:
        self._running: dict[Name, Kept] = {}
        """As many as there are calls in flight."""
        self._ended: OrderedDict[Name, Kept] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._running) + len(self._ended)

    async def replayed(self, flow: Flow) -> bool:
        """Whether ``flow`` was answered from memory; else it runs now and its reply is listened to. Conflict or BadRequest (422)."""
        name, digest = (flow.caller.principal, flow.caller.idempotency_key), _digest(flow)
        self._forget(mono_ns())
        found = self._running.get(name) or self._ended.get(name)
        if found is None:
            self._running[name] = Kept(flow.call, digest)
            flow.reply = Listening(flow.reply)
            return False
        if found.digest != digest:
            raise BadRequest(
                f"x-headway-idempotency-key {name[1]!r} was used by {found.call} for another request; give each its own",
                status=422,
                code="idempotency_mismatch",
                param="x-headway-idempotency-key",
            )
        if not found.expires_at:
            raise Conflict(
                f"{found.call} is still running under x-headway-idempotency-key {name[1]!r}",
                code="idempotency_in_flight",
                retry_after_ms=IN_FLIGHT_RETRY_AFTER_MS,
                should_retry=True,
            )
        if found.body is None:
            streamed = found.content_type.startswith(b"text/event-stream")
            raise Conflict(
                f"{found.call} was answered under x-headway-idempotency-key {name[1]!r}, and its answer is not kept: "
                + ("it was streamed" if streamed else f"it is larger than {IDEMPOTENCY_ANSWER_BYTES_MAX} bytes"),
                code="idempotency_streamed" if streamed else "idempotency_not_kept",
            )
        await _answer_again(flow, found, found.body)
        return True

    def end(self, flow: Flow) -> None:
        """The call is over: keep its answer if it gave a whole one. Of calls refused here, or answered from memory, nothing happens."""
        name = (flow.caller.principal, flow.caller.idempotency_key)
        found = self._running.get(name)
        if found is None or found.call != flow.call:
            return
        del self._running[name]
        heard = flow.reply
        answered = flow.outcome in _ANSWERED and isinstance(heard, Listening) and heard.ended and 200 <= heard.status < 300
        if not answered:
            return
        assert isinstance(heard, Listening)
        found.expires_at = after_ms(mono_ns(), IDEMPOTENCY_TTL_S * 1000)
        found.status, found.content_type, found.body = heard.status, heard.content_type, heard.body
        found.answered_by = flow.tracks[-1].target.name if flow.tracks else ""
        self._ended[name] = found
        self._bytes += found.size_bytes
        self._forget(mono_ns())

    def _forget(self, now: MonoNs) -> None:
        while self._ended:
            oldest = next(iter(self._ended.values()))
            full = len(self) > IDEMPOTENCY_ENTRIES_MAX or self._bytes > IDEMPOTENCY_BYTES_MAX
            if oldest.expires_at > now and not full:
                return
            self._ended.popitem(last=False)
            self._bytes -= oldest.size_bytes


class Listening:
    """A reply that remembers what it says, up to a bound, unless it is a stream."""

    __slots__ = ("_inner", "_pieces", "content_type", "ended", "size_bytes", "status")

    def __init__(self, inner: Reply) -> None:
        self._inner = inner
        self._pieces: list[bytes] | None = []
        self.status = self.size_bytes = 0
        self.content_type = b""
        self.ended = False

    @property
    def body(self) -> bytes | None:
        return None if self._pieces is None else b"".join(self._pieces)

    async def start(self, status: int, headers: Headers) -> None:
        self.status, self.content_type = status, dict(headers).get(b"content-type", b"")
        if self.content_type.startswith(b"text/event-stream"):
            self._pieces = None
        await self._inner.start(status, headers)

    async def send(self, data: bytes) -> None:
        self._hear(data)
        await self._inner.send(data)

    async def end(self, data: bytes = b"") -> None:
        self._hear(data)
        self.ended = True
        await self._inner.end(data)

    @property
    def blocked(self) -> Sequence[int] | None:
        return self._inner.blocked

    async def abort(self) -> None:
        await self._inner.abort()

    def _hear(self, data: bytes) -> None:
        if self._pieces is None:
            return
        self.size_bytes += len(data)
        if self.size_bytes > IDEMPOTENCY_ANSWER_BYTES_MAX:
            self._pieces = None
        else:
            self._pieces.append(data)


async def _answer_again(flow: Flow, found: Kept, body: bytes) -> None:
    flow.replay_of, flow.recorded_answer = found.call, None
    headers: Headers = [
        (b"content-type", found.content_type),
        (b"x-headway-replayed", b"true"),
        (b"x-headway-replay-of", found.call.encode()),
    ]
    if found.answered_by:
        headers.append((b"x-headway-answered", found.answered_by.encode("ascii", "replace")))
    await commit(flow, found.status, headers)
    flow.answer_bytes = len(body)
    await flow.reply.end(body)
    flow.outcome = Outcome.DONE


def _digest(flow: Flow) -> bytes:
    """Of what was asked: path, content type and body; two requests of one digest are one."""
    inbound = flow.inbound
    head = inbound.path.encode("latin-1", "replace") + b"\0" + inbound.headers.get(b"content-type", b"") + b"\0"
    found = hashlib.blake2b(head, digest_size=16)
    found.update(inbound.body)
    return found.digest()
