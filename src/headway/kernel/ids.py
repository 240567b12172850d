"""Identifiers that sort by time: a prefix, 48 bits of wall milliseconds and 80 random bits in Crockford base 32.

The layout is ULID's (https://github.com/ulid/spec), lower case, e.g. ``call_01jd8zk3m4...``. Ids are made where the thing is
made and written as given, so that memory, SQLite and Postgres agree to the byte.
"""

import base64
import os

from headway.kernel.instants import WallMs

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_FROM_RFC4648 = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", _ALPHABET.encode())
_PAIRS = tuple(a + b for a in _ALPHABET for b in _ALPHABET)  # ten bits at a time: ids are on the path of every call
ID_BODY_CHARS = 26
_ENTROPY_BYTES = 10
_ENTROPY_CHARS = 16


def new_id(prefix: str, now: WallMs, entropy: bytes | None = None) -> str:
    """A new id such as ``call_…`` (26 characters after the prefix). ``entropy`` is 10 bytes; drawn from the OS when absent."""
    n = (now << 80) | int.from_bytes(entropy if entropy is not None else os.urandom(10), "big")
    return prefix + "_" + "".join([_PAIRS[(n >> shift) & 1023] for shift in range(120, -1, -10)])


class IdSource:
    """Ids with one prefix. Random characters are made for many at a time and the instant's once a millisecond: ids are on the path of every call."""

    __slots__ = ("_at", "_entropy", "_head", "_now", "_prefix")

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._entropy, self._at = "", 0
        self._now, self._head = WallMs(-1), ""

    def __call__(self, now: WallMs) -> str:
        at = self._at
        if at >= len(self._entropy):
            drawn = base64.b32encode(os.urandom(_ENTROPY_BYTES * 256))
            self._entropy, at = drawn.translate(_FROM_RFC4648).decode("ascii"), 0
        self._at = at + _ENTROPY_CHARS
        if now != self._now:
            self._now, self._head = now, new_id(self._prefix, now, bytes(_ENTROPY_BYTES))[:-_ENTROPY_CHARS]
        return self._head + self._entropy[at : at + _ENTROPY_CHARS]


def id_wall_ms(identifier: str) -> WallMs:
    """The wall milliseconds inside an id. ``ValueError`` when it is not one of ours."""
    body = identifier.rpartition("_")[2]
    if len(body) != ID_BODY_CHARS:
        raise ValueError(f"not an id: {identifier!r}")
    n = 0
    for char in body:
        n = n * 32 + _ALPHABET.index(char)
    return WallMs(n >> 80)
