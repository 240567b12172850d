"""How control itself is: what it cannot do now, in sentences, and its own figures as Prometheus text."""

from collections.abc import Callable, Sequence

import msgspec

from headway.control.admission import AdmissionBook, metrics_of
from headway.control.ingest import IngestStats
from headway.control.live import LiveFeed
from headway.control.otlp import SpanStats
from headway.control.traces import TraceStats


class Problems(msgspec.Struct, kw_only=True):
    """Where sentences come from: each answers why a part fails now, empty when it does not."""

    sources: tuple[Callable[[], str], ...] = ()
    housekeeping: str = ""


class Vitals:
    """Implements the port Health."""

    def __init__(
        self,
        live: LiveFeed,
        ingest: Callable[[], IngestStats],
        spans: Callable[[], SpanStats | None],
        problems: Problems,
        admission: AdmissionBook | None = None,
        traces: Callable[[], TraceStats] | None = None,
    ) -> None:
        self._live, self._ingest, self._spans, self._problems, self._admission = live, ingest, spans, problems, admission
        self._traces = traces

    def degraded(self) -> Sequence[str]:
        """One sentence each."""
        found = [problem for source in self._problems.sources if (problem := source())]
        if self._problems.housekeeping:
            found.append(self._problems.housekeeping)
        damaged = self._ingest().damaged_files
        if damaged:
            found.append(f"{len(damaged)} fact files cannot be read and were set aside, the first {damaged[0]}")
        spans = self._spans()
        if spans is not None and spans.problem:
            found.append(spans.problem)
        return tuple(dict.fromkeys(found))

    def metrics(self) -> str:
        """Names end in their unit or in ``_total`` for counters."""
        ingest, spans = self._ingest(), self._spans()
        lines = [
            *_family("headway_control_degraded", "gauge", "Parts of control that do not work now.", [("", len(self.degraded()))]),
            *_family("headway_control_live_watchers", "gauge", "Open live views.", [("", self._live.watchers)]),
            *_family(
                "headway_control_live_dropped_total",
                "counter",
                "Events that a slow view did not get.",
                [("", self._live.dropped_events)],
            ),
            *_family(
                "headway_control_live_lost_total", "counter", "Calls whose end was never told.", [("", self._live.lost_calls)]
            ),
            *_family("headway_control_segments_total", "counter", "Segments made durable.", [("", ingest.segments)]),
            *_family("headway_control_segments_again_total", "counter", "Segments that came twice.", [("", ingest.segments_again)]),
            *_family(
                "headway_control_segment_failures_total", "counter", "Segments that could not be stored.", [("", ingest.failures)]
            ),
            *_family("headway_control_fact_rows_total", "counter", "Rows stored, by table.", _by("table", ingest.rows)),
            *_family("headway_control_fact_rows_lost_total", "counter", "Rows missing from segments.", [("", ingest.rows_lost)]),
            *_family("headway_control_fact_files", "gauge", "Parquet files, by table.", _by("table", ingest.files)),
        ]
        if spans is not None:
            for name, help_text, value in (
                ("sent", "Spans taken by the collector.", spans.sent),
                ("shed", "Spans that did not fit the queue.", spans.shed),
                ("refused", "Spans that the collector did not want.", spans.refused),
                ("unjudged", "Calls whose verdict no span tells, since too many came.", spans.unjudged),
            ):
                lines += _family(f"headway_control_spans_{name}_total", "counter", help_text, [("", value)])
        if self._traces is not None:
            lines += _taken_in(self._traces())
        if self._admission is not None:
            for name, kind, help_text, samples in metrics_of(self._admission):
                lines += _family(name, kind, help_text, samples)
        return "\n".join(lines) + "\n"


def _taken_in(traces: TraceStats) -> list[str]:
    refused = "Spans that were refused, and whole posts (body_, post_ and not_stored), by reason."
    return [
        *_family("headway_control_trace_spans_total", "counter", "Spans taken in by /v1/traces.", [("", traces.spans)]),
        *_family("headway_control_trace_refused_total", "counter", refused, _by("reason", traces.refused)),
        *_family("headway_control_trace_mended_total", "counter", "Changes to spans taken in.", _by("reason", traces.mended)),
    ]


def _by(label: str, values: dict[str, int]) -> list[tuple[str, int]]:
    return [(f'{{{label}="{name}"}}', value) for name, value in sorted(values.items())]


def _family(name: str, kind: str, help_text: str, samples: Sequence[tuple[str, float]]) -> list[str]:
    return [f"# HELP {name} {help_text}", f"# TYPE {name} {kind}", *(f"{name}{labels} {value}" for labels, value in samples)]
