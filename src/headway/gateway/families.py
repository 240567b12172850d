"""The gateway's metrics by name. ``metrics.py`` says how they are counted and printed; here is what they mean.

Invariant FACT-1, nothing vanishes: submitted = done + queued + running + refused + evicted. The four sides come from different places (accepting,
the calls in flight, the records), so ``headway_calls_lost`` is a check and not a tautology.
"""

from collections.abc import Callable
from typing import NamedTuple

from headway.calls.model import Origin, Outcome
from headway.facts.model import AttemptFact, CallFact
from headway.facts.spool import SpoolStats
from headway.gateway.admission_metrics import AdmissionMetrics
from headway.gateway.metrics import Mark, Registry
from headway.gateway.route_metrics import RouteMetrics
from headway.kernel.money import NANO_PER_USD

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
LAG_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
_MS_PER_S = 1000.0


class InFlight(NamedTuple):
    """Calls that have arrived and not ended, at one moment."""

    queued: int
    running: int


class GatewayMetrics:
    """Families and what fills them. ``render`` is the page; ``record_call`` and ``record_attempt`` take about ten additions."""

    def __init__(self) -> None:
        self.registry = registry = Registry()
        counter, gauge = registry.counter, registry.gauge
        self.submitted = counter("headway_calls_submitted_total", "Calls that arrived on a known path.").labels()
        self.calls = counter("headway_calls_total", "Calls that ended.", ("outcome", "dialect"), ("feature", "tenant"))
        self.in_flight = gauge("headway_calls_in_flight", "Calls that have arrived and not ended.", ("state",))
        self.lost = gauge(
            "headway_calls_lost", "submitted - done - queued - running - refused - evicted; anything but 0 is a fault."
        ).labels()
        self.refusals = counter(
            "headway_refusals_total", "Calls refused or evicted by the gateway, by code.", (), ("code", "tenant")
        )
        self.budget_refusals = counter(
            "headway_budget_refusals_total", "Calls refused because a budget had no room.", (), ("tenant",)
        )
        self.first_token = registry.histogram(
            "headway_first_token_seconds", "From arrival to the first token sent to the caller.", SECONDS, (), ("feature", "route")
        )
        self.call_seconds = registry.histogram(
            "headway_call_seconds", "From arrival to the end.", SECONDS, (), ("feature", "route")
        )
        self.queue_seconds = registry.histogram("headway_queue_seconds", "Waiting for admission.", SECONDS, (), ("feature",))
        self.tokens = counter("headway_tokens_total", "Tokens as reported by upstreams.", ("kind",), ("feature", "tenant"))
        self.cost = counter("headway_cost_usd_total", "Cost of calls whose price is known.", (), ("feature", "tenant"))
        self.cost_unknown = counter("headway_cost_unknown_calls_total", "Calls whose cost is unknown.", (), ("feature", "tenant"))
        self.attempts = counter("headway_attempts_total", "Tries at upstreams.", ("outcome",), ("provider",))
        self.stream_faults = counter(
            "headway_stream_faults_total",
            "Streams that ended as if all were well and looped, broke off or went silent.",
            ("fault",),
            ("feature", "provider"),
        )
        self.retries = counter("headway_retries_total", "Tries after the first.", (), ("provider",))
        self.upstream_head = registry.histogram(
            "headway_upstream_head_seconds", "From sending to the head of the upstream's answer.", SECONDS, (), ("provider",)
        )
        self.routes = RouteMetrics(registry)
        self.admission = AdmissionMetrics(registry, SECONDS)
        self._process(registry)
        self._facts(registry)
        self._done = self._refused = self._evicted = 0
        self._read_in_flight: Callable[[], InFlight] = lambda: InFlight(0, 0)
        registry.before_scrape(self._check_nothing_vanished)

    def _process(self, registry: Registry) -> None:
        counter, gauge = registry.counter, registry.gauge
        self.loop_lag = registry.histogram("headway_loop_lag_seconds", "How late the event loop was.", LAG_SECONDS).labels()
        self.connections = gauge("headway_connections", "Open connections of callers.").labels()
        self.connections_closed = counter(
            "headway_connections_closed_total", "Connections ended by a deadline of the gateway, by reason.", (), ("reason",)
        )
        self.refused_before_calls = counter(
            "headway_refused_before_calls_total",
            "Connections and requests turned away before they were calls, by code.",
            (),
            ("code",),
        )
        self.headers_stripped = counter(
            "headway_headers_stripped_total", "x-headway-* headers that were not for callers to send."
        ).labels()
        self.link_up = gauge("headway_link_up", "1 while control is connected.").labels()
        self.link_breaks = counter("headway_link_breaks_total", "How often the link to control was lost.").labels()
        self.feed_shed = counter("headway_live_feed_shed_total", "Live messages dropped because the link was slow.").labels()
        self.generation = gauge("headway_config_generation", "Generation of the configuration in force.").labels()
        self.snapshot_age = gauge(
            "headway_snapshot_age_seconds", "Age of the snapshot in force, 0 while control is connected."
        ).labels()
        self.tasks = gauge("headway_tasks", "Tasks of the event loop: calls, their callers' connections, jobs.").labels()
        self.degraded = gauge("headway_degraded", "Reasons for which the gateway is degraded.").labels()

    def _facts(self, registry: Registry) -> None:
        counter, gauge = registry.counter, registry.gauge
        self.facts_put = counter("headway_facts_put_total", "Rows handed to the spool.", ("table",))
        self.facts_shed = counter("headway_facts_shed_total", "Rows that the spool could not keep.", ("table", "reason"))
        self.facts_spooled = counter("headway_facts_spooled_total", "Rows written to the spool.").labels()
        self.spool_queue = gauge("headway_spool_queue_rows", "Rows waiting to be written.").labels()
        self.spool_bytes = gauge("headway_spool_bytes", "Spool on disk.").labels()
        self.spool_segments = gauge("headway_spool_segments", "Closed segments that control has not stored yet.").labels()
        self.spool_dropped = gauge("headway_spool_recovery_dropped_bytes", "Torn tails found at the start after a kill.").labels()

    def watch_in_flight(self, read: Callable[[], InFlight]) -> None:
        """Where queued and running calls are counted: the real collections, not a counter beside them."""
        self._read_in_flight = read

    def watch_spool(self, read: Callable[[], SpoolStats]) -> None:
        """Read the spool's counts on each scrape."""
        self.registry.before_scrape(lambda: self._show_spool(read()))

    def record_call(self, fact: CallFact) -> None:
        """Count a call that ended. Call it once for each call, in the step that takes it out of flight."""
        feature, tenant = fact.feature, fact.tenant
        self.calls.labels(fact.outcome, fact.dialect, feature, tenant).inc()
        if fact.outcome == Outcome.REFUSED:
            self._refused += 1
            self.refusals.labels(fact.error_code, tenant).inc()
            if fact.error_code == "budget_exhausted":
                self.budget_refusals.labels(tenant).inc()
            return
        if fact.outcome == Outcome.EVICTED:
            self._evicted += 1
            self.refusals.labels(fact.error_code, tenant).inc()
        else:
            self._done += 1
        if fact.origin == Origin.PIECE:
            return  # a part of another call, which has its own times and tokens
        self._record_usage(fact, feature, tenant)
        if fact.origin == Origin.PROBE:
            return  # our own: it would say how clients fare, and is none
        mark = Mark(fact.call, fact.traceparent, fact.started_wall_ms + fact.duration_ms)
        self.call_seconds.labels(feature, fact.routed).observe(fact.duration_ms / _MS_PER_S, mark)
        self.queue_seconds.labels(feature).observe(fact.queue_ms / _MS_PER_S)
        if fact.queue_ms:
            self.admission.wait.labels(fact.klass).observe(fact.queue_ms / _MS_PER_S)
        if fact.first_token_ms is not None:
            self.first_token.labels(feature, fact.routed).observe(fact.first_token_ms / _MS_PER_S, mark)
        if fact.stream_fault:
            self.stream_faults.labels(fact.stream_fault, feature, fact.routed.partition("/")[0]).inc()

    def _record_usage(self, fact: CallFact, feature: str, tenant: str) -> None:
        if fact.input_tokens:
            self.tokens.labels("input", feature, tenant).inc(fact.input_tokens)
        if fact.output_tokens:
            self.tokens.labels("output", feature, tenant).inc(fact.output_tokens)
        if fact.cached_tokens:
            self.tokens.labels("cached_input", feature, tenant).inc(fact.cached_tokens)
        if fact.cost_nano_usd is None:
            self.cost_unknown.labels(feature, tenant).inc()
        else:
            self.cost.labels(feature, tenant).inc(fact.cost_nano_usd / NANO_PER_USD)

    def record_attempt(self, fact: AttemptFact) -> None:
        """Count a try at an upstream that ended."""
        self.attempts.labels(fact.outcome, fact.provider).inc()
        if fact.attempt > 1:
            self.retries.labels(fact.provider).inc()
        if fact.head_ms is not None:
            self.upstream_head.labels(fact.provider).observe(fact.head_ms / _MS_PER_S)

    def render(self, exemplars: bool = False) -> str:
        """The page in the text format, for ``/metrics``; with ``exemplars`` for the heartbeat, whose reader makes either format of it."""
        return self.registry.render(exemplars)

    def _check_nothing_vanished(self) -> None:
        queued, running = self._read_in_flight()
        self.in_flight.labels("queued").set(queued)
        self.in_flight.labels("running").set(running)
        self.lost.set(self.submitted.value - self._done - self._refused - self._evicted - queued - running)

    def _show_spool(self, stats: SpoolStats) -> None:
        for table, rows in stats.put.items():
            self.facts_put.labels(table).set(rows)
        for (table, reason), rows in stats.shed.items():
            self.facts_shed.labels(table, reason).set(rows)
        self.facts_spooled.set(stats.written)
        self.spool_queue.set(stats.queued)
        self.spool_bytes.set(stats.disk_bytes)
        self.spool_segments.set(stats.segments_closed)
        self.spool_dropped.set(stats.recovery_dropped_bytes)
