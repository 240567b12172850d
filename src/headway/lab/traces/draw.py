"""Calls drawn from ServeGen's clients: gaps window by window, lengths from the client's distributions of that time of day."""

import math
import random
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate

from headway.kernel.instants import NS_PER_S
from headway.lab.traces.calls import TraceCall
from headway.lab.traces.servegen import LENGTHS_S, WINDOW_S, Client, Spread, Window


def draw_calls(clients: Sequence[Client], seed: int, *, began_s: int, seconds: int, rate_scale: float = 1.0) -> list[TraceCall]:
    """Calls of ``seconds`` from ``began_s`` of the day, each client's rate times ``rate_scale``. The same seed draws the same calls.

    Within a window gaps are drawn anew and scaled to the window's rate; a client without lengths at that time uses its nearest earlier
    ones, else its nearest later ones, and is left out when it has none.
    """
    calls: list[TraceCall] = []
    for client in clients:
        draw = random.Random(f"{seed}/{client.client}")
        lengths = _Lengths(client)
        for window in client.trace:
            for at_s in _arrivals(window, draw, began_s, began_s + seconds, rate_scale):
                drawn = lengths.draw(at_s, draw)
                if drawn is not None:
                    at_ns = round((at_s - began_s) * NS_PER_S)
                    calls.append(TraceCall(at_ns=at_ns, tenant=str(client.client), prompt_tokens=drawn[0], output_tokens=drawn[1]))
    return sorted(calls, key=lambda call: (call.at_ns, call.tenant))


def _arrivals(window: Window, draw: random.Random, began_s: float, end_s: float, rate_scale: float) -> Iterator[float]:
    """Instants of one window that lie in [began, end). The first gap starts at a random place in it, so that windows do not begin in step."""
    start, end = max(began_s, window.start_s), min(end_s, window.start_s + WINDOW_S)
    rate = window.rate * rate_scale
    if start >= end or rate <= 0:
        return
    at = window.start_s + draw.random() * _gap(window, draw) / rate
    while at < end:
        if at >= start:
            yield at
        at += _gap(window, draw) / rate


def _gap(window: Window, draw: random.Random) -> float:
    """One gap in units of the mean gap."""
    if window.family == "Gamma":
        return draw.gammavariate(window.shape, window.scale) / (window.shape * window.scale)
    return draw.weibullvariate(window.scale, window.shape) / (window.scale * math.gamma(1 + 1 / window.shape))


class _Lengths:
    """A client's length distributions, ready to be drawn from."""

    def __init__(self, client: Client) -> None:
        known = {
            int(start): lengths for start, lengths in client.dataset.items() if lengths.input_tokens[0] and lengths.output_tokens[0]
        }
        self._starts = sorted(known)
        self._drawn = {start: (_Drawn(known[start].input_tokens), _Drawn(known[start].output_tokens)) for start in self._starts}

    def draw(self, at_s: float, draw: random.Random) -> tuple[int, int] | None:
        """(prompt, answer) tokens, at least one each; None when the client has no lengths at all."""
        if not self._starts:
            return None
        window = int(at_s // LENGTHS_S) * LENGTHS_S
        start = self._starts[max(0, bisect_right(self._starts, window) - 1)]
        prompt, answer = self._drawn[start]
        return prompt.draw(draw), answer.draw(draw)


class _Drawn:
    """One distribution: values with their shares summed up."""

    __slots__ = ("_sums", "_values")

    def __init__(self, spread: Spread) -> None:
        self._values = spread[0]
        self._sums = list(accumulate(spread[1]))

    def draw(self, draw: random.Random) -> int:
        place = bisect_right(self._sums, draw.random() * self._sums[-1])
        return max(1, round(self._values[min(place, len(self._values) - 1)]))
