"""Calls of the proof on a real engine, as a caller makes them, and what the engine itself says of each: for scoring only."""

import asyncio
import json
import random
import socket
from typing import Any, Final

import msgspec

from headway.prove.forms import CHAT, PATHS, body_of, headers_of
from headway.prove.rawhttp import Broken, RawConnection

CALL_S_MAX: Final = 120.0
RECEIVE_BYTES: Final = 4_096
"""Of a reader that is slow on purpose: the kernel keeps little for it."""
_WORDS: Final = (
    "harbour ship wind cargo rope anchor crew signal north east south west morning evening storm calm water light tower "
    "captain log entry number crane truck barrel paper stamp office clerk window bridge river stone street market"
)
WORDS: Final = tuple(_WORDS.split())


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """One call. ``pause_s``: its caller reads nothing for so long after the first piece; ``alternatives`` make each piece so much larger."""

    text: str
    tenant: str
    slot: int
    output_tokens: int
    pause_s: float = 0.0
    alternatives: int = 0


class Timings(msgspec.Struct, frozen=True, kw_only=True):
    """The engine's own word: prompt and answer in milliseconds, prompt tokens from its cache."""

    prompt_ms: float
    predicted_ms: float
    cache_n: int


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """``call`` is Headway's id of it; ``timings`` None where the engine did not tell."""

    call: str
    status: int
    timings: Timings | None


def words(rng: random.Random, count: int) -> str:
    return " ".join(rng.choices(WORDS, k=count))


async def ask(url: str, key: str, model: str, wish: Wish) -> Answer:
    """Send one streamed call and read it to its end. Broken, OSError or TimeoutError where there is no whole answer."""
    options: dict[str, Any] = {
        "temperature": 0,
        "ignore_eos": True,
        "id_slot": wish.slot,
        "cache_prompt": True,
        "stream_options": {"include_usage": True},
    }
    if wish.alternatives:
        options |= {"logprobs": True, "top_logprobs": wish.alternatives}
    body = body_of(CHAT, model, wish.text, stream=True, max_tokens=wish.output_tokens, **options)
    async with asyncio.timeout(CALL_S_MAX):
        connection = await _opened(url, slow=wish.pause_s > 0)
        try:
            await connection.send("POST", PATHS[CHAT], headers_of(CHAT, key), body)
            status, headers = await connection.head()
            reading = _Reading()
            async for piece in connection.chunks(headers):
                reading.feed(piece)
                if wish.pause_s and not reading.paused:
                    reading.paused = True
                    await asyncio.sleep(wish.pause_s)
        finally:
            connection.close()
    return Answer(call=dict(headers).get("x-headway-call", ""), status=status, timings=reading.timings)


async def _opened(url: str, *, slow: bool) -> RawConnection:
    if not slow:
        return await RawConnection.open(url)
    host, _, port = url.removeprefix("http://").partition(":")
    sock = socket.socket()
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)  # before it connects: the window is agreed then
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (host, int(port)))
        reader, writer = await asyncio.open_connection(sock=sock, limit=RECEIVE_BYTES)
    except BaseException:
        sock.close()
        raise
    return RawConnection(reader, writer, f"{host}:{port}")


class _Reading:
    """A stream as it comes: only the engine's timings are kept."""

    def __init__(self) -> None:
        self.timings: Timings | None = None
        self.paused = False
        self._rest = b""

    def feed(self, piece: bytes) -> None:
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            if b'"timings"' in line and line.startswith(b"data: {"):
                told = json.loads(line[6:]).get("timings")
                if isinstance(told, dict):
                    self.timings = Timings(
                        prompt_ms=float(told["prompt_ms"]),
                        predicted_ms=float(told["predicted_ms"]),
                        cache_n=int(told.get("cache_n") or 0),
                    )


__all__ = ["Answer", "Broken", "Timings", "Wish", "ask", "words"]
