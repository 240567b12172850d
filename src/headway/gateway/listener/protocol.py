"""uvicorn's connection on httptools, with the holes closed that a port facing strangers cannot have.

One request at a time: a head is fed to the parser when it is whole and has passed ``scan_head``, its body when
``read_framing`` or ``ChunkedBody`` says how long it is, and what follows waits in ``_buffer`` until the answer is out. Strict
reading and parser must agree on where a request ends, else the connection is refused.

State is HEAD (idle, or part of a head has come), BODY, ANSWERING (whole request read), LINGER (refused; what still comes is
dropped so that the caller can read why). ``sweep`` holds the one deadline that each state has.
"""

import asyncio
import urllib.parse
from enum import Enum
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from headway.gateway.listener.cycle import Cycle, Cycle10, refusal_body
from headway.gateway.listener.framing import (
    HEAD_END,
    ChunkedBody,
    Framing,
    FramingError,
    Refusal,
    RequestLine,
    read_framing,
    scan_head,
    scan_partial_head,
)
from headway.gateway.listener.state import ListenerState
from headway.kernel.instants import mono_ns
from headway.kernel.limits import BODY_RATE_GRACE_MS, LINGER_BYTES_MAX, LINGER_MS, PIPELINED_BYTES_MAX

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

    from headway.gateway.listener.server import ListenerConfig

_NEVER = float("inf")
_DISAGREEMENT = Refusal(400, "framing_disagreement", "the request can be read in two ways")
_TOO_MANY = "this gateway holds as many connections as it may ([gateway.limits] {}); try again later"


async def _run(cycle: Cycle, app: "ASGI3Application", tasks: "set[asyncio.Task[None]]") -> None:
    """The application on one request. It leaves the set itself: a callback would be one more turn of the loop a request."""
    try:
        await cycle.run_asgi(app)
    finally:
        tasks.discard(cast("asyncio.Task[None]", cycle.task))


class Reading(Enum):
    HEAD = "head"
    BODY = "body"
    ANSWERING = "answering"
    LINGER = "linger"


class HeldFlow(FlowControl):
    """Reading stays stopped while ``held``, whoever asks to resume it: the caller pipelines faster than it is answered."""

    held = False

    def resume_reading(self) -> None:
        if not self.held:
            super().resume_reading()


