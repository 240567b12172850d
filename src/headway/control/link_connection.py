"""One gateway's connection: a reader, a bounded way out, and two lanes (leases, segments) so that a slow disk delays no lease."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

import msgspec

from headway.kernel.limits import LINK_QUEUE_FRAMES_MAX, LINK_SEGMENTS_WAITING_MAX, LINK_SILENCE_MS_MAX
from headway.link import frames
from headway.link.messages import (
    AdmissionSeen,
    CallOpened,
    CallSeen,
    Heartbeat,
    Hello,
    LeaseGranted,
    LeaseRefused,
    LeaseReturned,
    LeaseWanted,
    SegmentSent,
    SegmentStored,
    Up,
)

log = logging.getLogger(__name__)
Message = TypeVar("Message")
_READ_AHEAD_FRAMES = 64


class Desk(Protocol):
    """Who answers about leases: see ``leases.LeaseDesk``."""

    async def hello(self, gateway: str, open_leases: tuple[str, ...]) -> Sequence[str]: ...
    def gone(self, gateway: str) -> None: ...
    async def wanted(self, gateway: str, wish: LeaseWanted) -> LeaseGranted | LeaseRefused: ...
    async def returned(self, message: LeaseReturned) -> None: ...
    async def undelivered(self, granted: LeaseGranted) -> None: ...
    def heartbeat(self, gateway: str, at_wall_ms: int) -> None: ...
    def segment_came(self, gateway: str, segment: str) -> None: ...
    def segment_stored(self, gateway: str, segment: str) -> None: ...


def _not_shown(_gateway: str, _seen: AdmissionSeen) -> None:
    """Where nobody shows the state of admission."""


class Listeners(msgspec.Struct, frozen=True, kw_only=True):
    """What hears a gateway. ``store_segment`` returns when the data is durable and raises when it is not; the others must not block."""

    store_segment: Callable[[str, str, bytes], Awaitable[object]]
    on_opened: Callable[[str, CallOpened], None]
    on_seen: Callable[[str, CallSeen], None]
    on_heartbeat: Callable[[str, Heartbeat], None]
    on_admission: Callable[[str, AdmissionSeen], None] = _not_shown


class Connection:
    """Ends when either side closes, when nothing comes for LINK_SILENCE_MS_MAX, or when LINK_QUEUE_FRAMES_MAX frames wait to go out."""

    def __init__(
        self,
        gateway: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        desk: Desk,
        listeners: Listeners,
        heard: Callable[[str, Heartbeat], None],
    ) -> None:
        self.gateway = gateway
        self._reader, self._writer, self._desk, self._listeners, self._heard = reader, writer, desk, listeners, heard
        self._out: asyncio.Queue[bytes] = asyncio.Queue(LINK_QUEUE_FRAMES_MAX)
        self._lease_lane: asyncio.Queue[LeaseWanted | LeaseReturned] = asyncio.Queue(LINK_QUEUE_FRAMES_MAX)
        self._segment_lane: asyncio.Queue[SegmentSent] = asyncio.Queue(LINK_SEGMENTS_WAITING_MAX)
        self._open = True
        self._lease_work: asyncio.Task[None] | None = None
        self.segments_put_off = 0
        """Segments that came while LINK_SEGMENTS_WAITING_MAX waited: not taken, they come again."""

    def send(self, frame: bytes) -> bool:
        """Queue one frame; False when the link is closed, or has just been because the gateway does not read."""
        if not self._open:
            return False
        try:
            self._out.put_nowait(frame)
        except asyncio.QueueFull:
            log.warning("gateway %s does not read: %d frames wait, its link is dropped", self.gateway, LINK_QUEUE_FRAMES_MAX)
            self.abort()
            return False
        return True

    def abort(self) -> None:
        self._open = False
        self._writer.transport.abort()

    async def run(self) -> None:
        """Until the link ends. Raises LinkBroken or OSError when it does not end cleanly."""
        jobs = [asyncio.create_task(job) for job in (self._read(), self._write(), self._leases(), self._segments())]
        try:
            done, _ = await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._open = False
            for job in jobs[:2]:
                job.cancel()
            await self._finish_leases(jobs[2])
            jobs[3].cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
        for job in done:
            job.result()

    async def _finish_leases(self, lane: "asyncio.Task[None]") -> None:
        """What is with the ledger is finished, and returns that have arrived are settled, though their gateway is gone."""
        lane.cancel()
        await asyncio.gather(lane, return_exceptions=True)
        if self._lease_work is not None:
            await self._lease_work
        while not self._lease_lane.empty():
            message = self._lease_lane.get_nowait()
            if isinstance(message, LeaseReturned):
                await self._desk.returned(message)

    async def _read(self) -> None:
        while True:
            async with asyncio.timeout(LINK_SILENCE_MS_MAX / 1000):
                message = await frames.read_up(self._reader)
            if message is None:
                return
            self._take(message)

    def _take(self, message: Up) -> None:
        match message:
            case LeaseWanted() | LeaseReturned():
                self._put(self._lease_lane, message)
            case SegmentSent():
                self._desk.segment_came(self.gateway, message.segment)
                try:
                    self._segment_lane.put_nowait(message)
                except asyncio.QueueFull:
                    self.segments_put_off += 1
            case CallOpened():
                self._listeners.on_opened(self.gateway, message)
            case CallSeen():
                self._listeners.on_seen(self.gateway, message)
            case AdmissionSeen():
                self._listeners.on_admission(self.gateway, message)
            case Heartbeat():
                self._desk.heartbeat(self.gateway, message.at_wall_ms)
                self._heard(self.gateway, message)
                self._listeners.on_heartbeat(self.gateway, message)
            case Hello():
                raise frames.LinkBroken(f"gateway {self.gateway} said Hello twice")

    def _put(self, lane: "asyncio.Queue[Message]", message: Message) -> None:
        try:
            lane.put_nowait(message)
        except asyncio.QueueFull:
            raise frames.LinkBroken(f"gateway {self.gateway} sends faster than the ledger writes") from None

    async def _write(self) -> None:
        while True:
            self._writer.write(await self._out.get())
            for _ in range(_READ_AHEAD_FRAMES):
                if self._out.empty():
                    break
                self._writer.write(self._out.get_nowait())
            await self._writer.drain()

    async def _leases(self) -> None:
        while True:
            message = await self._lease_lane.get()
            # Shielded: once it is with the ledger it is done whole, and a grant that cannot be sent is given back.
            work = self._returned(message) if isinstance(message, LeaseReturned) else self._granted(message)
            self._lease_work = asyncio.create_task(work)
            await asyncio.shield(self._lease_work)

    async def _returned(self, message: LeaseReturned) -> None:
        await self._desk.returned(message)

    async def _granted(self, wish: LeaseWanted) -> None:
        answer = await self._desk.wanted(self.gateway, wish)
        if not self.send(frames.encode(answer)) and isinstance(answer, LeaseGranted):
            await self._desk.undelivered(answer)

    async def _segments(self) -> None:
        while True:
            sent = await self._segment_lane.get()
            if await self._stored(sent):
                self._desk.segment_stored(self.gateway, sent.segment)
                self.send(frames.encode(SegmentStored(segment=sent.segment)))

    async def _stored(self, sent: SegmentSent) -> bool:
        storing: Awaitable[object] = self._listeners.store_segment(self.gateway, sent.segment, sent.data)
        try:
            await storing
        except Exception as error:  # noqa: BLE001  whatever it was, the segment is not durable: no answer, and it comes again
            log.error("segment %s of gateway %s could not be stored and will come again: %s", sent.segment, self.gateway, error)
            return False
        return True
