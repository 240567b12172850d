"""The port of a fact store: where segments become rows, and what a question looks at. A Parquet folder is one, DuckLake another.

Both promise: a segment counts once however often and to whichever process it is sent; what ``append`` returned from survives a power cut; a question sees
all rows of a segment or none, and no row twice while files are merged; one process at a time merges and expires, and when it dies another can.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import duckdb
import msgspec

from headway.facts.model import Fact
from headway.kernel.errors import HeadwayError
from headway.kernel.instants import WallMs

RECORDING = "recording"


class StoreAway(HeadwayError):
    """The store cannot be written now; nothing of what was asked is visible. ``str()`` says why."""


class Keep(msgspec.Struct, frozen=True, kw_only=True):
    """How long facts are kept, and how much of them: what passes either bound goes, oldest first."""

    days: int
    bytes_max: int | None = None
    """On disk, all tables together; None sets no bound."""


class Maintained(msgspec.Struct, frozen=True, kw_only=True):
    """What one round of housekeeping did."""

    elected: bool = True
    """False: another process keeps house now, and nothing was done here."""
    merged_files: int = 0
    expired_files: int = 0
    """By age or by size; rows where a store expires rows."""
    expired_recordings: int = 0
    deleted_files: int = 0


class FactSource(Protocol):
    """What questions need of a store. ``look`` and ``set_aside_damaged`` are called from several threads at once."""

    def attach(self, database: duckdb.DuckDBPyConnection) -> None:
        """Make the store known to a fresh database in memory. ``duckdb.Error`` when it cannot be reached."""
        ...

    def look(self, cursor: duckdb.DuckDBPyConnection) -> AbstractContextManager[Callable[[str], str]]:
        """One consistent look for as long as the block runs: by table, the SQL that shows it as a view with all present columns."""
        ...

    def set_aside_damaged(self) -> bool:
        """After a question failed: take files that cannot be read out of every answer. True when there were any, and asking again may help."""
        ...


class FactStore(FactSource, Protocol):
    """What control needs of a store. ``append`` and ``maintain`` belong to one thread of the process."""

    def append(self, gateway: str, segment: str, facts: Mapping[str, Sequence[Fact]], now: WallMs) -> frozenset[str]:
        """Make the rows of a segment durable, by table; returns the tables whose rows were new. Recorded text past its day is left out.

        ``BadSegmentName`` for a name that no spool makes, ``StoreAway`` when nothing could be stored.
        """
        ...

    def maintain(self, now: WallMs, keep: Keep) -> Maintained:
        """Merge, expire, delete. ``StoreAway`` when that fails; nothing is lost then."""
        ...

    def files(self) -> dict[str, int]:
        """Files by table, as far as is known without asking anybody."""
        ...

    def damaged(self) -> tuple[str, ...]:
        """Files that could not be read and are out of every answer."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...
