"""Fills the structs of ``model.py`` from parsed TOML, going on after a mistake so that all mistakes are told at once."""

from collections.abc import Callable, Mapping
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec

from headway.config import model
from headway.config.locate import Path
from headway.config.problems import did_you_mean, dotted, shown
from headway.config.rules import RANGES

Report = Callable[[Path, str, str], None]
"""Takes the place, the problem and what to do."""

_TYPE_NAMES = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


class Invalid:
    """Stands for a value that was reported; its field keeps the default."""


INVALID = Invalid()


def decode(cls: type[Any], raw: Mapping[str, object], path: Path, report: Report) -> Any:
    """An instance of ``cls``. Whatever does not fit is reported and replaced by its default."""
    hints = get_type_hints(cls)
    fields = {field.encode_name: field for field in msgspec.structs.fields(cls)}
    values: dict[str, object] = {}
    for key, value in raw.items():
        field = fields.get(key)
        if field is None:
            report((*path, key), *_unknown(key, path, fields))
            continue
        decoded = _value(hints[field.name], value, (*path, key), report)
        if decoded is not INVALID and _in_range(cls, field.name, decoded, (*path, key), report):
            values[field.name] = decoded
    return cls(**values)


def _unknown(key: str, path: Path, fields: Mapping[str, object]) -> tuple[str, str]:
    table = f"[{dotted(path)}]" if path else "the file"
    elsewhere = [place for place in known_places().get(key, ()) if place != _general(path)]
    problem = f"is not a setting of {table}{did_you_mean(key, fields)}"
    if "did you mean" not in problem and elsewhere:
        return problem, "it belongs in " + " or ".join(f"[{place}]" if place else "the top of the file" for place in elsewhere)
    return problem, "settings here: " + ", ".join(sorted(fields))


def _value(hint: Any, value: object, path: Path, report: Report) -> object:
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return decode(hint, value, path, report) if isinstance(value, dict) else _wrong(value, "a table", path, report)
    origin = get_origin(hint)
    if origin is tuple:
        return _list(get_args(hint)[0], value, path, report)
    if origin is dict:
        return _table(get_args(hint)[1], value, path, report)
    choices = get_args(hint) if origin in (Union, UnionType) else (hint,)
    if (table := table_in(hint)) is not None:
        return _value(table, value, path, report)
    for choice in choices:
        if choice is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value) if len(choices) == 1 else value
        if choice in _TYPE_NAMES and type(value) is choice:
            return value
    return _wrong(value, " or ".join(_TYPE_NAMES[choice] for choice in choices if choice in _TYPE_NAMES), path, report)


def table_in(hint: Any) -> type[Any] | None:
    """The struct of a table that may be left out (``Struct | None``); None for anything else."""
    if get_origin(hint) not in (Union, UnionType):
        return None
    return next((choice for choice in get_args(hint) if isinstance(choice, type) and issubclass(choice, msgspec.Struct)), None)


def _list(hint: Any, value: object, path: Path, report: Report) -> object:
    if not isinstance(value, list):
        return _wrong(value, "a list", path, report)
    items = [_value(hint, item, (*path, index), report) for index, item in enumerate(value)]
    return tuple(item for item in items if item is not INVALID)


def _table(hint: Any, value: object, path: Path, report: Report) -> object:
    if not isinstance(value, dict):
        return _wrong(value, "a table", path, report)
    items = {name: _value(hint, item, (*path, name), report) for name, item in value.items()}
    return {name: item for name, item in items.items() if item is not INVALID}


def _wrong(value: object, wanted: str, path: Path, report: Report) -> Invalid:
    got = "a table" if isinstance(value, dict) else "a list" if isinstance(value, list) else shown(value)
    report(path, f"must be {wanted}, not {got}", "")
    return INVALID


def _in_range(cls: type[Any], field: str, value: object, path: Path, report: Report) -> bool:
    bounds = RANGES.get((cls.__name__, field))
    if bounds is None or not isinstance(value, int | float) or bounds[0] <= value <= bounds[1]:
        return True
    report(path, f"is {shown(value)}; it must lie between {shown(bounds[0])} and {shown(bounds[1])}", "")
    return False


def _general(path: Path) -> str:
    """``providers.openai.timeouts`` as ``providers.NAME.timeouts``."""
    named = len(path) > 1 and path[0] in ("providers", "features", "tenants", "classes")
    return ".".join(("NAME" if named and index == 1 else str(part)) for index, part in enumerate(path))


def known_places() -> dict[str, list[str]]:
    """For each key of the model the tables that have it; the empty name is the top of the file."""
    places: dict[str, list[str]] = {}
    for place, cls in tables():
        for field in msgspec.structs.fields(cls):
            places.setdefault(field.encode_name, []).append(place)
    return places


def tables(cls: type[Any] = model.Settings, place: str = "") -> list[tuple[str, type[Any]]]:
    """Every table of the configuration, parents first, with its name (``providers.NAME.timeouts``)."""
    found = [(place, cls)]
    hints = get_type_hints(cls)
    for field in msgspec.structs.fields(cls):
        hint, name = hints[field.name], f"{place}.{field.encode_name}".lstrip(".")
        if get_origin(hint) is dict:
            hint, name = get_args(hint)[1], f"{name}.NAME"
        hint = table_in(hint) or hint
        if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
            found.extend(tables(hint, name))
    return found
