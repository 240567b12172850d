"""The load of the proof on a real engine: small requests at a steady pace, and one giant among them, timed as a caller sees them.

First token is the first streamed event that carries text, from the moment the request was begun on a new connection.
"""

import asyncio
import contextlib
import json
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import msgspec

from headway.prove.forms import CHAT, PATHS, body_of, headers_of
from headway.prove.rawhttp import Broken, RawConnection

SMALL_EVERY_S: Final = 0.5
SMALL_OUTPUT_TOKENS: Final = 8
GIANT_OUTPUT_TOKENS: Final = 8
LEAD_IN_S: Final = 2.0
"""Small requests run so long before the giant is sent, so that it meets a steady load."""
CALL_S_MAX: Final = 300.0
_WORDS: Final = (
    "harbour ship wind cargo rope anchor crew signal north east south west morning evening storm calm water light tower "
    "captain log entry number crane truck barrel paper stamp office clerk window bridge river stone street market"
)
WORDS: Final = tuple(_WORDS.split())


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where an arm's requests go: a base URL without ``/v1``, a key and the model that they name."""

    url: str
    key: str
    model: str


class Shot(msgspec.Struct, frozen=True, kw_only=True):
    """One request as its caller saw it. ``sent_s`` is on this process' monotonic clock; ``ttft_s`` None means that no text came."""

    sent_s: float
    ttft_s: float | None
    took_s: float
    status: int
    prompt_tokens: int = 0
    cached_tokens: int = 0

    @property
    def well(self) -> bool:
        return self.status == 200 and self.ttft_s is not None


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """One giant (None: small requests alone) and the small requests that were sent between its sending and its first token."""

    giant: Shot | None
    small: tuple[Shot, ...]
    calls: int
    """All requests that were sent, those outside the window too."""

    @property
    def giants(self) -> tuple[Shot, ...]:
        return () if self.giant is None else (self.giant,)


def small_text(rng: random.Random) -> str:
    """A short question that no earlier one begins like."""
    return f"{rng.randrange(10**6)} {' '.join(rng.choices(WORDS, k=8))}: what is this about?"


def giant_text(rng: random.Random, words: int) -> str:
    """``words`` words that differ from all earlier giants from the first one on, so that no cache helps."""
    return f"{rng.randrange(10**9)} " + " ".join(rng.choices(WORDS, k=words))


async def shoot(to: Endpoint, text: str, *, max_tokens: int, told_first: Callable[[], None] | None = None) -> Shot:
    """Send one streamed request and read it to its end. Refusals and torn answers come back as a Shot that is not ``well``."""
    sent = time.monotonic()
    reading = _Reading(sent, told_first)
    options = {"temperature": 0, "ignore_eos": True, "stream_options": {"include_usage": True}}
    body = body_of(CHAT, to.model, text, stream=True, max_tokens=max_tokens, **options)
    with contextlib.suppress(Broken, OSError, TimeoutError):
        async with asyncio.timeout(CALL_S_MAX):
            connection = await RawConnection.open(to.url)
            try:
                await connection.send("POST", PATHS[CHAT], headers_of(CHAT, to.key), body)
                reading.status, headers = await connection.head()
                async for piece in connection.chunks(headers):
                    reading.feed(piece)
            finally:
                connection.close()
    return Shot(
        sent_s=sent,
        ttft_s=reading.ttft_s,
        took_s=time.monotonic() - sent,
        status=reading.status,
        prompt_tokens=reading.prompt_tokens,
        cached_tokens=reading.cached_tokens,
    )


class _Reading:
    """A stream as it comes."""

    def __init__(self, sent_s: float, told_first: Callable[[], None] | None) -> None:
        self.status = 0
        self.ttft_s: float | None = None
        self.prompt_tokens = self.cached_tokens = 0
        self._sent_s, self._told_first = sent_s, told_first
        self._rest = b""

    def feed(self, piece: bytes) -> None:
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            if self.status == 200 and line.startswith(b"data: {"):
                self._event(json.loads(line[6:]))

    def _event(self, event: dict[str, object]) -> None:
        choices, usage = event.get("choices"), event.get("usage")
        if self.ttft_s is None and isinstance(choices, list) and any((c.get("delta") or {}).get("content") for c in choices):
            self.ttft_s = time.monotonic() - self._sent_s
            if self._told_first is not None:
                self._told_first()
        if isinstance(usage, dict):
            self.prompt_tokens = int(usage.get("prompt_tokens") or 0)
            self.cached_tokens = int((usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0)


Send = Callable[[str, Callable[[], None]], Awaitable[Shot]]
"""Sends a giant's text; calls its second argument at the first token."""


class Beat(msgspec.Struct, frozen=True, kw_only=True):
    """How small requests come: open loop, one each ``every_s``, for ``lead_in_s`` before anything is counted."""

    every_s: float = SMALL_EVERY_S
    lead_in_s: float = LEAD_IN_S


STEADY: Final = Beat()


async def window_alone(to: Endpoint, rng: random.Random, *, alone_s: float, beat: Beat = STEADY) -> Window:
    """Small requests to ``to`` and nobody else; those sent in ``alone_s`` after the lead-in count."""
    async with _small_ones(to, rng, beat) as small:
        await asyncio.sleep(alone_s)
    return Window(giant=None, small=small.inside(), calls=small.sent)


async def window_with(to: Endpoint, rng: random.Random, *, giant: Send, giant_words: int, beat: Beat = STEADY) -> Window:
    """Small requests to ``to`` and one giant at a moment of their beat that ``rng`` draws; they stop at its first token.

    Returns when everything that was sent has ended.
    """
    async with _small_ones(to, rng, beat) as small:
        shot = await giant(giant_text(rng, giant_words), small.stop)
    return Window(giant=shot, small=small.inside(), calls=small.sent + 1)


class _Small:
    """The small requests of one window, however many are still unanswered."""

    def __init__(self, to: Endpoint, rng: random.Random, beat: Beat) -> None:
        self._to, self._rng, self._beat = to, rng, beat
        self._over = asyncio.Event()
        self._counting = False
        self._tasks: list[tuple[bool, asyncio.Task[Shot]]] = []

    @property
    def sent(self) -> int:
        return len(self._tasks)

    def count(self) -> None:
        self._counting = True

    def stop(self) -> None:
        self._over.set()

    def inside(self) -> tuple[Shot, ...]:
        """Those that were sent while it counted, once all have ended."""
        return tuple(task.result() for counted, task in self._tasks if counted)

    async def run(self, group: asyncio.TaskGroup) -> None:
        at = time.monotonic()
        while not self._over.is_set():
            task = group.create_task(shoot(self._to, small_text(self._rng), max_tokens=SMALL_OUTPUT_TOKENS))
            self._tasks.append((self._counting, task))
            at += self._beat.every_s
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), max(0.0, at - time.monotonic()))


@contextlib.asynccontextmanager
async def _small_ones(to: Endpoint, rng: random.Random, beat: Beat) -> AsyncIterator[_Small]:
    """They run and count inside; at the end they stop, and all are waited for."""
    small = _Small(to, rng, beat)
    async with asyncio.TaskGroup() as group:
        group.create_task(small.run(group))
        await asyncio.sleep(beat.lead_in_s + rng.random() * beat.every_s)
        small.count()
        yield small
        small.stop()
