"""What would change: a hop at half its time, beside what it waits for, cached, gone, or a model that takes 0 ms; each trace laid out again."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from headway.calls.hops.retime import Change, Layout

Kind = Literal["scale", "parallel", "cached", "gone", "model"]
CACHED_US = 1_000
"""What a hit costs, where it cost more before."""


class WhatIf(msgspec.Struct, frozen=True, kw_only=True):
    """``scale``: own work of ``hop`` times ``factor``. ``parallel``: its calls begin with the call that they waited for. ``cached``: each call of
    it takes at most ``fixed_us``, with all below it. ``gone``: 0. ``model``: every call of a model takes ``fixed_us``, by default 0."""

    kind: Kind
    hop: str = ""
    factor: float = 0.5
    fixed_us: int | None = None

    @property
    def text(self) -> str:
        """``auth x0.5``; ``model = 0 ms``."""
        if self.kind == "scale":
            return f"{self.hop} x{self.factor:g}"
        if self.kind == "model":
            return f"model = {(self.fixed_us or 0) / 1_000:g} ms"
        return f"{self.hop} {self.kind}"


class Scene:
    """One trace ready for any number of questions."""

    __slots__ = ("_calls", "_hops", "_layout", "_models", "_size", "duration_us")

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        spans = layout.spans
        self._size = len(spans)
        self.duration_us = spans[0].duration_us
        self._hops: dict[str, list[int]] = {}
        for place, span in enumerate(spans):
            self._hops.setdefault(span.hop, []).append(place)
        self._calls = _calls_by_hop(layout)
        self._models = [place for place, span in enumerate(spans) if span.is_model]

    def after_us(self, what: WhatIf) -> int:
        """The root's duration. A trace that the change does not touch keeps its own."""
        change = self._change(what)
        return self.duration_us if change is None else self._layout.duration_us(change)

    def _change(self, what: WhatIf) -> Change | None:
        change = Change(self._size)
        if what.kind == "scale":
            places = self._hops.get(what.hop, [])
            for place in places:
                change.factor[place] = what.factor
        elif what.kind == "model":
            places = self._models
            for place in places:
                change.fixed_us[place] = what.fixed_us or 0
        else:
            places = self._calls.get(what.hop, [])
            most = 0 if what.kind == "gone" else CACHED_US if what.fixed_us is None else what.fixed_us
            for place in places:
                if what.kind == "parallel":
                    change.beside[place] = 1
                else:
                    change.fixed_us[place] = min(most, self._layout.spans[place].duration_us)
        return change if places else None


def durations_us(scenes: Sequence[Scene], what: WhatIf) -> list[int]:
    return [scene.after_us(what) for scene in scenes]


def _calls_by_hop(layout: Layout) -> dict[str, list[int]]:
    """Places of calls into each hop: its topmost spans, or the span in the caller that does nothing but wait for one. A root is no call."""
    spans, children = layout.spans, layout.children
    calls: dict[str, list[int]] = {}
    waiting = [(0, 0)]
    while waiting:
        at, above = waiting.pop()
        for kid in children[at]:
            if spans[kid].hop != spans[at].hop:
                wraps = at != 0 and len(children[at]) == 1 and spans[above].hop == spans[at].hop
                calls.setdefault(spans[kid].hop, []).append(at if wraps else kid)
            waiting.append((kid, at))
    return calls
