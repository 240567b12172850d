"""What the gateway counts, in the Prometheus text format (version 0.0.4) and without a library; with exemplars for ``kernel.openmetrics`` to turn
into OpenMetrics.

A series is bound once (``family.labels("done", "chat")``) and then costs an addition. One thread, the event loop's, owns all of it: no locks.
Values of open labels come from callers and configuration: each keeps METRIC_VALUES_PER_LABEL_MAX of them and a family keeps
METRIC_SERIES_PER_FAMILY_MAX series; what comes later counts under ``other``, so that sums stay right. Labels from closed sets never fold.

Format: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

from headway.kernel.limits import METRIC_LABEL_CHARS_MAX, METRIC_SERIES_PER_FAMILY_MAX, METRIC_VALUES_PER_LABEL_MAX
from headway.kernel.openmetrics import exemplar

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OTHER = "other"


class Mark(NamedTuple):
    """The call that a value is of, as an exemplar names it. One is made a call and shared by all that it is counted in."""

    call: str
    traceparent: str
    at_wall_ms: float


class Value:
    """One series of a counter or a gauge."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def inc(self, amount: float = 1) -> None:
        self.value += amount

    def dec(self, amount: float = 1) -> None:
        self.value -= amount

    def set(self, value: float) -> None:
        self.value = value

    def samples(self, name: str, labels: str, exemplars: bool) -> Iterator[str]:
        yield f"{name}{_braces(labels)} {_number(self.value)}"


class Distribution:
    """One series of a histogram. ``counts`` are by bucket, not cumulative; the last is +Inf. Of each bucket the last value that had a mark is kept."""

    __slots__ = ("bounds", "counts", "marks", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.marks: list[tuple[float, Mark] | None] = [None] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float, mark: Mark | None = None) -> None:
        at = bisect_left(self.bounds, value)
        self.counts[at] += 1
        self.total += value
        if mark is not None:
            self.marks[at] = (value, mark)

    def observe_sorted(self, values: Sequence[float], mark_of: Callable[[float], Mark] | None = None) -> None:
        """All of ``values``, which rise: a search a bucket that they fall into instead of one a value. ``mark_of`` names the call of one of them."""
        bounds, done, count = self.bounds, 0, len(values)
        while done < count:
            at = bisect_left(bounds, values[done])
            upto = bisect_right(values, bounds[at], done) if at < len(bounds) else count
            self.counts[at] += upto - done
            if mark_of is not None:
                self.marks[at] = (values[upto - 1], mark_of(values[upto - 1]))
            done = upto
        self.total += sum(values)

    def samples(self, name: str, labels: str, exemplars: bool) -> Iterator[str]:
        running = 0
        joined = f"{labels}," if labels else ""
        for bound, count, kept in zip((*self.bounds, float("inf")), self.counts, self.marks, strict=True):
            running += count
            told = exemplar(kept[0], *kept[1]) if exemplars and kept is not None else ""
            yield f'{name}_bucket{{{joined}le="{_number(bound)}"}} {running}{told}'
        yield f"{name}_sum{_braces(labels)} {_number(self.total)}"
        yield f"{name}_count{_braces(labels)} {running}"


Series = TypeVar("Series", Value, Distribution)


class Family(Generic[Series]):
    """All series of one name. ``closed`` labels come from sets that the product defines, ``open`` ones from outside."""

    def __init__(
        self, kind: str, name: str, what: str, make: Callable[[], Series], closed: Sequence[str] = (), open: Sequence[str] = ()
    ) -> None:
        self.kind, self.name, self.what = kind, name, what
        self._make: Callable[[], Series] = make
        self._names = (*closed, *open)
        self._closed = len(closed)
        self._seen: tuple[set[str], ...] = tuple(set() for _ in open)
        self._series: dict[tuple[str, ...], Series] = {}
        if not self._names:
            self._series[()] = make()

    @property
    def label_names(self) -> tuple[str, ...]:
        return self._names

    def labels(self, *values: str) -> Series:
        """The series of these label values, closed labels first. Keep it where it is used again."""
        found = self._series.get(values)
        return found if found is not None else self._bind(values)

    def _bind(self, values: tuple[str, ...]) -> Series:
        if len(values) != len(self._names):
            raise TypeError(f"{self.name} has the labels {self._names}, not {len(values)} values")
        key = values[: self._closed] + tuple(
            self._kept(seen, value) for seen, value in zip(self._seen, values[self._closed :], strict=True)
        )
        if key not in self._series and len(self._series) >= METRIC_SERIES_PER_FAMILY_MAX:
            key = values[: self._closed] + (OTHER,) * len(self._seen)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = self._make()
        return series

    @staticmethod
    def _kept(seen: set[str], value: str) -> str:
        value = value[:METRIC_LABEL_CHARS_MAX]
        if value not in seen:
            if len(seen) >= METRIC_VALUES_PER_LABEL_MAX:
                return OTHER
            seen.add(value)
        return value

    def lines(self, exemplars: bool) -> Iterator[str]:
        yield f"# HELP {self.name} {_escape_help(self.what)}"
        yield f"# TYPE {self.name} {self.kind}"
        for key, series in self._series.items():
            labels = ",".join(f'{name}="{_escape_label(value)}"' for name, value in zip(self._names, key, strict=True))
            yield from series.samples(self.name, labels, exemplars)


class Registry:
    """Families in the order in which they were made, and what must be read just before a scrape."""

    def __init__(self) -> None:
        self._families: dict[str, Family[Value] | Family[Distribution]] = {}
        self._readers: list[Callable[[], None]] = []

    def counter(self, name: str, what: str, closed: Sequence[str] = (), open: Sequence[str] = ()) -> Family[Value]:
        assert name.endswith("_total"), name
        return self._add(Family("counter", name, what, Value, closed, open))

    def gauge(self, name: str, what: str, closed: Sequence[str] = (), open: Sequence[str] = ()) -> Family[Value]:
        return self._add(Family("gauge", name, what, Value, closed, open))

    def histogram(
        self, name: str, what: str, bounds: Sequence[float], closed: Sequence[str] = (), open: Sequence[str] = ()
    ) -> Family[Distribution]:
        """``bounds`` are upper bounds, rising, in the unit that the name ends with."""
        assert list(bounds) == sorted(set(bounds)), name
        return self._add(Family("histogram", name, what, lambda: Distribution(bounds), closed, open))

    def families(self) -> Sequence[Family[Value] | Family[Distribution]]:
        return tuple(self._families.values())

    def before_scrape(self, read: Callable[[], None]) -> None:
        """``read`` sets gauges from what it finds; it runs on each scrape, on the loop, and must be quick."""
        self._readers.append(read)

    def render(self, exemplars: bool = False) -> str:
        """The page, about a microsecond a line. With ``exemplars`` it is for ``kernel.openmetrics``, which makes a page of one format or the other."""
        for read in self._readers:
            read()
        return "\n".join(line for family in self._families.values() for line in family.lines(exemplars)) + "\n"

    def _add(self, family: Family[Series]) -> Family[Series]:
        assert family.name not in self._families, family.name
        self._families[family.name] = family
        return family


def _braces(labels: str) -> str:
    return f"{{{labels}}}" if labels else ""


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))


def _escape_label(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _escape_help(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n")
