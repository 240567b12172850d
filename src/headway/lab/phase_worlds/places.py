"""Where calls are answered: the usual place, and others that a route may lead to."""

import msgspec


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """``slower`` is how many times as long it computes."""

    name: str
    slower: float = 1.0


USUAL = Place(name="place-0")
