"""Bytes to the caller: at once, or held until a policy releases them. The first byte commits the answer.

Where no policy holds, ``say`` is one call through to the reply. Once one has held, everything goes through an outbox under a lock,
since a release may come from a timer while the stream's own task waits for the upstream.
"""

import asyncio

from headway.facts.model import SegmentFact
from headway.gateway.flow import Flow
from headway.gateway.heads import Headers
from headway.kernel.instants import mono_ns, ms_between, wall_ms
from headway.kernel.limits import HOLD_BYTES_MAX

SEGMENTS_MAX = 256
"""Stretches noted of one call; later ones go unnoted."""


async def commit(flow: Flow, status: int, headers: Headers) -> None:
    """Send the head. From here on failover is over."""
    flow.committed = True
    flow.status = status
    await flow.reply.start(status, headers + own_headers(flow))


async def say(flow: Flow, data: bytes) -> None:
    """Send or hold ``data``; the prepared head goes first."""
    if flow.holding:
        flow.write_lock = flow.write_lock or asyncio.Lock()
        flow.held.append(data)
        flow.held_bytes += len(data)
        if flow.held_bytes > HOLD_BYTES_MAX:
            flow.holds_released_full += 1
            flow.holding = False
            flush_held(flow, None, reason="hold full")
        return
    if flow.write_lock is not None:
        flow.outbox.append(data)
        await _drain(flow)
        return
    if not flow.committed and flow.head is not None:
        await commit(flow, *flow.head)
    flow.answer_bytes += len(data)
    await flow.reply.send(data)


def flush_held(flow: Flow, chunks: int | None, reason: str = "released") -> None:
    """Move the first ``chunks`` held chunks (None: all) to the outbox and send them from a task of their own."""
    count = len(flow.held) if chunks is None else min(chunks, len(flow.held))
    if not count:
        return
    moved, flow.held = flow.held[:count], flow.held[count:]
    size = sum(map(len, moved))
    flow.held_bytes -= size
    flow.outbox.extend(moved)
    note_segment(flow, "released", count, size, reason)
    flow.write_lock = flow.write_lock or asyncio.Lock()
    task = asyncio.get_running_loop().create_task(_drain(flow))
    flow.pending.add(task)
    task.add_done_callback(flow.pending.discard)


async def release_all(flow: Flow) -> None:
    """The answer is whole: what no policy withdrew goes out."""
    flow.holding = False
    if flow.write_lock is not None:
        if flow.held:
            note_segment(flow, "released", len(flow.held), flow.held_bytes, "answer ended")
            flow.outbox.extend(flow.held)
            flow.held, flow.held_bytes = [], 0
        await _drain(flow)


async def stop_pending(flow: Flow) -> None:
    """End what runs on the call's behalf and may still write to the caller, before somebody else does."""
    if pending := tuple(flow.pending):
        for task in pending:
            task.cancel()
        await asyncio.wait(pending)
    flow.outbox.clear()


def note_segment(flow: Flow, kind: str, chunks: int, size: int, reason: str) -> None:
    if len(flow.segments) < SEGMENTS_MAX:
        flow.segments.append(
            SegmentFact(
                call=flow.call,
                gateway="",
                at_wall_ms=wall_ms(),
                kind=kind,
                chunks=chunks,
                bytes=size,
                held_ms=ms_between(flow.held_since, mono_ns()) if flow.held_since is not None else 0.0,
                reason=reason,
            )
        )


async def _drain(flow: Flow) -> None:
    assert flow.write_lock is not None
    async with flow.write_lock:
        while flow.outbox:
            if not flow.committed and flow.head is not None:
                await commit(flow, *flow.head)
            data = flow.outbox.pop(0)
            flow.answer_bytes += len(data)
            await flow.reply.send(data)


def own_headers(flow: Flow) -> Headers:
    """What every answer carries: the call, who answered, by which generation, and what was lost on the way."""
    out: Headers = [(b"x-headway-call", flow.call.encode()), (b"x-headway-generation", flow.live.generation_bytes)]
    if flow.tracks:
        out.append((b"x-headway-answered", flow.tracks[-1].target.name_bytes))
    if flow.lost:
        out.append((b"x-headway-lost", ",".join(flow.lost)[:1_000].encode("ascii", "replace")))
    return out
