"""Frames of the link: four bytes of length, big endian, then msgpack. Sans-I/O, with the reader that both sides share."""

import asyncio

import msgspec

from headway.kernel.errors import HeadwayError
from headway.kernel.limits import LINK_FRAME_BYTES_MAX
from headway.link.messages import Down, Up

_encoder = msgspec.msgpack.Encoder()
_down: msgspec.msgpack.Decoder[Down] = msgspec.msgpack.Decoder(Down)
_up: msgspec.msgpack.Decoder[Up] = msgspec.msgpack.Decoder(Up)
_LENGTH_BYTES = 4


class LinkBroken(HeadwayError):
    """The other side sent what this version cannot read; the link closes and is tried again."""


def encode(message: Down | Up) -> bytes:
    """One frame. ``LinkBroken`` when the message is larger than LINK_FRAME_BYTES_MAX."""
    body = _encoder.encode(message)
    if len(body) > LINK_FRAME_BYTES_MAX:
        raise LinkBroken(f"a {type(message).__name__} of {len(body)} bytes exceeds the frame bound of {LINK_FRAME_BYTES_MAX}")
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


async def read_down(reader: asyncio.StreamReader) -> Down | None:
    """The next message from control; None at a clean end."""
    body = await _read(reader)
    if body is None:
        return None
    try:
        return _down.decode(body)
    except msgspec.MsgspecError as error:
        raise LinkBroken(f"control sent an unreadable message: {error}") from error


async def read_up(reader: asyncio.StreamReader) -> Up | None:
    """The next message from a gateway; None at a clean end."""
    body = await _read(reader)
    if body is None:
        return None
    try:
        return _up.decode(body)
    except msgspec.MsgspecError as error:
        raise LinkBroken(f"a gateway sent an unreadable message: {error}") from error


async def _read(reader: asyncio.StreamReader) -> bytes | None:
    try:
        head = await reader.readexactly(_LENGTH_BYTES)
        size = int.from_bytes(head, "big")
        if size > LINK_FRAME_BYTES_MAX:
            raise LinkBroken(f"a frame of {size} bytes exceeds the bound of {LINK_FRAME_BYTES_MAX}")
        return await reader.readexactly(size)
    except asyncio.IncompleteReadError as cut:
        if cut.partial:
            raise LinkBroken("the link was cut inside a frame") from cut
        return None
