"""Secrets by reference: ``env:NAME`` and ``file:PATH``. The value lives in the process that needs it and is never written or shown.

A file is read again when its time or size changes, so that a key is rotated without a restart.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from headway.kernel import limits
from headway.kernel.errors import ConfigError

_REFERENCE: Final = re.compile(r"(env:[A-Za-z_][A-Za-z0-9_]*|file:.+)", re.DOTALL)
_LOOKS_SECRET: Final = re.compile(
    r"(sk-|sk_|pk_|hw_|gsk_|xai-|AIza|ABSK|AKIA|ghp_|hf_|glpat-|Bearer\s)[A-Za-z0-9_\-+/=.]{8,}|(?=[A-Za-z]*[0-9])[A-Za-z0-9]{32,}",
)


def is_reference(text: str) -> bool:
    """Whether ``text`` names a secret rather than being one."""
    return _REFERENCE.fullmatch(text) is not None


def looks_secret(text: str) -> bool:
    """Whether ``text`` looks like a key itself: then it must not be echoed."""
    return not is_reference(text) and _LOOKS_SECRET.search(text) is not None


class Secrets:
    """Resolves references in one process. Holds file contents, at most one a reference, until the file changes."""

    def __init__(self, env: Mapping[str, str] | None = None) -> None:
        self._env = os.environ if env is None else env
        self._files: dict[str, tuple[tuple[int, int, int], str]] = {}

    def resolve(self, reference: str) -> str:
        """The value behind ``reference``; empty for an empty reference.

        ConfigError names the reference and never a value: variable unset or empty, file missing, unreadable, empty or too large,
        or a text that is no reference.
        """
        if not reference:
            return ""
        kind, _, name = reference.partition(":")
        if not is_reference(reference):
            raise ConfigError("a secret is written out instead of referred to", fix="write env:NAME or file:PATH")
        value = self._from_env(name) if kind == "env" else self._from_file(name)
        if any(not 32 <= ord(char) < 127 for char in value):
            raise ConfigError(f"{reference} holds control or non-ASCII characters", fix="a key is one line of plain characters")
        return value

    def resolve_or_literal(self, text: str) -> str:
        """For settings that may be either (header values, store addresses): the value behind a reference, else ``text``."""
        return self.resolve(text) if is_reference(text) else text

    def _from_env(self, name: str) -> str:
        value = self._env.get(name, "").strip()
        if not value:
            raise ConfigError(f"env:{name} is not set", fix=f"export {name} in the environment of the process that needs it")
        return value

    def _from_file(self, name: str) -> str:
        path = Path(name).expanduser()
        try:
            stat = path.stat()
            stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            kept = self._files.get(name)
            if kept is not None and kept[0] == stamp:
                return kept[1]
            if stat.st_size > limits.SECRET_FILE_BYTES_MAX:
                raise ConfigError(f"file:{name} is too large for a key", fix=f"at most {limits.SECRET_FILE_BYTES_MAX} bytes")
            value = path.read_text("utf-8").strip()
        except UnicodeDecodeError:
            raise ConfigError(f"file:{name} is not text", fix="write the key alone into the file") from None
        except OSError as error:
            raise ConfigError(f"file:{name} cannot be read: {error.strerror}", fix="check the path and who may read it") from None
        if not value:
            raise ConfigError(f"file:{name} is empty", fix="write the key alone into the file")
        self._files[name] = (stamp, value)
        return value
