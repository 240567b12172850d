"""What a trace was a request for, told from its spans. Reports keep types apart: pooled, a tail tells more of the mix than of any hop."""

from collections.abc import Sequence

from headway.calls.hops.model import HopSpan
from headway.calls.hops.tree import children_of

NAMES_MAX = 12
"""Calls named in a type; of more, the first by name."""


def type_by_root(spans: Sequence[HopSpan]) -> str:
    """The root's hop and operation."""
    return f"{spans[0].hop} {spans[0].name}".strip()


def type_by_calls(spans: Sequence[HopSpan]) -> str:
    """For roots that all look alike, such as a gateway's: which operations the root's hop called in others, however often."""
    root, children = spans[0], children_of(spans)
    called: set[str] = set()
    waiting = [0]
    while waiting:
        for kid in children[waiting.pop()]:
            span = spans[kid]
            if span.hop == root.hop:
                waiting.append(kid)
            else:
                called.add(f"{span.hop} {span.name}".strip())
    return " + ".join(sorted(called)[:NAMES_MAX]) or type_by_root(spans)
