"""One segment on disk: appended, closed by rename, and recovered when its writer was killed."""

import os
from contextlib import suppress
from pathlib import Path

import msgspec

from headway.facts.segments import footer_bytes, header_bytes, record_bytes, valid_prefix


class OpenSegment:
    """A growing segment file. ``append`` and the constructor raise ``OSError`` and leave only whole rows behind."""

    def __init__(self, path: Path, gateway: str, name: str) -> None:
        self.path, self.name = path, name
        self.rows = 0
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        self.size = 0
        try:
            self._write(header_bytes(gateway, name))
        except OSError:
            os.close(self._file)
            path.unlink(missing_ok=True)
            raise

    def append(self, payloads: list[bytes], *, sync: bool) -> None:
        """All of ``payloads`` or none of them."""
        first = self.rows
        self._write(b"".join([record_bytes(first + i, payload) for i, payload in enumerate(payloads)]))
        self.rows += len(payloads)
        if sync:
            os.fdatasync(self._file)

    def close(self) -> bool:
        """Footer, sync, rename to ``.seg``. False when it held no rows and was deleted. A disk that refuses costs the footer, not the rows."""
        if not self.rows:
            os.close(self._file)
            with suppress(OSError):  # the next start deletes it
                self.path.unlink(missing_ok=True)
            return False
        with suppress(OSError):
            self._write(footer_bytes(self.rows))
            os.fsync(self._file)
        os.close(self._file)
        try:
            _publish(self.path)
        except OSError:  # stays ``.open``: the next start recovers it
            return False
        return True

    def _write(self, data: bytes) -> None:
        """Write all, or cut the file back to where it was and raise."""
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._file, view) :]
        except OSError:
            os.ftruncate(self._file, self.size)
            raise
        self.size += len(data)


class Recovery(msgspec.Struct, frozen=True, kw_only=True):
    """What a start found of a writer that did not close its segments."""

    files: int = 0
    rows: int = 0
    dropped_bytes: int = 0


def recover(folder: Path) -> Recovery:
    """Close every ``.open`` file in ``folder``: keep its whole rows, drop and count the torn tail."""
    files = rows_kept = dropped = 0
    for path in sorted(folder.glob("*.open")):
        files += 1
        data = path.read_bytes()
        keep, rows, closed = valid_prefix(data)
        dropped += len(data) - keep
        if not rows:
            path.unlink()
            continue
        rows_kept += rows
        with path.open("r+b") as file:
            file.truncate(keep)
            file.seek(keep)
            if not closed:
                file.write(footer_bytes(rows))
            file.flush()
            os.fsync(file.fileno())
        _publish(path)
    return Recovery(files=files, rows=rows_kept, dropped_bytes=dropped)


def _publish(path: Path) -> None:
    """Rename ``.open`` to ``.seg`` and make the rename durable."""
    path.rename(path.with_suffix(".seg"))
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
