"""Keys and passwords as bytes: made, taken apart, compared. No store, no SQLAlchemy: the gateway imports this.

A key reads ``hw_<26 characters of its id>_<32 characters of secret>``, the secret being 160 random bits. What is stored is BLAKE2b-256 of
the secret keyed with the id: with so many random bits a slow hash would add nothing, and without the id a digest fits no other key.
Passwords have few bits, so they get scrypt (RFC 7914), its parameters stored beside the hash.
"""

import hashlib
import hmac
import os
import re
from typing import Final, NamedTuple

from headway.kernel.ids import ID_BODY_CHARS, new_id
from headway.kernel.instants import WallMs
from headway.ledger.model import KeyRecord

KEY_PREFIX: Final = "hw"
KEY_ID_PREFIX: Final = "key"
SECRET_BYTES: Final = 20
SECRET_CHARS: Final = 32
_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_FORM: Final = re.compile(rf"{KEY_PREFIX}_([{_ALPHABET}]{{{ID_BODY_CHARS}}})_([{_ALPHABET}]{{{SECRET_CHARS}}})")
_NOBODY: Final = bytes(32)
"""What an unknown key is compared with: no secret has this digest."""

SCRYPT_N: Final = 2**14
SCRYPT_R: Final = 8
SCRYPT_P: Final = 5
"""OWASP's password storage cheat sheet (2026) lists N=2^14, r=8, p=5 among its equal minimums: 16 MiB and about 0.1 s."""
PASSWORD_CHARS_MIN: Final = 10
PASSWORD_CHARS_MAX: Final = 256


class MintedKey(NamedTuple):
    """A new key. ``text`` is shown once and stored nowhere."""

    id: str
    text: str
    digest: bytes


class ParsedKey(NamedTuple):
    id: str
    secret: str


def mint(now: WallMs, entropy: bytes | None = None) -> MintedKey:
    """A new key. ``entropy`` is 30 bytes (10 for the id, 20 for the secret), drawn from the OS when absent."""
    drawn = os.urandom(10 + SECRET_BYTES) if entropy is None else entropy
    identifier = new_id(KEY_ID_PREFIX, now, drawn[:10])
    secret = base32(drawn[10:])
    return MintedKey(
        identifier, f"{KEY_PREFIX}_{identifier.removeprefix(KEY_ID_PREFIX + '_')}_{secret}", digest(identifier, secret)
    )


def parse(text: str) -> ParsedKey | None:
    """Id and secret of a presented key; None when it has not the form of one. Says nothing about whether it is good."""
    found = _FORM.fullmatch(text)
    return ParsedKey(f"{KEY_ID_PREFIX}_{found[1]}", found[2]) if found is not None else None


def digest(identifier: str, secret: str) -> bytes:
    """BLAKE2b-256 of the secret, keyed with the id."""
    return hashlib.blake2b(secret.encode(), digest_size=32, key=identifier.encode()).digest()


def verify(record: KeyRecord | None, presented: str, parsed: ParsedKey | None = None) -> bool:
    """Whether ``presented`` is the key of ``record``. One digest and one constant-time comparison in every case, unknown keys included.

    Not whether it may be used: see ``usable``.
    """
    parsed = parsed or parse(presented)
    identifier, secret = parsed if parsed is not None else (KEY_ID_PREFIX, presented)
    wanted = record.digest if record is not None and record.id == identifier else _NOBODY
    return hmac.compare_digest(digest(identifier, secret), wanted)


def usable(record: KeyRecord, now: WallMs) -> bool:
    """Neither revoked nor expired."""
    return record.revoked_wall_ms is None and (record.expires_wall_ms is None or now < record.expires_wall_ms)


def base32(raw: bytes) -> str:
    """Crockford's alphabet, lower case, five bits a character; ``raw`` is a multiple of five bytes."""
    number = int.from_bytes(raw, "big")
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(len(raw) * 8 - 5, -1, -5))


def new_token(prefix: str, entropy: bytes | None = None) -> str:
    """A bearer secret of 160 random bits for sessions and login links, e.g. ``hws_…``."""
    return f"{prefix}_{base32(os.urandom(SECRET_BYTES) if entropy is None else entropy)}"


def token_digest(token: str) -> str:
    """What is stored of a session or login token."""
    return hashlib.blake2b(token.encode(), digest_size=32).hexdigest()


def hash_password(password: str, salt: bytes | None = None) -> str:
    """``scrypt$N$r$p$salt$hash`` in hex. Takes about 0.1 s: never on an event loop."""
    salt = os.urandom(16) if salt is None else salt
    hashed = _scrypt(password, salt, SCRYPT_N, SCRYPT_R, SCRYPT_P)
    return f"scrypt${SCRYPT_N}${SCRYPT_R}${SCRYPT_P}${salt.hex()}${hashed.hex()}"


def check_password(stored: str | None, password: str) -> bool:
    """Constant-time; an absent user or a user without password costs the same scrypt and is False."""
    known = stored if stored is not None else NO_PASSWORD
    _, n, r, p, salt, hashed = known.split("$")
    same = hmac.compare_digest(_scrypt(password, bytes.fromhex(salt), int(n), int(r), int(p)), bytes.fromhex(hashed))
    return same and stored is not None


NO_PASSWORD: Final = f"scrypt${SCRYPT_N}${SCRYPT_R}${SCRYPT_P}${'00' * 16}${'00' * 32}"


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=256 * n * r, dklen=32)
