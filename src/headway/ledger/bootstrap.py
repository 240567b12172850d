"""The first owner: a service for the command line of this machine, whose key lies in ``control.token`` in the state folder, mode 0600."""

import asyncio
import os
from pathlib import Path
from typing import Final

from headway.kernel.instants import WallMs
from headway.ledger.model import Principal, PrincipalKind, Role
from headway.ledger.port import Keys, NewKey, Principals

OWNER_NAME: Final = "local owner"
TOKEN_FILE: Final = "control.token"
_ACTOR: Final = "headway"


async def ensure_owner(principals: Principals, keys: Keys, state_dir: Path, now: WallMs) -> Principal:
    """The local owner, with a good key in its file: made where there is none, and made anew where the file is lost or its key is not good."""
    owner = await principals.named(PrincipalKind.SERVICE, OWNER_NAME)
    if owner is None:
        owner = await principals.create(PrincipalKind.SERVICE, OWNER_NAME, Role.OWNER, actor=_ACTOR, now=now)
    path = state_dir / TOKEN_FILE
    text = await asyncio.to_thread(_read, path)
    found = await keys.check(text, now) if text else None
    if (found is None or found[1].id != owner.id) and not owner.disabled:
        for old in await keys.all():
            if old.principal == owner.id and old.revoked_wall_ms is None:
                await keys.revoke(old.id, actor=_ACTOR, now=now)
        _, minted = await keys.create(
            NewKey(tenant="", name=TOKEN_FILE, principal=owner.id, role=Role.OWNER), actor=_ACTOR, now=now
        )
        await asyncio.to_thread(write_private, path, minted.text + "\n")
    return owner


def write_private(path: Path, text: str) -> None:
    """Write a file that only this user may read, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return ""
