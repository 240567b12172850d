"""One request and its answer, as uvicorn runs it, with what it leaves open closed.

- An answer that begins before the request's body has ended closes the connection, since nobody can tell where the next
  request would begin.
- HTTP/1.0 callers get no chunked coding: an answer without a length ends with the connection.
- What goes wrong before an answer began is said in JSON.
"""

import socket
import struct
from typing import TYPE_CHECKING, cast

import msgspec
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from headway.kernel.instants import MonoNs

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from uvicorn._types import (
        ASGI3Application,
        ASGIReceiveCallable,
        ASGISendCallable,
        ASGISendEvent,
        HTTPResponseBodyEvent,
        HTTPResponseStartEvent,
        Scope,
    )

_RESET = struct.pack("ii", 1, 0)
_ANTHROPIC_TYPES = {
    "too_large": "request_too_large",
    "body_too_large": "request_too_large",
    "draining": "overloaded_error",
    "internal": "api_error",
}
"""Where that dialect has a type of its own."""
_ANTHROPIC_PATHS = ("/v1/messages", "/anthropic/")


def refusal_body(path: str, kind: str, code: str, message: str) -> bytes:
    """An error below any dialect, in the form that the path's callers read; OpenAI's where the path is not known."""
    error = {"message": message, "type": kind, "code": code}
    if path.startswith(_ANTHROPIC_PATHS):
        return msgspec.json.encode({"type": "error", "error": error | {"type": _ANTHROPIC_TYPES.get(code, kind)}})
    return msgspec.json.encode({"error": error})


class Cycle(RequestResponseCycle):
    """HTTP/1.1. The protocol closes the connection (``closes``), never the cycle: it knows what the caller still sends."""

    aborted_by_drain = False
    on_gone: "Callable[[], None] | None" = None
    """Called once if the caller goes before the answer is out: cheaper than a task that waits on ``receive``."""

    task: "asyncio.Task[None] | None" = None
    """Runs the application on this request."""

    arrived_at = MonoNs(0)
    """When the read began that brought the last byte of the head."""
    whole_at: MonoNs | None = None
    """When the read began that brought the last byte of the request; None until then."""

    def begin(self) -> None:
        """For replies that write the head themselves (``replies.CycleReply``)."""
        self.response_started = True
        self.waiting_for_100_continue = False

    def finish(self) -> None:
        """The last byte of the answer has been handed to the transport."""
        self.response_complete = True
        self.message_event.set()
        self.on_response()

    @property
    def keep_alive(self) -> bool:  # read by the base class as the head is written and again after the last byte
        if self.response_complete:
            return True
        if self.more_body:
            self._keep_alive = False
        return self._keep_alive

    @keep_alive.setter
    def keep_alive(self, value: bool) -> None:
        self._keep_alive = value

    @property
    def closes(self) -> bool:
        return not self._keep_alive

    async def send_500_response(self) -> None:
        path = str(self.scope["path"])
        if self.aborted_by_drain:
            status, body = 503, refusal_body(path, "server_error", "draining", "this gateway is shutting down; send the call again")
        else:
            status, body = (
                500,
                refusal_body(path, "server_error", "internal", "the gateway failed on this call; its log has the cause"),
            )
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body, "more_body": False})


class Cycle10(Cycle):
    """HTTP/1.0: without a Content-Length the answer ends where the connection does."""

    close_delimited = False

    async def run_asgi(self, app: "ASGI3Application") -> None:
        async def watched(scope: "Scope", receive: "ASGIReceiveCallable", send: "ASGISendCallable") -> None:
            try:
                await app(scope, receive, send)
            finally:
                if self.response_started and not self.response_complete:
                    self._reset_on_close()

        await super().run_asgi(watched)

    def _reset_on_close(self) -> None:
        """A clean close would read as the end of a whole answer."""
        sock = self.transport.get_extra_info("socket")
        if sock is not None and not self.transport.is_closing():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    async def send(self, message: "ASGISendEvent") -> None:
        if not self.response_started:
            start = cast("HTTPResponseStartEvent", message)
            if not any(name.lower() == b"content-length" for name, _ in start.get("headers", [])):
                self.close_delimited = True
                self.chunked_encoding = False
            await super().send(message)
        elif self.close_delimited:
            await self._send_raw(cast("HTTPResponseBodyEvent", message))
        else:
            await super().send(message)

    async def _send_raw(self, message: "HTTPResponseBodyEvent") -> None:
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected or self.response_complete:
            return
        body = message.get("body", b"")
        if body and self.scope["method"] != "HEAD":
            self.transport.write(body)
        if not message.get("more_body", False):
            self.response_complete = True
            self.message_event.set()
            self.on_response()
