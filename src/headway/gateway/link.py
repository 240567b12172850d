"""The gateway's end of the link: snapshots and leases come down, facts, wishes and the live feed go up.

It connects, says Hello, and tries again for ever with a growing pause. While it is away, calls go on from the last snapshot. What may be
lost (the live feed) is dropped and counted when the queue is full; what may not (segments, settlements) is sent again until answered.
"""

import asyncio
import contextlib
import logging
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from headway.facts.model import AttemptFact, CallFact, Fact
from headway.facts.spool import Spool
from headway.gateway.flow import Flow
from headway.gateway.services import Services
from headway.gateway.state import GatewayState
from headway.kernel.ids import new_id
from headway.kernel.instants import mono_ns, wall_ms
from headway.kernel.limits import LINK_QUEUE_FRAMES_MAX, LINK_RECONNECT_MS_MAX
from headway.link import frames
from headway.link.messages import (
    CallOpened,
    CallSeen,
    Down,
    Drain,
    Heartbeat,
    Hello,
    KeysChanged,
    LeaseClosed,
    LeaseGranted,
    LeaseRefused,
    LeaseReturned,
    LeaseWanted,
    SegmentSent,
    SegmentStored,
    Snapshot,
    Up,
)

log = logging.getLogger(__name__)
RECONNECT_MS_FIRST = 50
HEARTBEAT_S = 1.0
REPORT_S = 0.25
"""How often spending is reported, so that control can show and reconcile it."""
SEGMENTS_UNANSWERED_MAX = 4
RESEND_S = 15.0


@dataclass(frozen=True, slots=True)
class LinkAddress:
    """Where control listens: a Unix socket, or host and port under TLS with a token."""

    path: Path | None = None
    host: str = ""
    port: int = 0
    tls: ssl.SSLContext | None = None
    token: str = ""


