"""Facts that cannot be written as they stand: lone surrogates from a caller's JSON, numbers beyond 64 bits from an upstream's usage.

A call must not vanish from the record because of one odd field, so the field is made storable and the rest stays.
"""

from typing import TypeVar

import msgspec

T = TypeVar("T", bound=msgspec.Struct)
INT64_MAX = 2**63 - 1
INT64_MIN = -(2**63)


def storable(fact: T) -> T:
    """``fact`` with each value fit for msgpack and for a 64-bit column. Text gets U+FFFD for what UTF-8 cannot hold; numbers are clamped."""
    return msgspec.structs.replace(fact, **{name: _storable(getattr(fact, name)) for name in fact.__struct_fields__})


def clamped(number: int) -> int:
    """``number`` within 64 signed bits."""
    return max(INT64_MIN, min(INT64_MAX, number))


def _storable(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, int) and not isinstance(value, bool):
        return clamped(value)
    if isinstance(value, tuple):
        return tuple(_storable(each) for each in value)
    return value
