"""The gateway's end of the link: snapshots and leases come down, facts, wishes and the live feed go up.

It connects, says Hello, and tries again for ever with a growing pause. While it is away, calls go on from the last snapshot. What may be
lost (the live feed) is dropped and counted when the queue is full; what may not (segments, settlements) is sent again.
"""

import asyncio
import contextlib
import itertools
import logging
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from headway.calls.admission.model import EndpointView
from headway.facts.model import AttemptFact, CallFact, Fact
from headway.facts.spool import Spool
from headway.gateway.flow import Flow
from headway.gateway.link_outbox import Outbox
from headway.gateway.services import Services
from headway.gateway.state import GatewayState
from headway.kernel.errors import HeadwayError
from headway.kernel.ids import new_id
from headway.kernel.instants import NS_PER_S, MonoNs, mono_ns, wall_ms
from headway.kernel.limits import (
    ADMISSION_TENANTS_SEEN_MAX,
    LEASE_TTL_S,
    LINK_RECONNECT_MS_MAX,
    LINK_SILENCE_MS_MAX,
    LIVE_FEED_CALLS_PER_S_MAX,
)
from headway.link import frames
from headway.link.messages import (
    AdmissionSeen,
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
    LeaseWanted,
    SegmentSent,
    SegmentStored,
    Snapshot,
)

