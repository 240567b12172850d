"""Identifiers that sort by time: a prefix, 48 bits of wall milliseconds and 80 random bits in Crockford base 32.

The layout is ULID's (https://github.com/ulid/spec), lower case, e.g. ``call_01jd8zk3m4...``. Ids are made where the thing is
made and written as given, so that memory, SQLite and Postgres agree to the byte.
"""

import os

from headway.kernel.instants import WallMs

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = tuple(a + b for a in _ALPHABET for b in _ALPHABET)  # ten bits at a time: ids are on the path of every call
ID_BODY_CHARS = 26


def new_id(prefix: str, now: WallMs, entropy: bytes | None = None) -> str:
    """A new id such as ``call_…`` (26 characters after the prefix). ``entropy`` is 10 bytes; drawn from the OS when absent."""
    n = (now << 80) | int.from_bytes(entropy if entropy is not None else os.urandom(10), "big")
    return prefix + "_" + "".join([_PAIRS[(n >> shift) & 1023] for shift in range(120, -1, -10)])


def id_wall_ms(identifier: str) -> WallMs:
    """The wall milliseconds inside an id. ``ValueError`` when it is not one of ours."""
    body = identifier.rpartition("_")[2]
    if len(body) != ID_BODY_CHARS:
        raise ValueError(f"not an id: {identifier!r}")
    n = 0
    for char in body:
        n = n * 32 + _ALPHABET.index(char)
    return WallMs(n >> 80)
