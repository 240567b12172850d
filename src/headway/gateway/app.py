"""The gateway as a bare ASGI application: routes, bodies in, replies out, and who has gone.

ASGI's ``send`` never raises for a caller that went away, so its going is watched for: by the listener's own cycle
(``scope["extensions"]["headway"]["cycle"]``, which costs nothing a call), else by a task that waits on ``receive``.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

import msgspec

from headway.calls.conversation import DialectName
from headway.gateway import opaque
from headway.gateway.flow import Inbound, Reply
from headway.gateway.heads import refusal_headers
from headway.gateway.identify import from_this_machine, identify, unknown_headway_headers
from headway.gateway.listener.cycle import Cycle
from headway.gateway.listing import feedback, list_models
from headway.gateway.live import Live
from headway.gateway.pipeline import Pipeline, Run
from headway.gateway.replies import EndableReply, Send, reply_on
from headway.gateway.services import Services
from headway.gateway.state import GatewayState
from headway.kernel.errors import BadRequest, CallError, MethodNotAllowed, NotFound, Overloaded, TooLarge
from headway.kernel.instants import mono_ns, wall_ms
from headway.kernel.openmetrics import page_for, wants_openmetrics

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

CALLS: Final = {
    "/v1/chat/completions": DialectName.OPENAI_CHAT,
    "/v1/responses": DialectName.OPENAI_RESPONSES,
    "/v1/messages": DialectName.ANTHROPIC,
}
FEEDBACK: Final = "/v1/headway/feedback"
READ: Final = ("GET", "HEAD")
ALLOWED_METHODS: Final = dict.fromkeys((*CALLS, FEEDBACK), ("POST",)) | dict.fromkeys(
    ("/v1/models", "/health/live", "/health/ready", "/metrics"), READ
)
STARTING: Final = "this gateway has no configuration yet: control has not answered since it started; `headway check` explains"
OUT_OF_GRACE: Final = (
    "control has been away for longer than gateway.snapshot_grace_s: nobody vouches for this gateway's keys and budgets any more"
)


class GatewayApp:
    """ASGI entry. Holds no state of its own but what it was built with."""

    def __init__(self, services: Services, state: GatewayState) -> None:
        self.services = services
        self.state = state
        self.pipeline = Pipeline(services)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path = _normal(scope["path"])
        dialect = CALLS.get(path)
        reply, cycle = reply_on(scope, send)
        try:
            if dialect is not None and scope["method"] == "POST":
                await self._call(scope, receive, reply, cycle, path, dialect, None)
            elif opaque.allowed(scope["method"], path):
                await self._call(scope, receive, reply, cycle, path, opaque.dialect_of(path), self.pipeline.run_opaque)
            else:
                await self._other(scope, receive, reply, path)
        except CallError as error:
            await self._refuse(reply, error, dialect or _dialect_of(scope, path))

    async def _call(
        self, scope: Scope, receive: Receive, reply: Reply, cycle: Cycle | None, path: str, dialect: DialectName, run: Run | None
    ) -> None:
        inbound = await _read(self._inbound(scope, path, cycle), receive, self.state.body_bytes_max, cycle)
        live = self._live()
        if cycle is not None:
            if cycle.flow.read_paused:  # by a large body; only by reading can one see a caller go
                cycle.flow.resume_reading()
            await self.pipeline.handle(inbound, reply, dialect, live, cycle, run)
            return
        watch = Watch(asyncio.current_task())  # on servers that tell of a caller's going only by ``receive``
        watcher = asyncio.ensure_future(_wait_gone(receive, watch))
        try:
            await self.pipeline.handle(inbound, reply, dialect, live, watch, run)
        finally:
            watcher.cancel()

    async def _other(self, scope: Scope, receive: Receive, reply: EndableReply, path: str) -> None:
        method = scope["method"]
        takes = READ if path.startswith("/v1/models/") else ALLOWED_METHODS.get(path) or opaque.methods(path)
        if not takes:
            raise NotFound(f"no route {method} {path[:200]}; routes are in docs/reference and begin with /v1/")
        if method not in takes:
            raise MethodNotAllowed(path[:200], takes)
        if path == "/health/live":
            await _json(reply, 200, {"status": "live"})
        elif path == "/health/ready":
            status, detail = self.state.readiness(self.services)
            await _json(reply, status, detail)
        elif path == "/metrics":
            await self._metrics(scope, reply)
        elif path == FEEDBACK:
            inbound = await _read(self._inbound(scope, path), receive, self.state.body_bytes_max)
            await _json(reply, 202, feedback(self.services, inbound, self._live()))
        else:
            await self._models(scope, reply, path)

    async def _models(self, scope: Scope, reply: EndableReply, path: str) -> None:
        inbound = self._inbound(scope, path)
        live = self._live()
        caller = identify(inbound, live, inbound.started_wall)
        await _json(reply, 200, list_models(live, caller, path, anthropic=b"anthropic-version" in inbound.headers))

    async def _metrics(self, scope: Scope, reply: EndableReply) -> None:
        if not from_this_machine((scope.get("client") or ("",))[0], dict(scope["headers"])):
            raise NotFound("metrics are served on this machine only; control serves those of every gateway")
        told = dict(scope["headers"]).get(b"accept", b"").decode("latin-1")
        page, kind = page_for(told, self.state.render_metrics(exemplars=wants_openmetrics(told)))
        await reply.start(200, [(b"content-type", kind.encode())])
        await reply.end(page.encode())

    async def _refuse(self, reply: EndableReply, error: CallError, dialect: DialectName) -> None:
        self.state.refuse(error.reason)
        if reply.started:
            await reply.abort()
            return
        live = self.services.live
        generation = [] if live is None else [(b"x-headway-generation", live.generation_bytes)]
        await reply.start(error.http_status, refusal_headers(error) + generation)
        await reply.end(self.services.dialects[dialect].error_body(error, request_id=""))

    def _live(self) -> Live:
        live = self.services.live
        if live is None:
            raise Overloaded(STARTING, retry_after_ms=1_000)
        if not self.state.link_up and self.state.past_grace():
            raise Overloaded(OUT_OF_GRACE, retry_after_ms=1_000, code="out_of_grace")
        return live

    def _inbound(self, scope: Scope, path: str, cycle: Cycle | None = None) -> Inbound:
        headers = dict(reversed(scope["headers"]))  # of a repeated name the first counts
        if stripped := unknown_headway_headers(headers):
            self.services.metrics.headers_stripped.inc(stripped)
        client = scope.get("client")
        started = mono_ns() if cycle is None else cycle.arrived_at  # reading the head and starting a task is our time too
        return Inbound(scope["method"], path, headers, b"", client[0] if client else "", started, wall_ms())


class Watch:
    """Told when the caller goes; see ``pipeline.CallerWatch``."""

    __slots__ = ("disconnected", "on_gone", "task")

    def __init__(self, task: "asyncio.Task[None] | None") -> None:
        self.task = task
        self.disconnected = False
        self.on_gone: Callable[[], None] | None = None


async def _wait_gone(receive: Receive, watch: Watch) -> None:
    message = await receive()
    if message["type"] == "http.disconnect":
        watch.disconnected = True
        if watch.on_gone is not None:
            watch.on_gone()


def _normal(path: str) -> str:
    """Clients write the base URL with or without ``/v1``, and some add it twice."""
    if path.startswith("/v1/v1/"):
        return path[3:]
    if path.startswith(("/v1/", "/health/")) or path == "/metrics":
        return path
    return "/v1" + path


def _dialect_of(scope: Scope, path: str) -> DialectName:
    """The dialect of an error where the path alone does not say it: Anthropic's clients always name a version."""
    anthropic = any(name == b"anthropic-version" for name, _ in scope["headers"])
    return DialectName.ANTHROPIC if anthropic else opaque.dialect_of(path)


