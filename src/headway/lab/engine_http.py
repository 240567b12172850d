"""The simulated engine on a real socket, at real or scaled time: an upstream that stalls, batches and caches as a machine would.

It speaks OpenAI chat completions, whole and streamed, and says of itself what vLLM says. ``headway lab engine`` runs it. The engine's
steps are computed at once and told when their time has come; while it is busy its own clock runs without gaps, so that what the loop is
late by does not add up. Where a caller reads slowly, its answer waits in the socket's buffer: at most one answer's bytes a request.
"""

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Final

import msgspec

from headway.config.addresses import reach
from headway.kernel.instants import NS_PER_S
from headway.kernel.limits import BODY_BYTES_MAX, LAB_ENGINE_CONNECTIONS_MAX, LAB_ENGINE_WAITING_MAX, LISTEN_BACKLOG
from headway.lab import engine_http_answer as answer
from headway.lab.engine.engine import ContinuousEngine
from headway.lab.engine.model import EngineEvent, EngineRequest
from headway.lab.engine.settings import EngineRefusal
from headway.lab.engine_http_ask import Ask, BadAsk, read_ask
from headway.lab.engine_http_metrics import EngineMetrics
from headway.lab.engine_http_profiles import EngineProfile
from headway.lab.scripted_wire import Connection, Request, head_bytes

CHAT_PATH: Final = "/v1/chat/completions"
BYTES_A_TOKEN: Final = 4
LATE_S_MAX: Final = 1.0
"""Further behind the wall clock than this, the engine gives up catching up."""
SSE: Final = "text/event-stream; charset=utf-8"
TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"


class _Call:
    """One request in the engine. Instants are nanoseconds of the monotonic clock."""

    __slots__ = ("arrived", "ask", "cached", "chunks", "connection", "created_s", "id", "last", "sent")

    def __init__(self, number: int, ask: Ask, connection: Connection) -> None:
        self.id = f"chatcmpl-lab{number}"
        self.created_s = int(time.time())
        self.ask, self.connection = ask, connection
        self.chunks = answer.Chunks(self.id, self.created_s, ask)
        self.arrived = self.last = time.monotonic_ns()
        self.sent = self.cached = 0


