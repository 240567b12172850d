"""Where a setting came from and what is wrong with it, in words for people. Nothing here echoes a secret."""

import difflib
import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Final

import msgspec

from headway.config.locate import Path
from headway.config.secrets import looks_secret
from headway.kernel.errors import ConfigError

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_SHOWN_CHARS_MAX: Final = 60


class OriginKind(StrEnum):
    DEFAULT = "default"
    FILE = "file"
    ENV = "env"
    DISCOVERED = "discovered"


class Origin(msgspec.Struct, frozen=True):
    """Who decided a value. ``where`` is ``headway.toml:31``, a variable's name or what was found; empty for a default."""

    kind: OriginKind = OriginKind.DEFAULT
    where: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.where}" if self.kind is OriginKind.DISCOVERED else self.where or self.kind.value


class ConfigProblems(ConfigError):
    """All that is wrong with a configuration, in the order of the file; ``str()`` has one line each."""

    def __init__(self, problems: tuple[ConfigError, ...]) -> None:
        first = problems[0]
        super().__init__(first.problem, where=first.where, fix=first.fix)
        self.problems = problems
        self.args = ("\n".join(str(problem) for problem in problems),)


def dotted(path: Path) -> str:
    """``features.support-chat.targets[1]``; keys with other characters are quoted as TOML wants them."""
    out = ""
    for part in path:
        if isinstance(part, int):
            out += f"[{part}]"
        else:
            part = "(looks like a key)" if looks_secret(part) else part
            out += ("." if out else "") + (part if _BARE_KEY.fullmatch(part) else f'"{part}"')
    return out


def shown(value: object) -> str:
    """A value as an error may repeat it: short, in TOML's quotes, and never when it looks like a key."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}"
    if not isinstance(value, str):
        return str(value)[:_SHOWN_CHARS_MAX]
    if looks_secret(value):
        return f"(a text of {len(value)} characters that looks like a key)"
    cut = value if len(value) <= _SHOWN_CHARS_MAX else value[: _SHOWN_CHARS_MAX - 1] + "…"
    return f'"{cut}"'


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word most like ``word``; empty when none is near."""
    by_lower = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower(), by_lower, 1, 0.6)
    return by_lower[found[0]] if found else ""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``; did you mean "x"?`` or nothing, to be put behind a problem."""
    near = nearest(word, known)
    return f'; did you mean "{near}"?' if near else ""
