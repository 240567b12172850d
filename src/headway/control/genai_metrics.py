"""Metrics of the GenAI conventions out of attempts: names, units and bounds as in ``span_names.GENAI_VERSION``. Cumulative, so that a lost post loses nothing.

Probes are left out: they are no client's traffic. Of each bucket the last value is kept as an exemplar, with the span that it is of.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    Exemplar,
    Histogram,
    HistogramDataPoint,
    Metric,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from headway.calls.model import Origin
from headway.control.span_attributes import Host, Value, of_attempt, time_to_first_chunk_s
from headway.control.spans import Told, attributes
from headway.facts.measured import gaps_of_attempt
from headway.facts.model import AttemptFact
from headway.kernel.limits import OTLP_SERIES_MAX
from headway.kernel.traces import span_id, trace_of

SECONDS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKENS: Final = tuple(4.0**power for power in range(14))
_NS_PER_MS: Final = 1_000_000
_MS_PER_S: Final = 1000.0
_COMMON: Final = (
    "gen_ai.operation.name",
    "gen_ai.provider.name",
    "gen_ai.request.model",
    "gen_ai.response.model",
    "server.address",
    "server.port",
)
ERROR: Final = "error.type"
TOKEN_TYPE: Final = "gen_ai.token.type"
OVERFLOW: Final = "otel.metric.overflow"
"""What OpenTelemetry's SDKs call the one series that takes what comes after a bound of series."""


class Instrument(NamedTuple):
    name: str
    unit: str
    bounds: tuple[float, ...]
    attributes: tuple[str, ...]
    what: str


USAGE: Final = Instrument(
    "gen_ai.client.token.usage",
    "{token}",
    TOKENS,
    (*_COMMON, TOKEN_TYPE),
    "Input and output tokens of an attempt that reported them.",
)
DURATION: Final = Instrument(
    "gen_ai.client.operation.duration", "s", SECONDS, (*_COMMON, ERROR), "An attempt, without its wait in Headway's own queue."
)
FIRST_CHUNK: Final = Instrument(
    "gen_ai.client.operation.time_to_first_chunk",
    "s",
    SECONDS,
    _COMMON,
    "From leaving Headway's queue to the first token of a stream.",
)
PER_CHUNK: Final = Instrument(
    "gen_ai.client.operation.time_per_output_chunk",
    "s",
    SECONDS,
    _COMMON,
    "Between two chunks of a stream, from its first token on.",
)
INSTRUMENTS: Final = (USAGE, DURATION, FIRST_CHUNK, PER_CHUNK)


class _Kept(NamedTuple):
    value: float
    at_ns: int
    trace: bytes
    span: bytes


class _Series:
    __slots__ = ("counts", "kept", "total", "values")

    def __init__(self, instrument: Instrument, values: Mapping[str, Value]) -> None:
        self.values = values
        self.counts = [0] * (len(instrument.bounds) + 1)
        self.kept: list[_Kept | None] = [None] * len(self.counts)
        self.total = 0.0


class GenAiMetrics:
    """Lives in the exporter's thread. Bounded by OTLP_SERIES_MAX series of all instruments together."""

    def __init__(self, start_ns: int) -> None:
        self._start_ns = start_ns
        self._series: dict[tuple[str, tuple[Value, ...]], _Series] = {}
        self.changed = False
        """Something was counted since the last request was made."""

    def learn(self, batch: Iterable[Told], known: Mapping[str, Host]) -> None:
        for told in batch:
            fact = told.fact
            if type(fact) is AttemptFact and (told.call is None or told.call.origin != Origin.PROBE):
                self._attempt(fact, told, known)

    def request(self, resource: Mapping[str, Value], now_ns: int) -> ExportMetricsServiceRequest:
        """All of it, as it stands."""
        self.changed = False
        metrics = [self._metric(instrument, now_ns) for instrument in INSTRUMENTS]
        scope = ScopeMetrics(scope=InstrumentationScope(name="headway"), metrics=[each for each in metrics if each is not None])
        return ExportMetricsServiceRequest(
            resource_metrics=[ResourceMetrics(resource=Resource(attributes=attributes(resource)), scope_metrics=[scope])]
        )

    def _attempt(self, fact: AttemptFact, told: Told, known: Mapping[str, Host]) -> None:
        values = of_attempt(fact, told.call, known)
        if not values["gen_ai.operation.name"]:
            return  # files and the like
        ended_ns = int((fact.started_wall_ms + fact.duration_ms) * _NS_PER_MS)
        at = (ended_ns, trace_of(fact.call, fact.traceparent), span_id(fact.call, fact.attempt))
        self._observe(DURATION, values, [max(fact.duration_ms - fact.queue_ms, 0.0) / _MS_PER_S], at)
        for kind, tokens in (("input", fact.input_tokens), ("output", fact.output_tokens)):
            if tokens is not None:
                self._observe(USAGE, {**values, TOKEN_TYPE: kind}, [float(tokens)], at)
        if told.call is not None and told.call.stream:
            if (first := time_to_first_chunk_s(fact)) is not None:
                self._observe(FIRST_CHUNK, values, [first], at)
            self._observe(PER_CHUNK, values, [gap / _MS_PER_S for gap in gaps_of_attempt(fact).sorted_ms], at)

    def _observe(
        self, instrument: Instrument, values: Mapping[str, Value], seen: Sequence[float], at: tuple[int, bytes, bytes]
    ) -> None:
        if not seen:
            return
        series = self._of(instrument, values)
        for value in seen:
            bucket = bisect_left(instrument.bounds, value)
            series.counts[bucket] += 1
            series.kept[bucket] = _Kept(value, *at)
        series.total += sum(seen)
        self.changed = True

    def _of(self, instrument: Instrument, values: Mapping[str, Value]) -> _Series:
        key = (instrument.name, tuple(values.get(name) for name in instrument.attributes))
        found = self._series.get(key)
        if found is None:
            told: Mapping[str, Value] = dict(zip(instrument.attributes, key[1], strict=True))
            if len(self._series) >= OTLP_SERIES_MAX - len(INSTRUMENTS):
                key, told = (instrument.name, ()), {OVERFLOW: True}
            found = self._series.setdefault(key, _Series(instrument, told))
        return found

    def _metric(self, instrument: Instrument, now_ns: int) -> Metric | None:
        mine = [series for (name, _), series in self._series.items() if name == instrument.name]
        if not mine:
            return None
        points = [self._point(instrument, series, now_ns) for series in mine]
        cumulative = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
        return Metric(
            name=instrument.name,
            unit=instrument.unit,
            description=instrument.what,
            histogram=Histogram(data_points=points, aggregation_temporality=cumulative),
        )

    def _point(self, instrument: Instrument, series: _Series, now_ns: int) -> HistogramDataPoint:
        exemplars = [
            Exemplar(as_double=kept.value, time_unix_nano=kept.at_ns, trace_id=kept.trace, span_id=kept.span)
            for kept in series.kept
            if kept is not None
        ]
        return HistogramDataPoint(
            attributes=attributes(series.values),
            start_time_unix_nano=self._start_ns,
            time_unix_nano=now_ns,
            count=sum(series.counts),
            sum=series.total,
            bucket_counts=series.counts,
            explicit_bounds=instrument.bounds,
            exemplars=exemplars,
        )
