"""From ``headway.toml`` to ``Settings``: every value with its origin, every mistake with its line and the nearest right word.

Nothing is half loaded: either all of it holds, or ``ConfigProblems`` tells everything that is wrong.
"""

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from headway.config import init
from headway.config.addresses import parse_listen
from headway.config.checks import check, leaves
from headway.config.decode import decode
from headway.config.locate import Path as KeyPath
from headway.config.locate import locate
from headway.config.model import Provider, Settings
from headway.config.problems import ConfigProblems, Origin, OriginKind, did_you_mean, dotted
from headway.config.rules import ENV_SETTINGS
from headway.kernel import limits
from headway.kernel.errors import ConfigError

FILE_NAME: Final = "headway.toml"
_AT_LINE: Final = re.compile(r"\(at line (\d+), column (\d+)\)")
_PREFIXES: Final = ("HEADWAY_GATEWAY_", "HEADWAY_CONTROL_", "HEADWAY_STATE_")


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration that holds. ``origins`` has an entry for each single setting (``providers.openai.key``)."""

    settings: Settings
    origins: dict[str, Origin]
    warnings: tuple[str, ...] = ()
    path: Path | None = None
    """The file; None when there is none."""

    @property
    def state_dir(self) -> Path:
        """Absolute. A relative ``state.dir`` counts from the file's folder, without a file from the working directory."""
        base = self.path.parent if self.path is not None else Path.cwd()
        return (base / Path(self.settings.state.dir).expanduser()).resolve()


def find(explicit: Path | str | None = None, env: Mapping[str, str] | None = None) -> Path | None:
    """The file in use: named, else ``HEADWAY_CONFIG``, else ``headway.toml`` here, else None. ConfigError when a named one is absent."""
    env = os.environ if env is None else env
    named = str(explicit) if explicit is not None else env.get("HEADWAY_CONFIG", "")
    path = Path(named or FILE_NAME).expanduser().absolute()
    if path.is_file():
        return path
    if named:
        raise ConfigError(f"there is no file {named}", fix="headway init writes one")
    return None


def load(
    path: Path | None = None,
    *,
    env: Mapping[str, str] | None = None,
    discover: Callable[[Settings], Mapping[str, init.Found]] | None = init.discover,
) -> Loaded:
    """Read ``path`` (None: defaults only). Raises ConfigError; reads the file and, without any provider in it, probes usual places.

    ``discover`` is asked for providers only when the file names none; None leaves that out.
    """
    env = os.environ if env is None else env
    text = "" if path is None else _read(path)
    return parse(text, name=FILE_NAME if path is None else path.name, path=path, env=env, discover=discover)


def whereabouts(path: Path | None, env: Mapping[str, str] | None = None) -> Loaded:
    """What can be read of a file that may be wrong: enough to find control and the state folder. Never raises for its content.

    Whoever is paged because the file is broken must still reach what runs.
    """
    env = os.environ if env is None else env
    try:
        return load(path, env=env, discover=None)
    except ConfigError:
        reading = _Reading(FILE_NAME, "")
        try:
            raw = tomllib.loads(_read(path) if path is not None else "")
        except (ConfigError, tomllib.TOMLDecodeError):
            raw = {}
        tables = ("gateway", "control", "state")
        readable: dict[str, object] = {name: raw[name] for name in tables if isinstance(raw.get(name), dict)}
        reading.override(readable, env)
        settings = decode(Settings, readable, (), reading.problem)
        for table in ("gateway", "control"):
            section = getattr(settings, table)
            try:
                parse_listen(section.listen)
            except ValueError:
                settings = msgspec.structs.replace(settings, **{table: type(section)()})
        return Loaded(settings=settings, origins={}, path=path)


def parse(
    text: str,
    *,
    name: str = FILE_NAME,
    path: Path | None = None,
    env: Mapping[str, str] | None = None,
    discover: Callable[[Settings], Mapping[str, init.Found]] | None = None,
) -> Loaded:
    """``load`` for a text already read; ``name`` stands in errors."""
    env = env or {}
    reading = _Reading(name, text)
    raw = reading.toml()
    reading.override(raw, env)
    settings = decode(Settings, raw, (), reading.problem)
    settings = _absolute_files(settings, path.parent if path is not None else Path.cwd())
    found = dict(discover(settings)) if discover is not None and not settings.providers and not reading.problems else {}
    settings = msgspec.structs.replace(settings, providers=settings.providers | {n: f.provider for n, f in found.items()})
    check(settings, reading.problem, reading.warn)
    if reading.problems:
        raise ConfigProblems(tuple(error for _, error in sorted(reading.problems, key=lambda pair: pair[0])))
    origins = {dotted(place): _origin(place, reading, found) for place, _ in leaves(settings)}
    return Loaded(settings=settings, origins=origins, warnings=tuple(reading.warnings), path=path)


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > limits.CONFIG_FILE_BYTES_MAX:
            raise ConfigError("is too large", where=path.name, fix=f"at most {limits.CONFIG_FILE_BYTES_MAX} bytes")
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"is not UTF-8 at byte {error.start}", where=path.name, fix="save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(path), fix="check the path and who may read it") from None


