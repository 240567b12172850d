"""Reading a JSON object field by field, with errors that name the place, and a tally of what was left behind.

Decoding to ``dict[str, Raw]`` keeps what only passes through verbatim and shows what nobody asked for: both are needed to name
everything that a translation loses.
"""

import functools
import re
from collections.abc import Hashable, Iterable, Iterator
from typing import TypeVar, cast

import msgspec

from headway.kernel.errors import BadRequest, CallError

T = TypeVar("T")

_WORDS = {str: "a string", int: "an integer", float: "a number", bool: "true or false"}
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])

# Values that ask for nothing: leaving the field out says the same everywhere. Null always does.
_SAYS_NOTHING: dict[str, tuple[bytes, ...]] = {
    "background": (b"false",),
    "include": (b"[]",),
    "logit_bias": (b"{}",),
    "logprobs": (b"false",),
    "metadata": (b"{}",),
    "modalities": (b'["text"]',),
    "n": (b"1",),
    "service_tier": (b'"auto"', b'"default"'),
    "store": (b"false",),
    "stream_options": (b"{}",),
    "top_logprobs": (b"0",),
    "truncation": (b'"disabled"',),
    "verbosity": (b'"medium"',),
}


def shown(value: str) -> str:
    """A caller's word in a message: quoted, and not longer than a line."""
    return repr(value if len(value) <= 40 else value[:40] + "…")


def says_nothing(name: str, value: msgspec.Raw) -> bool:
    """Whether a caller who sends ``name`` with this value gets the same without it."""
    text = bytes(value).strip()
    return text == b"null" or text in _SAYS_NOTHING.get(name, ())


_UNFIT = re.compile(r"[^A-Za-z0-9_.-]")
_NAME_CHARS_MAX = 64


@functools.lru_cache(maxsize=64)
def _decoder(kind: Hashable) -> msgspec.json.Decoder[object]:
    """Made once a type: making one takes longer than reading a short value."""
    return msgspec.json.Decoder(kind)


class Lost:
    """Names of what could not be carried, each once, in the order met.

    Some are the caller's own words (a field, a type) and travel in a header: what does not belong there becomes ``_``.
    """

    __slots__ = ("_names",)

    def __init__(self) -> None:
        self._names: dict[str, None] = {}

    def add(self, name: str) -> None:
        self._names[_UNFIT.sub("_", name[:_NAME_CHARS_MAX])] = None

    def fields(self, prefix: str, fields: "Fields", known: Iterable[str] = ()) -> None:
        """Names each field of an object that was not read and is not among ``known`` (which say nothing elsewhere).

        Inside objects, false is every dialect's way of leaving a switch alone.
        """
        for name, value in fields.rest().items():
            if name not in known and bytes(value) != b"false":
                self.add(f"{prefix}{name}")

    def names(self) -> tuple[str, ...]:
        return tuple(self._names)


class Fields:
    """One JSON object. Reading a field marks it; a wrong type raises ``fault`` naming the place."""

    __slots__ = ("_raw", "_read", "fault", "where")

    def __init__(self, raw: dict[str, msgspec.Raw], where: str, fault: type[CallError]) -> None:
        self._raw = raw
        self._read: set[str] = set()
        self.where, self.fault = where, fault

    @classmethod
    def parse(cls, data: bytes | msgspec.Raw, where: str = "", fault: type[CallError] = BadRequest) -> "Fields":
        try:
            return cls(_OBJECT.decode(data), where, fault)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as problem:
            name = where or "the body"
            raise fault(f"{name}: expected a JSON object ({problem})", param=where or None) from problem

    def _at(self, key: str) -> str:
        return f"{self.where}.{key}" if self.where else key

    def wrong(self, key: str, problem: str) -> CallError:
        return self.fault(f"{self._at(key)}: {problem}", param=self._at(key))

    def __contains__(self, key: str) -> bool:
        """Present and not null."""
        return self.raw(key) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._raw)

    def raw(self, key: str) -> msgspec.Raw | None:
        """The value verbatim; None when absent or null."""
        self._read.add(key)
        value = self._raw.get(key)
        return None if value is None or bytes(value) == b"null" else value

    def maybe(self, key: str, kind: type[T]) -> T | None:
        value = self.raw(key)
        if value is None:
            return None
        try:
            return cast("T", _decoder(kind).decode(value))  # type: ignore[arg-type]  # a type is hashable
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as problem:
            raise self.wrong(key, f"expected {_WORDS.get(kind, str(kind))} ({problem})") from problem

    def need(self, key: str, kind: type[T]) -> T:
        value = self.maybe(key, kind)
        if value is None:
            raise self.wrong(key, "is required")
        return value

    def text(self, key: str) -> str:
        """The string, or "" when absent."""
        return self.maybe(key, str) or ""

    def is_text(self, key: str) -> bool:
        value = self.raw(key)
        return value is not None and bytes(value).startswith(b'"')

    def is_array(self, key: str) -> bool:
        value = self.raw(key)
        return value is not None and bytes(value).startswith(b"[")

    def object(self, key: str) -> "Fields | None":
        value = self.raw(key)
        return None if value is None else Fields.parse(value, self._at(key), self.fault)

    def objects(self, key: str) -> list["Fields"]:
        """The objects of an array; empty when absent."""
        value = self.raw(key)
        if value is None:
            return []
        try:
            items = _ARRAY.decode(value)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as problem:
            raise self.wrong(key, f"expected an array ({problem})") from problem
        return [Fields.parse(item, f"{self._at(key)}[{i}]", self.fault) for i, item in enumerate(items)]

    def was_read(self, key: str) -> bool:
        return key in self._read

    def unread(self) -> list[str]:
        """Fields that nobody asked for and that say something."""
        return [name for name, value in self._raw.items() if name not in self._read and not says_nothing(name, value)]

    def rest(self) -> dict[str, msgspec.Raw]:
        return {name: self._raw[name] for name in self.unread()}
