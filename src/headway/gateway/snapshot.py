"""The last snapshot on disk, so that a gateway starts and goes on without control. Mode 0600: it holds key digests.

The file's time says when control last stood behind it, which is what the grace counts from: a snapshot may be old and good.
"""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from headway.kernel.errors import HeadwayError
from headway.link.messages import Snapshot

_decoder = msgspec.msgpack.Decoder(Snapshot)


class SnapshotUnusable(HeadwayError):
    """The file cannot be read by this version: control is waited for instead."""


def save(path: Path, snapshot: Snapshot) -> None:
    """Whole or not at all: written beside, synced, renamed. OSError when the disk refuses."""
    beside = path.with_suffix(".new")
    data = msgspec.msgpack.encode(snapshot)
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.rename(path)


def load(path: Path) -> Snapshot | None:
    """None when there is none yet. SnapshotUnusable when it is torn or of another version."""
    try:
        return _decoder.decode(path.read_bytes())
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, OSError) as error:
        raise SnapshotUnusable(f"{path}: {error}") from error


def confirm(path: Path) -> None:
    """Control is there and stands behind what is on disk. OSError when the disk refuses."""
    if path.exists():
        os.utime(path)


def unconfirmed_s(path: Path) -> float:
    """Seconds since control last stood behind the file; 0 when there is none."""
    try:
        return max(0.0, time.time() - path.stat().st_mtime)
    except FileNotFoundError:
        return 0.0


class Saver:
    """Writes the latest snapshot off the loop, one at a time: a slow disk delays no call, and of several that wait the last is written."""

    def __init__(self, path: Path, on_written: Callable[[OSError | None], None]) -> None:
        """``on_written`` hears how each write went."""
        self._path, self._on_written = path, on_written
        self._wanted: Snapshot | None = None
        self._task: asyncio.Task[None] | None = None

    def keep(self, snapshot: Snapshot) -> None:
        self._wanted = snapshot
        if self._task is None:
            self._task = asyncio.create_task(self._write())

    async def close(self) -> None:
        """Wait for what was to be kept."""
        if self._task is not None:
            await self._task

    async def _write(self) -> None:
        while (snapshot := self._wanted) is not None:
            self._wanted = None
            try:
                await asyncio.to_thread(save, self._path, snapshot)
            except OSError as error:
                self._on_written(error)
            else:
                self._on_written(None)
        self._task = None