class _Reading:
    """One reading of a file: gathers problems and knows the places."""

    def __init__(self, name: str, text: str) -> None:
        self._name, self._text = name, text
        self.lines: dict[KeyPath, int] = {}
        self.from_env: dict[KeyPath, str] = {}
        self.problems: list[tuple[int, ConfigError]] = []
        self.warnings: list[str] = []

    def toml(self) -> dict[str, object]:
        try:
            raw = tomllib.loads(self._text)
        except tomllib.TOMLDecodeError as error:
            raise _not_toml(self._name, str(error)) from None
        self.lines = locate(self._text)
        return raw

    def override(self, raw: dict[str, object], env: Mapping[str, str]) -> None:
        """Put what the environment says over the file. A store address becomes a reference: it may hold a password."""
        for variable, (table, key) in ENV_SETTINGS.items():
            value = env.get(variable, "")
            section = raw.setdefault(table, {}) if value else None
            if isinstance(section, dict):
                section[key] = f"env:{variable}" if variable == "HEADWAY_CONTROL_STORE" else value
                self.from_env[(table, key)] = variable
        for variable in env:
            if variable.startswith(_PREFIXES) and variable not in ENV_SETTINGS:
                self.warnings.append(f"{variable} overrides nothing{did_you_mean(variable, ENV_SETTINGS)}")

    def problem(self, path: KeyPath, problem: str, fix: str) -> None:
        self.problems.append((self._line(path), self._error(path, problem, fix)))

    def warn(self, path: KeyPath, problem: str, fix: str) -> None:
        self.warnings.append(str(self._error(path, problem, fix)))

    def _error(self, path: KeyPath, problem: str, fix: str) -> ConfigError:
        return ConfigError(f"{dotted(path)} {problem}", where=self.place(path), fix=fix)

    def place(self, path: KeyPath) -> str:
        if path in self.from_env:
            return self.from_env[path]
        line = self._line(path)
        return f"{self._name}:{line}" if line else self._name

    def _line(self, path: KeyPath) -> int:
        for length in range(len(path), 0, -1):
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return 0


def _not_toml(name: str, message: str) -> ConfigError:
    """The parser's words, which quote nothing of the file, with the line in front as elsewhere."""
    place = _AT_LINE.search(message)
    what = _AT_LINE.sub("", message).strip()
    return ConfigError(
        f"is not TOML: {what[:1].lower()}{what[1:]}" + (f" in column {place[2]}" if place else ""),
        where=f"{name}:{place[1]}" if place else name,
        fix="key = value, texts in quotes, tables in [brackets]",
    )


def _origin(path: KeyPath, reading: _Reading, found: Mapping[str, init.Found]) -> Origin:
    if path in reading.from_env:
        return Origin(OriginKind.ENV, reading.from_env[path])
    if path[0] == "providers" and path[1:2] and path[1] in found:
        return Origin(OriginKind.DISCOVERED, found[str(path[1])].why)
    return Origin(OriginKind.FILE, reading.place(path)) if path in reading.lines else Origin()


def _absolute_files(settings: Settings, base: Path) -> Settings:
    """``file:`` references count from the configuration's folder; the gateway that resolves them may run elsewhere."""

    def absolute(reference: str) -> str:
        name = reference.removeprefix("file:")
        if not reference.startswith("file:") or not name:
            return reference
        return f"file:{base / Path(name).expanduser()}"

    def provider(one: Provider) -> Provider:
        headers = {name: absolute(value) for name, value in one.headers.items()}
        return msgspec.structs.replace(one, key=absolute(one.key), headers=headers)

    control, gateway = settings.control, settings.gateway
    return msgspec.structs.replace(
        settings,
        gateway=msgspec.structs.replace(gateway, link_token=absolute(gateway.link_token)),
        control=msgspec.structs.replace(control, link_token=absolute(control.link_token), store=absolute(control.store)),
        providers={name: provider(one) for name, one in settings.providers.items()},
    )