class ControlLink:
    """Also the pipeline's Feed. ``run`` lives as long as the gateway."""

    def __init__(
        self,
        address: LinkAddress,
        services: Services,
        state: GatewayState,
        spool: Spool,
        *,
        version: str,
        schema_version: int,
        on_snapshot: Callable[[Snapshot], Awaitable[None]],
        on_keys: Callable[[KeysChanged], None],
        on_drain: Callable[[], None],
    ) -> None:
        self._address, self._services, self._state, self._spool = address, services, state, spool
        self._version, self._schema_version = version, schema_version
        self._on_snapshot, self._on_keys, self._on_drain = on_snapshot, on_keys, on_drain
        self._queue: deque[Up] = deque()
        self._wake = asyncio.Event()
        self._sent_segments: dict[str, float] = {}
        self._reported: dict[str, int] = {}

    # --- Feed

    def opened(self, flow: Flow) -> None:
        scan = flow.scan
        if self._state.link_up and scan is not None:
            self._best_effort(
                CallOpened(
                    call=flow.call,
                    started_wall_ms=flow.inbound.started_wall,
                    tenant=flow.caller.tenant,
                    feature=flow.route.feature if flow.route is not None else "",
                    requested=scan.model[:200],
                    dialect=flow.dialect.name,
                    stream=scan.stream,
                    origin=flow.origin,
                )
            )

    def closed(self, flow: Flow, facts: list[Fact]) -> None:
        if self._state.link_up:
            call = facts[0]
            assert isinstance(call, CallFact)
            self._best_effort(CallSeen(fact=call, attempts=tuple(f for f in facts if isinstance(f, AttemptFact))))

    def ask_leases(self) -> None:
        """Send the book's wishes. Away from control they are refused at once, in words."""
        wishes = self._services.book.to_ask
        while wishes:
            budget, amount = wishes.popleft()
            if self._state.link_up:
                self._put(LeaseWanted(budget=budget, amount=amount, request=new_id("ask", wall_ms())))
            else:
                self._services.book.refused(budget, "control is away and the leased blocks are used up", None)

    # --- the connection

    async def run(self) -> None:
        pause_ms = RECONNECT_MS_FIRST
        self._state.link_lost_at = mono_ns()
        while True:
            try:
                reader, writer = await self._connect()
            except (OSError, ssl.SSLError) as error:
                log.debug("control is away: %s", error)
                await asyncio.sleep(pause_ms / 1000)
                pause_ms = min(LINK_RECONNECT_MS_MAX, pause_ms * 2)
                continue
            pause_ms = RECONNECT_MS_FIRST
            try:
                await self._talk(reader, writer)
            except (OSError, frames.LinkBroken) as error:
                log.warning("the link to control broke: %s", error)
            finally:
                self._lost()
                writer.close()
            await asyncio.sleep(pause_ms / 1000)

    async def settle_and_close(self) -> None:
        """At a clean stop: give the blocks back, if control is there to take them."""
        for lease, spent, final in self._services.book.give_back():
            self._put(LeaseReturned(lease=lease, spent=spent, final=final))
        for _ in range(50):
            if not self._queue or not self._state.link_up:
                return
            await asyncio.sleep(0.01)

    def poke(self) -> None:
        """A segment is ready (called from the spool's thread through ``call_soon_threadsafe``)."""
        self._wake.set()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        where = self._address
        if where.path is not None:
            return await asyncio.open_unix_connection(str(where.path))
        return await asyncio.open_connection(where.host, where.port, ssl=where.tls)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        live = self._services.live
        writer.write(
            frames.encode(
                Hello(
                    gateway=self._services.gateway,
                    version=self._version,
                    schema_version=self._schema_version,
                    generation=live.generation if live is not None else 0,
                    token=self._address.token,
                    open_leases=self._services.book.open_leases(),
                )
            )
        )
        await writer.drain()
        first = await frames.read_down(reader)
        if not isinstance(first, Snapshot):
            raise frames.LinkBroken("control did not answer with a snapshot" if first is not None else "control closed the link")
        await self._on_snapshot(first)
        self._state.link_up, self._state.link_lost_at = True, None
        self._sent_segments.clear()
        jobs = [asyncio.create_task(job) for job in (self._receive(reader), self._send(writer), self._beat(), self._report())]
        try:
            done, _ = await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
        for job in done:
            job.result()

    async def _receive(self, reader: asyncio.StreamReader) -> None:
        while (message := await frames.read_down(reader)) is not None:
            await self._take(message)

    async def _take(self, message: Down) -> None:
        book = self._services.book
        match message:
            case Snapshot():
                await self._on_snapshot(message)
            case KeysChanged():
                self._on_keys(message)
            case LeaseGranted():
                book.granted(message.lease, mono_ns())
            case LeaseRefused():
                book.refused(message.budget, message.reason, message.resets_in_ms)
            case LeaseClosed():
                book.closed(message.lease)
            case SegmentStored():
                self._sent_segments.pop(message.segment, None)
                self._spool.stored(message.segment)
                self._wake.set()
            case Drain():
                self._on_drain()

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._wake.wait()
            self._wake.clear()
            while self._queue:
                writer.write(frames.encode(self._queue.popleft()))
                if not len(self._queue) % 64:
                    await writer.drain()
            await self._send_segments(writer)
            await writer.drain()

    async def _send_segments(self, writer: asyncio.StreamWriter) -> None:
        now = asyncio.get_running_loop().time()
        for name in self._spool.closed(SEGMENTS_UNANSWERED_MAX):
            if now - self._sent_segments.get(name, float("-inf")) < RESEND_S:
                continue
            data = await asyncio.to_thread(self._spool.read, name)
            if data is not None:
                self._sent_segments[name] = now
                writer.write(frames.encode(SegmentSent(segment=name, data=data)))
                await writer.drain()

    async def _beat(self) -> None:
        while True:
            self._put(
                Heartbeat(
                    at_wall_ms=wall_ms(),
                    in_flight=len(self._services.in_flight),
                    degraded=self._state.degraded(),
                    metrics=self._state.render_metrics(),
                )
            )
            await asyncio.sleep(HEARTBEAT_S)

    async def _report(self) -> None:
        """Tell what each block has spent, when it has changed or is over."""
        while True:
            for lease, spent, final in self._services.book.reports(mono_ns()):
                if final or self._reported.get(lease) != spent:
                    self._put(LeaseReturned(lease=lease, spent=spent, final=final))
                    if final:
                        self._reported.pop(lease, None)
                    else:
                        self._reported[lease] = spent
            await asyncio.sleep(REPORT_S)

    def _lost(self) -> None:
        if self._state.link_up:
            self._state.link_up, self._state.link_lost_at = False, mono_ns()
            self._services.metrics.link_breaks.inc()
        self._queue = deque(m for m in self._queue if isinstance(m, LeaseReturned))
        self._reported.clear()
        self._services.book.forget_asked()

    def _best_effort(self, message: CallOpened | CallSeen) -> None:
        if len(self._queue) >= LINK_QUEUE_FRAMES_MAX:
            self._services.metrics.feed_shed.inc()
        else:
            self._put(message)

    def _put(self, message: Up) -> None:
        self._queue.append(message)
        self._wake.set()