async def _read(inbound: Inbound, receive: Receive, bytes_max: int, cycle: Cycle | None = None) -> Inbound:
    """The whole body. TooLarge before memory is taken for it; BadRequest for an encoded one."""
    if inbound.headers.get(b"content-encoding", b"identity") != b"identity":
        raise BadRequest(
            "send the body without content-encoding", status=415, code="unsupported_encoding", param="content-encoding"
        )
    if cycle is not None and not cycle.more_body and not cycle.disconnected:  # it came whole: nothing to wait for
        inbound.body, cycle.body = bytes(cycle.body), bytearray()
        inbound.whole = cycle.whole_at
        return _checked_size(inbound, bytes_max)
    message = await _part(receive)
    inbound.body = message.get("body", b"")
    if message.get("more_body"):
        parts, size = [inbound.body], len(inbound.body)
        while message.get("more_body") and size <= bytes_max:
            message = await _part(receive)
            parts.append(message.get("body", b""))
            size += len(parts[-1])
        inbound.body = b"".join(parts)
    inbound.whole = mono_ns() if cycle is None else cycle.whole_at
    return _checked_size(inbound, bytes_max)


async def _part(receive: Receive) -> MutableMapping[str, Any]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise BadRequest("the connection ended inside the body")
    return message


def _checked_size(inbound: Inbound, bytes_max: int) -> Inbound:
    if len(inbound.body) > bytes_max:
        raise TooLarge(f"the body is larger than {bytes_max} bytes (gateway.limits.body_bytes_max)")
    return inbound


async def _json(reply: EndableReply, status: int, value: object) -> None:
    await reply.start(status, [(b"content-type", b"application/json")])
    await reply.end(msgspec.json.encode(value))
