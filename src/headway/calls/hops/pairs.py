"""Calls that run one after another though nothing shows that they must: what would be saved if the second began with the first.

A pair is two siblings on the critical path, the second begun within ``GAP_US_MAX`` of the first's end, whose data does not show that the second
needs the first: no output of the first is an input of the second. Where either's data is not known, the pair says so. Nobody but a person
can say that a pair is safe: ``safe`` is what was confirmed, by key. When the first decides whether the second may run at all (auth, a policy,
moderation), the second would be a speculative start, whose answer is thrown away on refusal.
"""

from collections.abc import Collection, Iterable
from itertools import pairwise
from typing import Literal

import msgspec

from headway.calls.hops.critical_path import stretches
from headway.calls.hops.model import HopSpan
from headway.calls.hops.retime import Change, Layout

GAP_US_MAX = 5_000
GATES = (
    "auth",
    "login",
    "token",
    "permission",
    "policy",
    "guard",
    "moderat",
    "verify",
    "quota",
    "ratelimit",
    "rate_limit",
    "entitle",
)
"""Words in a hop or operation that decides whether the rest may run."""
Data = Literal["independent", "unknown"]


class PairKey(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """Who calls, what first, what then; ``hop operation`` of the called, where the caller has a span that only waits."""

    request_type: str
    caller: str
    first: str
    then: str

    @property
    def speculative(self) -> bool:
        """The first is a gate: until it has answered, the second's answer must not leave."""
        return any(word in self.first.lower() for word in GATES)


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One pair in one trace. ``place`` is that of the second span; ``least_us`` the shorter of the two."""

    key: PairKey
    trace: int
    place: int
    least_us: int
    data: Data
    refused: bool
    """The first ended in an error: what was begun beside it would have been thrown away."""


def find_pairs(layouts: Iterable[tuple[str, Layout]], *, gap_us_max: int = GAP_US_MAX) -> list[Seen]:
    """Of (request type, layout of a trace), in their order."""
    found: list[Seen] = []
    for number, (request_type, layout) in enumerate(layouts):
        on_path = {place for place, _, _ in stretches(layout.spans, layout.children)}
        for at, kids in enumerate(layout.children):
            if len(kids) < 2:
                continue
            waited = [kid for kid in kids if layout.spans[kid].awaited and (kid in on_path or _holds(kid, layout, on_path))]
            for first, then in pairwise(sorted(waited, key=lambda kid: layout.spans[kid].start_us)):
                one, two = layout.spans[first], layout.spans[then]
                data = _data(one, two)
                if data is None or not 0 <= two.start_us - one.end_us <= gap_us_max or not one.duration_us or not two.duration_us:
                    continue
                key = PairKey(
                    request_type=request_type,
                    caller=_label(layout.spans[at]),
                    first=_called(first, layout),
                    then=_called(then, layout),
                )
                least = min(one.duration_us, two.duration_us)
                found.append(Seen(key=key, trace=number, place=then, least_us=least, data=data, refused=one.error))
    return found


def together_us(layout: Layout, places: Collection[int]) -> int:
    """The root's duration if the spans at ``places`` began with the sibling that ended before them."""
    change = Change(len(layout.spans))
    for place in places:
        change.beside[place] = 1
    return layout.duration_us(change)


def _holds(kid: int, layout: Layout, on_path: set[int]) -> bool:
    """Some child of it is on the path, as where a caller's span waits without a gap."""
    return any(below in on_path for below in layout.children[kid])


def _data(first: HopSpan, then: HopSpan) -> Data | None:
    """None: the second needs what the first gave."""
    if not first.outputs or not then.inputs:
        return "unknown"
    return None if set(first.outputs) & set(then.inputs) else "independent"


def _called(kid: int, layout: Layout) -> str:
    span, below = layout.spans[kid], layout.children[kid]
    if len(below) == 1 and layout.spans[below[0]].hop != span.hop:
        return _label(layout.spans[below[0]])
    return _label(span)


def _label(span: HopSpan) -> str:
    return f"{span.hop} {span.name}".strip()
