"""The last snapshot on disk, so that a gateway starts and goes on without control. Mode 0600: it holds key digests."""

import os
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
