"""Published and recalled figures of the shared traces beside ours: what owns the median and the tail, what halving a hop changes."""

from collections.abc import Iterable, Sequence

import numpy as np

from headway.calls.hops.model import HopTrace
from headway.calls.hops.report_whatif import Stage
from headway.calls.hops.times import TraceTimes
from headway.calls.hops.whatif import WhatIf
from headway.kernel.figure import Figure

LINEAR = "linear quantile over root durations of all traces, pooled"
MIDDLE = (0.40, 0.60)


class Times:
    """Rows of one application or of one request type, slowest last; ``of`` says which in each figure."""

    __slots__ = ("durations", "n", "of", "rows")

    def __init__(self, rows: Iterable[TraceTimes], of: str = "pooled over request types") -> None:
        self.of = of
        self.rows = sorted(rows, key=lambda row: row.duration_us)
        self.durations = np.asarray([row.duration_us for row in self.rows], dtype=np.float64)
        self.n = len(self.rows)

    def quantile_ms(self, share: float) -> Figure:
        return Figure(value=float(np.quantile(self.durations, share)) / 1_000, unit="ms", n=self.n, method=LINEAR)

    def tail_share(self, hop: str, share: float) -> Figure:
        """sum X / sum T over T >= the quantile."""
        inside = self.durations >= np.quantile(self.durations, share)
        return self._share(hop, inside, f"sum X / sum T over traces with T >= p{share * 100:g}, {self.of}")

    def middle_share(self, hop: str) -> Figure:
        low, high = np.quantile(self.durations, MIDDLE)
        return self._share(
            hop, (self.durations >= low) & (self.durations <= high), f"sum X / sum T over traces from p40 to p60, {self.of}"
        )

    def at_share(self, hop: str, share: float, traces: int) -> Figure:
        """Over the ``traces`` whose durations rank next to the quantile."""
        middle = round(share * (self.n - 1))
        first = max(0, min(self.n - traces, middle - traces // 2))
        inside = np.zeros(self.n, dtype=np.bool_)
        inside[first : first + traces] = True
        return self._share(hop, inside, f"sum X / sum T over the {traces} traces next to p{share * 100:g}, {self.of}")

    def _share(self, hop: str, inside: "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]", method: str) -> Figure:
        rows = [self.rows[place] for place in np.flatnonzero(inside)]
        whole = sum(row.duration_us for row in rows)
        value = sum(row.by_hop.get(hop, 0) for row in rows) / whole
        return Figure(value=value, unit="share", n=len(rows), method=method)


def halved(stage: Stage, hop: str) -> tuple[Figure, Figure]:
    """What p50 and p99 lose when the hop's own work takes half as long."""
    answer = stage.ask(WhatIf(kind="scale", hop=hop), quantiles=(0.5, 0.99), count=100)
    return answer.saved[0], answer.saved[1]


def of_type(traces: Sequence[HopTrace], word: str) -> list[HopTrace]:
    """Traces whose request type names ``word``."""
    return [trace for trace in traces if word in trace.request_type]
