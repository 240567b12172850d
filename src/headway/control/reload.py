"""``headway.toml`` becomes a generation: read, validated, compared, stored, sent. A bad file changes nothing but ``problem``.

It is read again when it changes (looked at each second), on SIGHUP and when the API asks. The same configuration is the same generation,
also across restarts. What is stored of it is text for people, with everything that could be a secret masked.
"""

import asyncio
import hashlib
import logging
import os
import re
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import msgspec

from headway.config.model import Settings
from headway.kernel.errors import ConfigError
from headway.kernel.instants import WallMs
from headway.ledger.budgets import specs
from headway.ledger.model import BudgetSpec, GenerationRecord
from headway.ledger.port import Generations, LeaseAt, LedgerError

log = logging.getLogger(__name__)
POLL_S = 1.0
FILE: Final = "file"
_SECRET_WORDS: Final = re.compile(r"key|token|password|secret|authorization|headers")
_REFERENCE: Final = re.compile(r"(env|file):.+")
_USERINFO: Final = re.compile(r"(?<=://)[^/@]+@")
_QUERY: Final = re.compile(r"((?<=[?&])[^=&]*(?:key|token|secret|password|sig)[^=&]*)=[^&]+")
MASKED: Final = "(hidden"


class LoadedSettings(Protocol):
    """What ``headway.config.load.load`` answers."""

    @property
    def settings(self) -> Settings: ...


class BudgetSync(Protocol):
    async def sync(self, specs: Sequence[BudgetSpec], now: WallMs) -> Sequence[LeaseAt]: ...


class InForce(Protocol):
    async def put_in_force(self, settings: Settings, generation: int) -> None: ...


class Closes(Protocol):
    def close_lease(self, gateway: str, lease: str) -> None: ...


L = TypeVar("L", bound=LoadedSettings)


class Reloader:
    """Owns which generation is in force. One reload at a time."""

    def __init__(
        self,
        path: Path | None,
        loader: Callable[[Path | None], L],
        *,
        generations: Generations,
        budgets: BudgetSync,
        publisher: InForce,
        link: Closes,
        now: Callable[[], WallMs],
    ) -> None:
        self._path, self._loader, self._now = path, loader, now
        self._generations, self._budgets, self._publisher, self._link = generations, budgets, publisher, link
        self._lock = asyncio.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._asked = asyncio.Event()
        self._store_failed = False
        """The file was good and the ledger was not there: tried again without waiting for the file to change."""
        self.loaded: LoadedSettings | None = None
        """What is in force."""
        self.generation: GenerationRecord | None = None
        self.problem = ""
        """Why the file on disk is not in force; empty when it is."""
        self.problem_wall_ms: int | None = None

    async def reload(self, actor: str) -> GenerationRecord | None:
        """Read the file and put it in force; the generation in force afterwards. Never raises for a bad file or an absent ledger: see ``problem``."""
        async with self._lock:
            self._seen = await asyncio.to_thread(_stamp, self._path)
            self._store_failed = False
            try:
                loaded = await asyncio.to_thread(self._loader, self._path)
                await self._put_in_force(loaded, actor)
            except (ConfigError, LedgerError) as error:
                self._failed(str(error))
            return self.generation

    def ask(self) -> None:
        """Reload soon (SIGHUP)."""
        self._asked.set()

    async def run(self) -> None:
        """Watch the file, and try again each second what could not be put in force for want of the ledger."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self.ask)
        try:
            while True:
                await self._pause()
                await self.poll()
        finally:
            loop.remove_signal_handler(signal.SIGHUP)

    async def poll(self) -> None:
        """Reload if somebody asked or the file has changed since it was last read."""
        if self._asked.is_set():
            self._asked.clear()
            await self.reload("signal")
        elif self._store_failed or await asyncio.to_thread(_stamp, self._path) != self._seen:
            await self.reload(FILE)

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(POLL_S):
                await self._asked.wait()
        except TimeoutError:
            return

    async def _put_in_force(self, loaded: LoadedSettings, actor: str) -> None:
        settings, now = loaded.settings, self._now()
        self._store_failed = True  # until all that follows has been done
        record = await self._generations.add(
            fingerprint(settings), shown(settings), path=str(self._path or ""), actor=actor, now=now
        )
        closing = await self._budgets.sync(specs(settings.tenants), now)
        await self._publisher.put_in_force(settings, record.number)
        self._store_failed = False
        for at in closing:
            self._link.close_lease(at.gateway, at.lease)
        if self.generation is None or record.number != self.generation.number:
            log.info("generation %d is in force, %d values changed", record.number, len(record.diff))
        self.loaded, self.generation, self.problem, self.problem_wall_ms = loaded, record, "", None

    def _failed(self, problem: str) -> None:
        if problem != self.problem:
            log.error("the configuration on disk is not in force: %s", problem)
        self.problem, self.problem_wall_ms = problem, self._now()


def fingerprint(settings: Settings) -> str:
    """The same for the same configuration, whatever its comments, order or file."""
    canonical = msgspec.json.encode(settings, order="sorted")
    return hashlib.blake2b(canonical, digest_size=32).hexdigest()


def shown(settings: Settings) -> dict[str, str]:
    """Every value by its dotted key as text, with what may be a secret masked."""
    return {key: _text(key, value) for key, value in sorted(_leaves("", msgspec.to_builtins(settings)))}


def _leaves(prefix: str, value: Any) -> list[tuple[str, Any]]:
    if not isinstance(value, dict):
        return [(prefix, value)]
    return [leaf for name, inner in value.items() for leaf in _leaves(f"{prefix}.{name}" if prefix else name, inner)]


def _text(key: str, value: Any) -> str:
    if isinstance(value, str):
        if value and _SECRET_WORDS.search(key) and not _REFERENCE.fullmatch(value):
            return _masked(value)
        return _QUERY.sub(rf"\1={MASKED})", _USERINFO.sub(f"{MASKED})@", value))
    return msgspec.json.encode(value).decode()


def _masked(value: str) -> str:
    """Sixteen bits of a digest: enough to see that a value changed, too few to find it."""
    return f"{MASKED} {hashlib.blake2b(value.encode(), digest_size=2).hexdigest()})"


def _stamp(path: Path | None) -> tuple[int, int, int] | None:
    """What changes when the file does, also when it is replaced."""
    if path is None:
        return None
    try:
        found = os.stat(path)
    except OSError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_size, found.st_ino)