class GuardedHttp(HttpToolsProtocol):
    config: "ListenerConfig"
    flow: HeldFlow
    cycle: Cycle

    def __init__(
        self,
        config: "ListenerConfig",
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.shared: ListenerState = config.shared
        self.limits = self.shared.limits
        self.access_log = False
        self._new_parser()
        self._address = ""
        self._reading = Reading.HEAD
        self._buffer = bytearray()
        self._searched = 0
        self._head_done = self._message_done = self._keeps_alive = False
        self._remaining = 0
        self._chunked: ChunkedBody | None = None
        self._received = 0
        self._linger_bytes = LINGER_BYTES_MAX
        self._deadline = _NEVER
        self._deadline_name = ""
        self._body_since = 0.0
        self._write_paused_at = 0.0
        self._closing_at = 0.0
        self._read_at = mono_ns()
        """When the bytes that are looked at came; of a request that waited for the answer before it, when that was out."""
        self._message_event = asyncio.Event()
        """One for all requests of the connection, which come one after the other."""

    def _new_parser(self) -> None:
        self.parser = httptools.HttpRequestParser(self)  # strict: no leniency of llhttp is ever set

    # The connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = HeldFlow(transport)
        self._address = self.client[0] if self.client else ""
        over = self.shared.enter(self._address)
        if over is not None:
            if self.shared.flooded:
                self.shared.counters.refuse("flooded")
                transport.abort()
                return
            self._refuse(Refusal(503, over, _TOO_MANY.format(over)))
            return
        self._set_deadline("head", self.shared.head_deadline_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self.shared.leave(self._address)
        self._deadline = _NEVER
        self._buffer.clear()
        cycle = cast("Cycle | None", self.cycle)
        if cycle is not None and cycle.on_gone is not None and not cycle.response_complete:
            cycle.on_gone()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        self._write_paused_at = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._write_paused_at = 0.0
        super().resume_writing()

    def shutdown(self) -> None:
        """Drain: an idle connection closes, a running answer ends with its connection, what was pipelined is dropped."""
        if self.cycle is None or self.cycle.response_complete:
            if self._reading is not Reading.LINGER:
                self.transport.close()
        else:
            self.cycle.keep_alive = False
            self.cycle.aborted_by_drain = True

    # Bytes in

    def data_received(self, data: bytes) -> None:
        self._read_at = mono_ns()
        reading = self._reading
        if reading is Reading.HEAD:
            self._head_bytes(data)
        elif reading is Reading.BODY:
            self._body_bytes(data)
        elif reading is Reading.ANSWERING:
            self._hold_pipeline(data)
        else:
            self._linger_bytes -= len(data)
            if self._linger_bytes < 0:
                self.transport.abort()

    def _head_bytes(self, data: bytes) -> None:
        """Whole heads go on; the beginning of one is kept, within its limits and its deadline."""
        if not self._buffer:
            end = data.find(HEAD_END) + 4
            if end > 3:
                if end == len(data):
                    self._begin(data, b"")
                else:
                    self._begin(data[:end], data[end:])
                return
            self._set_deadline("head", self.shared.head_deadline_s)
        self._buffer += data
        self._next_from_buffer()

    def _next_from_buffer(self) -> None:
        end = self._buffer.find(HEAD_END, max(0, self._searched - 3)) + 4
        if end > 3:
            head = bytes(self._buffer[:end])
            del self._buffer[:end]
            self._searched = 0
            self._begin(head, b"")
            return
        try:
            scan_partial_head(self._buffer, self._searched, self.limits)
        except FramingError as error:
            self._refuse(error.refusal)
            return
        self._searched = len(self._buffer)

    def _begin(self, head: bytes, rest: bytes) -> None:
        """A whole head: parse it, decide what follows, start the application on it, go on with what came behind it."""
        line: RequestLine | None = None
        try:
            line = scan_head(head, self.limits)
            self._parse_head(head)
            framing = read_framing(self.headers, line, self.limits)
        except FramingError as error:
            self._refuse(error.refusal, line)
            return
        except httptools.HttpParserError:
            self._refuse(Refusal(400, "malformed_head", "the request head is not valid HTTP"))
            return
        length = framing.length
        if self._message_done is not (length == 0) or self.url != line.target:
            self._refuse(_DISAGREEMENT)
            return
        self._start(line, framing)
        if length == 0:
            self._request_read()
            self._hold_pipeline(rest)
        elif length == len(rest):
            self._whole_body(rest)
        else:
            self._expect_body(framing)
            if self._buffer:
                rest = bytes(self._buffer)
                self._buffer.clear()
            if rest:
                self._body_bytes(rest)

    def _whole_body(self, body: bytes) -> None:
        """Head and body came together, as most do: nothing to wait for, no deadline to set."""
        self._reading = Reading.BODY
        try:
            self.parser.feed_data(body)
        except httptools.HttpParserError:
            self._refuse(Refusal(400, "malformed_body", "the request body is not valid HTTP"))
            return
        if self._message_done:
            self._request_read()
        else:
            self._refuse(_DISAGREEMENT)

    def _parse_head(self, head: bytes) -> None:
        self._head_done = self._message_done = False
        try:
            self.parser.feed_data(head)
        except httptools.HttpParserUpgrade:  # no protocol but HTTP is spoken here: the request goes on without its Upgrade
            self._new_parser()
            self._head_done = self._message_done = False
            lines = head.split(b"\r\n")
            self.parser.feed_data(b"\r\n".join(text for text in lines if not text.lower().startswith(b"upgrade:")))
        if not self._head_done:
            raise FramingError(400, "malformed_head", "the request head is not valid HTTP")
        if b" \r\n" in head or b"\t\r\n" in head:  # llhttp leaves blanks at the end of a value
            self.headers[:] = [(name, value.rstrip(b" \t")) for name, value in self.headers]

    def _expect_body(self, framing: Framing) -> None:
        self._reading = Reading.BODY
        self._received = 0
        self._chunked = ChunkedBody(self.limits) if framing.length is None else None
        self._remaining = framing.length or 0
        self._body_since = self.loop.time()
        self._set_deadline("body", self.shared.body_deadline_s)

    def _body_bytes(self, data: bytes) -> None:
        try:
            used = self._body_part(data)
            self.parser.feed_data(data if used == len(data) else data[:used])
        except FramingError as error:
            self._refuse(error.refusal)
            return
        except httptools.HttpParserError:
            self._refuse(Refusal(400, "malformed_body", "the request body is not valid HTTP"))
            return
        self._received += used
        done = self._chunked.done if self._chunked is not None else not self._remaining
        if done is not self._message_done:
            self._refuse(_DISAGREEMENT)
            return
        if done:
            self._request_read()
        if used < len(data):
            self.data_received(data[used:])

    def _body_part(self, data: bytes) -> int:
        if self._chunked is not None:
            return self._chunked.feed(data)
        used = min(len(data), self._remaining)
        self._remaining -= used
        return used

    def _request_read(self) -> None:
        self._deadline = _NEVER
        self._reading = Reading.ANSWERING
        self.cycle.whole_at = self._read_at

    def _hold_pipeline(self, data: bytes) -> None:
        """Bytes of later requests, kept up to a bound while one is answered."""
        self._buffer += data
        if len(self._buffer) > PIPELINED_BYTES_MAX:
            self.flow.pause_reading()
            self.flow.held = True

    # What the parser finds

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head_done:
            return  # a trailer: checked by ChunkedBody, and dropped, since nothing may add headers after the head was judged
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._head_done = True
        self._keeps_alive = self.parser.should_keep_alive()  # asked here: at the message's end the parser forgets

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._message_done = True
        if self._reading is Reading.BODY and not self.cycle.response_complete:
            self.cycle.more_body = False
            self.cycle.message_event.set()

    # The application

    def _start(self, line: RequestLine, framing: Framing) -> None:
        scope = self.scope
        raw_path, _, query = line.target.partition(b"?")
        path = raw_path.decode("ascii")
        scope["method"] = line.method.decode("ascii")
        scope["path"] = urllib.parse.unquote(path) if "%" in path else path
        scope["raw_path"] = raw_path
        scope["query_string"] = query
        if line.http_10:
            scope["http_version"] = "1.0"
        self._message_event.clear()
        self.cycle = (Cycle10 if line.http_10 else Cycle)(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=self._message_event,
            expect_100_continue=framing.expects_continue,
            keep_alive=self._keeps_alive and not line.http_10 and not self.shared.draining,
            on_response=self.on_response_complete,
        )
        if line.method != b"HEAD":  # whoever writes to the cycle itself writes bodies; an answer to HEAD must have none
            scope["extensions"] = {"headway": {"cycle": self.cycle}}
        if framing.length == 0:
            self.cycle.more_body = False
            self.cycle.message_event.set()
        self.cycle.arrived_at = self._read_at
        self.shared.counters.requests_total += 1
        task = self.loop.create_task(_run(self.cycle, self.app, self.tasks))
        self.cycle.task = task
        self.tasks.add(task)

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing() or self._reading is Reading.LINGER:
            return
        if self.cycle.closes:
            if self._reading is Reading.BODY or self._buffer:
                self._linger()
            else:
                self.transport.close()
            return
        self._reading = Reading.HEAD
        self._set_deadline("idle", self.shared.keep_alive_idle_s)
        if self.flow.read_paused:
            self.flow.held = False
            self.flow.resume_reading()
        if self._buffer:
            self._set_deadline("head", self.shared.head_deadline_s)
            self._searched = 0
            self._read_at = mono_ns()
            self._next_from_buffer()

    # Turning away

    def _refuse(self, refusal: Refusal, line: RequestLine | None = None) -> None:
        """Answer and end the connection. An answer that has begun is cut instead: nothing can be said in the middle of it."""
        self.shared.counters.refuse(refusal.code)
        path, cycle = line.target.decode("ascii", "replace") if line is not None else "", cast("Cycle | None", self.cycle)
        if cycle is not None and not cycle.response_complete:
            path = str(cycle.scope["path"])
            cycle.disconnected = True
            cycle.waiting_for_100_continue = False  # its application may yet ask for the body: nothing is written behind the end
            cycle.message_event.set()
            self.flow.resume_writing()
            if cycle.response_started:
                self.transport.abort()
                return
        kind = "server_error" if refusal.status >= 500 else "invalid_request_error"
        body = refusal_body(path, kind, refusal.code, refusal.message)
        retry = b"retry-after: 1\r\n" if refusal.status == 503 else b""
        head = b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%sconnection: close\r\n\r\n"
        self.transport.write(head % (refusal.status, HTTPStatus(refusal.status).phrase.encode(), len(body), retry) + body)
        self._linger()

    def _linger(self) -> None:
        """Say that nothing more comes, and drop what does: closing with bytes unread would reset the connection under the answer."""
        self._reading = Reading.LINGER
        self._buffer.clear()
        self._set_deadline("linger", LINGER_MS / 1e3)
        self.flow.held = False
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()

    # Deadlines

    def _set_deadline(self, name: str, seconds: float) -> None:
        self._deadline = self.loop.time() + seconds
        self._deadline_name = name

    def sweep(self, now: float, step: float) -> None:
        if self._write_paused_at and now - self._write_paused_at > self.shared.send_stall_s:
            self.shared.counters.close("send_stall")
            self.transport.abort()
        elif self.transport.is_closing():
            self._sweep_closing(now)
        elif self._reading is Reading.BODY:
            self._sweep_body(now, step)
        elif now >= self._deadline:
            self._expire(now)

    def _sweep_closing(self, now: float) -> None:
        """A closed connection whose last bytes nobody takes."""
        if not self._closing_at:
            self._closing_at = now
        elif now - self._closing_at > self.shared.send_stall_s:
            self.shared.counters.close("send_stall")
            self.transport.abort()

    def _sweep_body(self, now: float, step: float) -> None:
        if self.cycle.waiting_for_100_continue or self.flow.read_paused:
            self._deadline += step  # the caller waits for us, not we for it
            self._body_since += step
            return
        elapsed = now - self._body_since
        if now >= self._deadline:
            self._expire(now)
        elif elapsed > min(BODY_RATE_GRACE_MS / 1e3, self.shared.body_deadline_s / 4) and (
            self._received < elapsed * self.limits.body_rate_bytes_per_s_min
        ):
            self._deadline_name = "body_rate"
            self._expire(now)

    def _expire(self, now: float) -> None:
        name = self._deadline_name
        if name == "linger" and self.transport.get_write_buffer_size() and not self._closing_at:
            self._closing_at = now  # the answer is still being taken: it gets as long as any other
            self._deadline = now + self.shared.send_stall_s
            return
        self.shared.counters.close(name)
        if name == "linger":
            self.transport.abort()
        elif name == "idle" or (name == "head" and not self._buffer):
            self.transport.close()
        else:
            what = "head" if name == "head" else "body"
            self._refuse(Refusal(408, f"{name}_timeout", f"the request's {what} did not come in time"))