log = logging.getLogger(__name__)
RECONNECT_MS_FIRST = 50
HEARTBEAT_S = 1.0
BEATS_A_METRICS_PAGE = 5
"""The page is made and sent with every so manieth heartbeat: nobody scrapes more often, and it costs more than the beat."""
FRAMES_A_WRITE = 64
FEED_GATHERED_S = 0.05
"""The live feed waits so long for company, so that many calls cost one write and wake control once."""
REPORT_S = 0.25
"""How often spending is reported, so that control can show and reconcile it."""
RENEW_S = LEASE_TTL_S / 4
"""A block that calls still hold is told of this often even if nothing was spent, which keeps it ours in the ledger."""
SEGMENTS_UNANSWERED_MAX = 1
"""Each is megabytes in memory on its way; one at a time is faster than any gateway writes them."""
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
        self._outbox = Outbox()
        self._wake = asyncio.Event()
        self._sent_segments: dict[str, float] = {}
        self._reported: dict[str, tuple[int, float]] = {}
        self._greeted = False
        self._away = False
        """Control could not be reached when it was last tried."""
        self._second = self._shown = 0
        self._admission_shown = False
        self._gathering: asyncio.TimerHandle | None = None

    # --- Feed

    def opened(self, flow: Flow) -> None:
        """Show a call that began, up to LIVE_FEED_CALLS_PER_S_MAX: nobody reads faster, and the facts hold every call."""
        scan = flow.scan
        if not self._state.link_up or scan is None:
            return
        flow.shown_live = self._may_show(flow.inbound.started) and self._best_effort(
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
        shown = flow.shown_live if flow.shown_live is not None else self._may_show(flow.inbound.started)
        if self._state.link_up and shown:
            call = facts[0]
            assert isinstance(call, CallFact)
            self._best_effort(CallSeen(fact=call, attempts=tuple(f for f in facts if isinstance(f, AttemptFact))))

    def _may_show(self, now: MonoNs) -> bool:
        second = now // NS_PER_S
        if second != self._second:
            self._second, self._shown = second, 0
        if self._shown >= LIVE_FEED_CALLS_PER_S_MAX:
            self._services.metrics.feed_shed.inc()
            return False
        self._shown += 1
        return True

    def ask_leases(self) -> None:
        """Send the book's wishes. Away from control they are refused at once, in words; while the link is being made they wait."""
        wishes = self._services.book.to_ask
        while wishes and (self._state.link_up or self._away):
            budget, amount = wishes.popleft()
            if self._state.link_up:
                self._outbox.wish(LeaseWanted(budget=budget, amount=amount, request=new_id("ask", wall_ms())))
                self._wake.set()
            else:
                self._services.book.refused(budget, "control is away and the leased blocks are used up", None, away=True)

    # --- the connection

    async def run(self) -> None:
        pause_ms = RECONNECT_MS_FIRST
        if self._state.link_lost_at is None:
            self._state.link_lost_at = mono_ns()
        while True:
            self._greeted = False
            try:
                reader, writer = await self._connect()
            except (OSError, ssl.SSLError) as error:
                self._away = True
                log.debug("control is away: %s", error)
            else:
                self._away = False
                await self._talk_until_lost(reader, writer)
            if self._greeted:
                pause_ms = RECONNECT_MS_FIRST
            await asyncio.sleep(pause_ms / 1000)
            pause_ms = min(LINK_RECONNECT_MS_MAX, pause_ms * 2)

    async def settle_and_close(self) -> None:
        """At a clean stop: give the blocks back, if control is there to take them."""
        for lease, spent, final in self._services.book.give_back():
            self._outbox.settle(lease, spent, final=final)
        self._wake.set()
        for _ in range(50):
            if not self._outbox or not self._state.link_up:
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

    async def _talk_until_lost(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._talk(reader, writer)
        except (OSError, HeadwayError, TimeoutError) as error:
            log.warning("the link to control broke: %s", error or "control does not read")
        except Exception:
            log.exception("the link to control broke by a fault of this gateway; it connects again")
        finally:
            self._lost()
            writer.close()

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
        await self._install(first)
        self._greeted = True
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
                await self._install(message)
            case KeysChanged():
                self._on_keys(message)
            case LeaseGranted():
                book.granted(message.lease, mono_ns())
            case LeaseRefused():
                away = message.resets_in_ms is None  # a budget that is spent knows when it is full again
                book.refused(message.budget, message.reason, message.resets_in_ms, away=away)
            case LeaseClosed():
                book.closed(message.lease)
            case SegmentStored():
                self._sent_segments.pop(message.segment, None)
                self._spool.stored(message.segment)
                self._wake.set()
            case Drain():
                self._on_drain()

    async def _install(self, snapshot: Snapshot) -> None:
        """A generation that this gateway cannot use leaves the old one in force; the link and its leases stay."""
        try:
            await self._on_snapshot(snapshot)
        except (HeadwayError, ValueError) as error:
            log.error("generation %d cannot be used by this gateway: %s", snapshot.generation, error)
            self._state.problems["generation"] = f"{snapshot.generation} cannot be used here: {error}"
        else:
            self._state.problems.pop("generation", None)

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._wake.wait()
            self._wake.clear()
            while waiting := self._outbox.pop_some(FRAMES_A_WRITE):
                writer.write(b"".join([frames.encode(message) for message in waiting]))
                await _drained(writer)
            await self._send_segments(writer)
            await _drained(writer)

    async def _send_segments(self, writer: asyncio.StreamWriter) -> None:
        now = asyncio.get_running_loop().time()
        waiting = self._spool.closed(SEGMENTS_UNANSWERED_MAX)
        self._sent_segments = {name: at for name, at in self._sent_segments.items() if name in waiting}
        for name in waiting:
            if now - self._sent_segments.get(name, float("-inf")) < RESEND_S:
                continue
            data = await asyncio.to_thread(self._spool.read, name)
            if data is not None:
                self._sent_segments[name] = now
                writer.write(frames.encode(SegmentSent(segment=name, data=data)))
                await _drained(writer)

    async def _beat(self) -> None:
        for beat in itertools.count():
            self._outbox.beat(
                Heartbeat(
                    at_wall_ms=wall_ms(),
                    in_flight=len(self._services.in_flight),
                    degraded=self._state.degraded(),
                    metrics="" if beat % BEATS_A_METRICS_PAGE else self._state.render_metrics(exemplars=True),
                )
            )
            self._see_admission()
            self._wake.set()
            await asyncio.sleep(HEARTBEAT_S)

    def _see_admission(self) -> None:
        """What the board shows of the queues. Once they were shown, their end is shown too. A fault in it costs no link."""
        try:
            views = tuple(shortened(view) for view in self._services.admission_views(mono_ns()))
        except Exception:
            log.exception("the state of admission cannot be told")
            self._state.problems["admission"] = "its state cannot be told; see gateway.log"
            return
        self._state.problems.pop("admission", None)
        if views or self._admission_shown:
            self._outbox.admission(AdmissionSeen(at_wall_ms=wall_ms(), endpoints=views))
        self._admission_shown = bool(views)

    async def _report(self) -> None:
        """Tell what each block has spent, when it has changed, is over or must be renewed."""
        while True:
            now_s = asyncio.get_running_loop().time()
            for lease, spent, final in self._services.book.reports(mono_ns()):
                told, at = self._reported.get(lease, (-1, 0.0))
                if final or told != spent or now_s - at >= RENEW_S:
                    self._outbox.settle(lease, spent, final=final)
                    self._wake.set()
                    if final:
                        self._reported.pop(lease, None)
                    else:
                        self._reported[lease] = (spent, now_s)
            await asyncio.sleep(REPORT_S)

    def _lost(self) -> None:
        if self._state.link_up:
            self._state.link_up, self._state.link_lost_at = False, mono_ns()
            self._services.metrics.link_breaks.inc()
        self._outbox.link_lost()
        self._reported.clear()
        self._services.book.forget_asked()

    def _best_effort(self, message: CallOpened | CallSeen) -> bool:
        if not self._outbox.feed(message):
            self._services.metrics.feed_shed.inc()
            return False
        if self._gathering is None:
            self._gathering = asyncio.get_running_loop().call_later(FEED_GATHERED_S, self._gathered)
        return True

    def _gathered(self) -> None:
        self._gathering = None
        self._wake.set()


def shortened(view: EndpointView) -> EndpointView:
    """With the ADMISSION_TENANTS_SEEN_MAX tenants that have most waiting, then most running, then most served."""
    if len(view.tenants) <= ADMISSION_TENANTS_SEEN_MAX:
        return view
    busiest = sorted(view.tenants, key=lambda t: (t.queued, t.running, t.served_tokens), reverse=True)
    return msgspec.structs.replace(view, tenants=tuple(busiest[:ADMISSION_TENANTS_SEEN_MAX]))


async def _drained(writer: asyncio.StreamWriter) -> None:
    """TimeoutError when control has not read for LINK_SILENCE_MS_MAX: the link is dropped and tried again."""
    async with asyncio.timeout(LINK_SILENCE_MS_MAX / 1000):
        await writer.drain()