class EngineServer:
    """One engine and its callers. ``speed`` 10 lets ten seconds of the engine pass in one of the wall clock."""

    def __init__(
        self,
        profile: EngineProfile,
        *,
        model: str = "",
        speed: float = 1.0,
        waiting_max: int = LAB_ENGINE_WAITING_MAX,
        bytes_a_token: int = BYTES_A_TOKEN,
    ) -> None:
        """EngineRefusal when the profile's settings make no engine."""
        self.profile, self.model, self.speed = profile, model or profile.name, speed
        self.engine = ContinuousEngine(profile.settings, profile.time, token_events=True)
        self.metrics = EngineMetrics()
        self._waiting_max, self._bytes_a_token = waiting_max, bytes_a_token
        self._calls: dict[str, _Call] = {}
        self._connections: dict[int, Connection] = {}
        self._numbers = 0
        self._work = asyncio.Event()
        self._began_ns = time.monotonic_ns()

    # --- time

    async def run(self) -> None:
        """Step the engine until cancelled."""
        while True:
            await self._work.wait()
            at = self._clock()
            while self.engine.busy:
                at, events = self.engine.step(max(at, self._clock() - int(LATE_S_MAX * NS_PER_S * self.speed)))
                await asyncio.sleep(max(0.0, (at - self._clock()) / NS_PER_S / self.speed))
                work = self.engine.last_work
                self.metrics.step_tokens.observe(work.decodes + sum(chunk for chunk, _ in work.chunks))
                self._deliver(events)
            self._work.clear()

    def _clock(self) -> int:
        """The engine's clock now, in nanoseconds since it was made."""
        return int((time.monotonic_ns() - self._began_ns) * self.speed)

    # --- callers

    def connection(self) -> Connection:
        self._numbers += 1
        made = Connection(self._serve, partial(self._changed, self._numbers), self._numbers)
        self._connections[self._numbers] = made
        return made

    def close(self) -> None:
        """Break off every caller."""
        for connection in list(self._connections.values()):
            connection.transport.abort()

    def _changed(self, number: int, change: int) -> None:
        if change < 0:
            del self._connections[number]
        elif len(self._connections) > LAB_ENGINE_CONNECTIONS_MAX:
            self._connections[number].transport.abort()

    def _serve(self, connection: Connection, request: Request) -> None:
        path = request.target.partition("?")[0]
        if path == CHAT_PATH and request.method == "POST":
            self._chat(connection, request.body)
        elif request.method != "GET":
            self._refuse(connection, 404, "NotFoundError", f"this engine has no {request.method} {path}")
        elif path == "/health":
            self._say(connection, 200, b"")
        elif path == "/metrics":
            self._say(connection, 200, self._metrics_text(), TEXT)
        elif path == "/v1/models":
            self._say(connection, 200, answer.models(self.model, int(time.time()), self.profile.context_tokens_max))
        else:
            self._refuse(connection, 404, "NotFoundError", f"this engine has no GET {path}")

    def _chat(self, connection: Connection, body: bytes) -> None:
        if len(body) > BODY_BYTES_MAX:
            self._refuse(connection, 413, "BadRequestError", f"the body is over {BODY_BYTES_MAX} bytes")
            return
        try:
            ask = read_ask(
                body,
                bytes_a_token=self._bytes_a_token,
                block_tokens=self.profile.settings.block_tokens,
                context_tokens_max=self.profile.context_tokens_max,
            )
        except BadAsk as error:
            self._refuse(connection, 400, "BadRequestError", str(error))
            return
        if ask.model != self.model:
            self._refuse(
                connection, 404, "NotFoundError", f"the model {ask.model!r} does not exist; this engine serves {self.model}"
            )
            return
        if self.engine.waiting >= self._waiting_max:
            self.metrics.refused += 1
            self._refuse(connection, 503, "ServiceUnavailable", f"{self._waiting_max} requests wait already", retry_after_s=1)
            return
        self._submit(connection, ask)

    def _submit(self, connection: Connection, ask: Ask) -> None:
        self._numbers += 1
        call = _Call(self._numbers, ask, connection)
        request = EngineRequest(
            id=call.id,
            prompt_tokens=ask.prompt_tokens,
            output_tokens=ask.output_tokens,
            blocks=ask.blocks,
            priority=ask.priority,
        )
        try:
            self.engine.submit(request, self._clock())
        except EngineRefusal as error:
            self._refuse(connection, 400, "BadRequestError", str(error))
            return
        self.metrics.prompt_tokens += ask.prompt_tokens
        self._calls[call.id] = call
        connection.on_gone = partial(self._gone, call)
        self._work.set()

    def _gone(self, call: _Call) -> None:
        if self._calls.pop(call.id, None) is not None:
            self.engine.abort(call.id)
            self.metrics.ended["abort"] += 1

    # --- answers

    def _deliver(self, events: Sequence[EngineEvent]) -> None:
        now = time.monotonic_ns()
        for event in events:
            call = self._calls.get(event.id)
            if call is None or event.kind == "preempted":
                continue
            if event.kind == "first":
                call.cached = event.cached_tokens
                self.metrics.ttft_s.observe((now - call.arrived) / NS_PER_S)
                self._begin(call)
            elif event.kind == "token":
                self.metrics.gap_s.observe((now - call.last) / NS_PER_S)
            call.last = now
            self._send_upto(call, event.output_tokens)
            if event.kind == "finished":
                self._end(call, now)

    def _begin(self, call: _Call) -> None:
        if call.ask.stream:
            head = head_bytes(200, [("content-type", SSE), ("transfer-encoding", "chunked"), ("cache-control", "no-cache")])
            call.connection.transport.write(head + _chunk(call.chunks.opening()))

    def _send_upto(self, call: _Call, tokens: int) -> None:
        if call.ask.stream and tokens > call.sent:
            call.connection.transport.write(_chunk(call.chunks.tokens(call.sent, tokens)))
        call.sent = max(call.sent, tokens)

    def _end(self, call: _Call, now: int) -> None:
        del self._calls[call.id]
        self.metrics.ended[answer.finish_reason(call.ask)] += 1
        self.metrics.latency_s.observe((now - call.arrived) / NS_PER_S)
        if call.ask.stream:
            call.connection.transport.write(_chunk(call.chunks.closing(call.cached)) + b"0\r\n\r\n")
            call.connection.finished()
        else:
            self._say(call.connection, 200, answer.whole(call.id, call.created_s, call.ask, call.cached))

    def _refuse(self, connection: Connection, status: int, kind: str, message: str, *, retry_after_s: int | None = None) -> None:
        more = [] if retry_after_s is None else [("retry-after", str(retry_after_s))]
        self._say(connection, status, answer.error(status, kind, message), more=more)

    def _say(
        self,
        connection: Connection,
        status: int,
        body: bytes,
        kind: str = "application/json",
        *,
        more: Sequence[tuple[str, str]] = (),
    ) -> None:
        head = head_bytes(status, [("content-type", kind), ("content-length", str(len(body))), *more])
        connection.transport.write(head + body)
        connection.finished()

    def _metrics_text(self) -> bytes:
        engine, scheduler = self.engine, self.engine.scheduler
        return self.metrics.text(
            self.model,
            running=engine.running,
            waiting=engine.waiting,
            kv_usage=engine.kv_usage,
            cache_queried=scheduler.prompt_tokens_queried,
            cache_hit=scheduler.prompt_tokens_cached,
            preemptions=scheduler.preemptions,
            produced=scheduler.tokens_produced,
            kv_blocks=self.profile.settings.kv_blocks,
            block_tokens=self.profile.settings.block_tokens,
        )


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@contextlib.asynccontextmanager
async def listening(server: EngineServer, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """The engine steps and is reachable; gives its base URL. Callers are broken off at the end."""
    sockets = await asyncio.get_running_loop().create_server(server.connection, host, port, backlog=LISTEN_BACKLOG)
    stepping = asyncio.create_task(server.run())
    try:
        bound = sockets.sockets[0].getsockname()[1]
        yield reach(f"[{host}]:{bound}" if ":" in host else f"{host}:{bound}")
    finally:
        sockets.close()
        stepping.cancel()
        server.close()


async def serve(server: EngineServer, host: str, port: int, say: Callable[[str], None]) -> None:
    """Until SIGINT or SIGTERM. OSError when the address cannot be had."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with listening(server, host, port) as url:
        say(url)
        await stop.wait()


def with_settings(profile: EngineProfile, **given: object) -> EngineProfile:
    """``profile`` with those engine settings that are not None."""
    chosen = {name: value for name, value in given.items() if value is not None}
    return msgspec.structs.replace(profile, settings=msgspec.structs.replace(profile.settings, **chosen))
