"""The port to upstreams: one exchange of HTTP/1.1, cancelled by cancelling its task. ``upstream/http1.py`` is the usual adapter, ``upstream/on_aiohttp.py`` the other (``[gateway] upstream_client``).

A conformance suite (``headway.gateway.upstream.conformance``) holds any adapter to: cancel closes the socket, back-pressure,
timeouts by phase, TLS verification, no redirects followed, pool limits, early responses, 1xx, dead pooled sockets and what is safe to repeat.
"""

from collections.abc import AsyncIterator, Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from headway.config.model import Timeouts
from headway.kernel.errors import HeadwayError
from headway.kernel.instants import MonoNs


class UpstreamPhase(StrEnum):
    CONNECT = "connect"
    """Nothing was sent: safe to repeat anywhere."""
    SEND = "send"
    FIRST_BYTE = "first_byte"
    """Sent, nothing came back: the upstream may be working on it."""
    BODY = "body"


class UpstreamError(HeadwayError):
    """The exchange failed without an answer. ``phase`` says how far it came, ``timed_out`` whether a deadline of ours ended it."""

    def __init__(self, message: str, *, phase: UpstreamPhase, timed_out: bool = False) -> None:
        super().__init__(message)
        self.phase, self.timed_out = phase, timed_out

    @property
    def sent(self) -> bool:
        return self.phase is not UpstreamPhase.CONNECT


class UpstreamRequest(msgspec.Struct, frozen=True, kw_only=True):
    """``url`` is built from configuration only. ``headers`` are complete but for host and content-length."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    timeouts: Timeouts
    remaining_ms: float | None = None
    """The call's deadline: the earlier of it and ``timeouts.total_ms`` ends the exchange."""


class Exchange(Protocol):
    """One answer under way. Always closed; closing before the end discards the socket."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Sequence[tuple[str, str]]:
        """Lower-case names, in order."""
        ...

    @property
    def connected_at(self) -> MonoNs | None:
        """When a new socket stood; None when a pooled one was used."""
        ...

    @property
    def sent_at(self) -> MonoNs:
        """When the request's bytes were handed to the socket: a large body may still be on its way."""
        ...

    @property
    def address(self) -> str:
        """Network address and port that it went to; empty where that is not known."""
        ...

    @property
    def head_at(self) -> MonoNs: ...

    @property
    def ended_at(self) -> MonoNs | None:
        """When the last byte of the answer was read; None as long as it did not come."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """Reads as they come, bounded buffer. UpstreamError with phase BODY when cut or idle too long."""
        ...

    async def read(self, limit_bytes: int) -> bytes:
        """The whole body. UpstreamError when it is longer than ``limit_bytes``."""
        ...

    async def close(self) -> None: ...


class Upstream(Protocol):
    async def exchange(self, request: UpstreamRequest) -> Exchange:
        """Send and wait for the head. Raises UpstreamError."""
        ...

    async def close(self) -> None: ...
