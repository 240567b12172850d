"""The part of a scripted answer that takes time: delays, pings, splits, cuts and silences, on one connection."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Iterator

from headway.lab.scripted_reply import Reply
from headway.lab.scripted_script import Script
from headway.lab.scripted_seen import Record
from headway.lab.scripted_wire import Connection, head_bytes

FOR_EVER_S = 24 * 3600.0


class Cut(Exception):
    """The script wants the connection broken here."""


def is_simple(reply: Reply, script: Script) -> bool:
    """A plain body with nothing to wait for can go out at once."""
    return reply.events is None and not (
        script.head_delay_ms
        or script.split_at
        or script.split_bytes
        or script.drop_request
        or script.silence_after is not None
        or script.cut_bytes is not None
        or script.cut_after is not None
    )


def send_simple(connection: Connection, reply: Reply, record: Record) -> None:
    headers = _headers(reply, [("content-length", str(len(reply.body)))])
    connection.transport.write(head_bytes(reply.status, headers) + reply.body)
    record.first_sent_ns = time.monotonic_ns()


def _headers(reply: Reply, framing: list[tuple[str, str]]) -> list[tuple[str, str]]:
    pairs = [("content-type", reply.content_type), *reply.headers.items()]
    given = {name for name, _ in pairs}
    return pairs + [pair for pair in framing if pair[0] not in given]


async def send(connection: Connection, reply: Reply, script: Script, record: Record) -> bool:
    """Play the reply; true when the connection can take another request. Raises Cut."""
    if script.head_delay_ms:
        await asyncio.sleep(script.head_delay_ms / 1000)
    if script.drop_request:
        raise Cut
    streamed = reply.events is not None
    chunked = streamed and script.framing == "chunked"
    framing = [("transfer-encoding", "chunked")] if chunked else [("connection", "close")] if streamed else []
    if not streamed:
        framing = [("content-length", str(len(reply.body)))]
    _write(connection, head_bytes(reply.status, _headers(reply, framing)))
    record.first_sent_ns = time.monotonic_ns()
    sent = 0
    async for piece in _pieces(connection, reply, script, record, chunked):
        if script.cut_bytes is not None and sent + len(piece) > script.cut_bytes:
            _write(connection, _framed(piece[: script.cut_bytes - sent], chunked))
            raise Cut
        sent += len(piece)
        _write(connection, _framed(piece, chunked))
        await connection.drain()
    if chunked:
        _write(connection, b"0\r\n\r\n")
    return chunked or not streamed


def _write(connection: Connection, data: bytes) -> None:
    if connection.gone:
        raise Cut
    if data:
        connection.transport.write(data)


def _framed(piece: bytes, chunked: bool) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece) if chunked and piece else piece


async def _pieces(connection: Connection, reply: Reply, script: Script, record: Record, chunked: bool) -> AsyncIterator[bytes]:
    """What is written at once, each when its time has come."""
    if reply.events is None or script.split_at or script.split_bytes or script.merge:
        body = reply.body if reply.events is None else b"".join(_scripted_events(reply, script))
        for n, piece in enumerate(_split(body, script)):
            if n:
                await asyncio.sleep(script.split_pause_ms / 1000)
            yield piece
        return
    for n, event in enumerate(reply.events):
        if n == script.silence_after:
            await asyncio.sleep(FOR_EVER_S)
        if n:
            async for ping in _wait(_delay_s(script, record, n), reply.ping, script.ping_every_ms / 1000):
                yield ping
        if n == script.cut_after:
            if script.cut_how == "end":
                return
            raise Cut
        if n == script.error_at:
            yield reply.error_event
            return
        record.events_sent += 1
        yield event


def _scripted_events(reply: Reply, script: Script) -> Iterator[bytes]:
    for n, event in enumerate(reply.events or ()):
        if script.ping_every_ms and n:
            yield reply.ping
        if n == script.error_at:
            yield reply.error_event
            return
        yield event


def _delay_s(script: Script, record: Record, n: int) -> float:
    jitter = 0.0
    if script.jitter_ms:
        draw = hashlib.blake2b(record.body + n.to_bytes(4, "big"), digest_size=2).digest()
        jitter = int.from_bytes(draw, "big") / 65535 * script.jitter_ms
    return (script.delay_ms + jitter) / 1000


async def _wait(wait_s: float, ping: bytes, every_s: float) -> AsyncIterator[bytes]:
    """Sleep, with pings between. A wait of nothing still gives way, so that each event is a write of its own."""
    while every_s and wait_s > every_s:
        await asyncio.sleep(every_s)
        wait_s -= every_s
        yield ping
    await asyncio.sleep(wait_s)


def _split(body: bytes, script: Script) -> Iterator[bytes]:
    if script.split_bytes:
        marks = list(range(script.split_bytes, len(body), script.split_bytes))
    else:
        marks = sorted({at for at in script.split_at if 0 < at < len(body)})
    for start, end in zip([0, *marks], [*marks, len(body)], strict=True):
        yield body[start:end]
