"""The gateway's metrics by name. ``metrics.py`` says how they are counted and printed; here is what they mean.

Invariant FACT-1, nothing vanishes: submitted = done + queued + running + refused + evicted. The four sides come from different places (accepting,
the calls in flight, the records), so ``headway_calls_lost`` is a check and not a tautology.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from headway.calls.model import Origin, Outcome
from headway.facts.model import AttemptFact, CallFact
from headway.facts.spool import SpoolStats
from headway.gateway.admission.metrics import AdmissionMetrics
from headway.gateway.flow import Track
from headway.gateway.metrics import Registry
from headway.gateway.route_metrics import Ended, RouteMetrics, observe_calls
from headway.kernel.money import NANO_PER_USD

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
LAG_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
_MS_PER_S = 1000.0
ENDED_AT_ONCE = 64
"""Calls counted together where no page is asked for before."""


class InFlight(NamedTuple):
    """Calls that have arrived and not ended, at one moment."""

    queued: int
    running: int


class GatewayMetrics:
    """Families and what fills them. ``render`` is the page; ``ended`` is told of each call."""

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
        self._ended: list[Ended] = []
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

    def ended(
        self, call: CallFact, attempts: Sequence[AttemptFact], track: Track | None = None, blocked: Sequence[int] | None = None
    ) -> None:
        """A call that ended, once for each, in the step that takes it out of flight. ``track``: its last attempt; ``blocked``: when our writes waited,
        pairs of monotonic nanoseconds. Counted with others of its kind before the next page is made, which costs less than one by one."""
        self._ended.append(Ended(call, attempts, track, blocked))
        if len(self._ended) >= ENDED_AT_ONCE:
            self._count_ended()

    def _count_ended(self) -> None:
        ended, self._ended = self._ended, []
        alike: dict[tuple[str, ...], list[Ended]] = {}
        tries: dict[tuple[str, str], list[AttemptFact]] = {}
        for each in ended:
            call = each.call
            key = (call.outcome, call.origin, call.dialect, call.feature, call.tenant, call.routed)
            alike.setdefault(key, []).append(each)
            for tried in each.attempts:
                tries.setdefault((tried.outcome, tried.provider), []).append(tried)
        for group in alike.values():
            self._count_calls([each.call for each in group])
            self.routes.count(group)
        for group_of_tries in tries.values():
            self._count_tries(group_of_tries)

    def _count_calls(self, calls: Sequence[CallFact]) -> None:
        """Calls of one outcome, origin, dialect, feature, tenant and route."""
        one = calls[0]
        feature, tenant, outcome = one.feature, one.tenant, one.outcome
        self.calls.labels(outcome, one.dialect, feature, tenant).inc(len(calls))
        if outcome == Outcome.REFUSED or outcome == Outcome.EVICTED:
            for call in calls:
                self.refusals.labels(call.error_code, tenant).inc()
        if outcome == Outcome.REFUSED:
            self._refused += len(calls)
            if over := sum([call.error_code == "budget_exhausted" for call in calls]):
                self.budget_refusals.labels(tenant).inc(over)
            return
        if outcome == Outcome.EVICTED:
            self._evicted += len(calls)
        else:
            self._done += len(calls)
        if one.origin == Origin.PIECE:
            return  # parts of other calls, which have their own times and tokens
        self._count_usage(calls, feature, tenant)
        if one.origin == Origin.PROBE:
            return  # our own: they would say how clients fare, and are none
        observe_calls(self.call_seconds.labels(feature, one.routed), [call.duration_ms / _MS_PER_S for call in calls], calls)
        observe_calls(self.queue_seconds.labels(feature), [call.queue_ms / _MS_PER_S for call in calls])
        first = [call for call in calls if call.first_token_ms is not None]
        if first:
            seconds = [(call.first_token_ms or 0.0) / _MS_PER_S for call in first]
            observe_calls(self.first_token.labels(feature, one.routed), seconds, first)
        for call in calls:
            if call.queue_ms:
                self.admission.wait.labels(call.klass).observe(call.queue_ms / _MS_PER_S)
            if call.stream_fault:
                self.stream_faults.labels(call.stream_fault, feature, call.routed.partition("/")[0]).inc()

    def _count_usage(self, calls: Sequence[CallFact], feature: str, tenant: str) -> None:
        if tokens := sum([call.input_tokens or 0 for call in calls]):
            self.tokens.labels("input", feature, tenant).inc(tokens)
        if tokens := sum([call.output_tokens or 0 for call in calls]):
            self.tokens.labels("output", feature, tenant).inc(tokens)
        if tokens := sum([call.cached_tokens or 0 for call in calls]):
            self.tokens.labels("cached_input", feature, tenant).inc(tokens)
        known = [call.cost_nano_usd for call in calls if call.cost_nano_usd is not None]
        if len(known) < len(calls):
            self.cost_unknown.labels(feature, tenant).inc(len(calls) - len(known))
        if known:
            self.cost.labels(feature, tenant).inc(sum(known) / NANO_PER_USD)

    def _count_tries(self, tries: Sequence[AttemptFact]) -> None:
        """Of one outcome, at one provider."""
        provider = tries[0].provider
        self.attempts.labels(tries[0].outcome, provider).inc(len(tries))
        if again := sum([tried.attempt > 1 for tried in tries]):
            self.retries.labels(provider).inc(again)
        observe_calls(self.upstream_head.labels(provider), [t.head_ms / _MS_PER_S for t in tries if t.head_ms is not None])

    def render(self, exemplars: bool = False) -> str:
        """The page in the text format, for ``/metrics``; with ``exemplars`` for the heartbeat, whose reader makes either format of it."""
        return self.registry.render(exemplars)

    def _check_nothing_vanished(self) -> None:
        self._count_ended()
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
