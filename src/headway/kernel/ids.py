"""Identifiers that sort by time: a prefix, 48 bits of wall milliseconds and 80 random bits in Crockford base 32.

The layout is ULID's (https://github.com/ulid/spec), lower case, e.g. ``call_01jd8zk3m4...``. Ids are made where the thing is
made and written as given, so that memory, SQLite and Postgres agree to the byte.
"""

import os

from headway.kernel.instants import WallMs

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = tuple(a + b for a in _ALPHABET for b in _ALPHABET)  # ten bits at a time: ids are on the path of every call
ID_BODY_CHARS = 26
_ENTROPY_BYTES = 10


def new_id(prefix: str, now: WallMs, entropy: bytes | None = None) -> str:
    """A new id such as ``call_…`` (26 characters after the prefix). ``entropy`` is 10 bytes; drawn from the OS when absent."""
    n = (now << 80) | int.from_bytes(entropy if entropy is not None else os.urandom(10), "big")
    return prefix + "_" + "".join([_PAIRS[(n >> shift) & 1023] for shift in range(120, -1, -10)])


class IdSource:
    """Ids with one prefix; random bits are fetched from the OS for many at a time, since ids are on the path of every call."""

    __slots__ = ("_at", "_entropy", "_prefix")

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._entropy, self._at = b"", 0

    def __call__(self, now: WallMs) -> str:
        at = self._at
        if at >= len(self._entropy):
            self._entropy, at = os.urandom(_ENTROPY_BYTES * 256), 0
        self._at = at + _ENTROPY_BYTES
        return new_id(self._prefix, now, self._entropy[at : self._at])


def id_wall_ms(identifier: str) -> WallMs:
    """The wall milliseconds inside an id. ``ValueError`` when it is not one of ours."""
    body = identifier.rpartition("_")[2]
    if len(body) != ID_BODY_CHARS:
        raise ValueError(f"not an id: {identifier!r}")
    n = 0
    for char in body:
        n = n * 32 + _ALPHABET.index(char)
    return WallMs(n >> 80)
