"""How the gateway itself is: ready, degraded and why, and the metrics page. What ``/health`` and heartbeats tell."""

import asyncio
from dataclasses import dataclass, field

from headway.gateway.families import GatewayMetrics, InFlight
from headway.gateway.listener.state import ListenerCounters
from headway.gateway.services import Services
from headway.kernel.instants import MonoNs, mono_ns, ms_between, wall_ms
from headway.kernel.limits import BODY_BYTES_MAX

Detail = dict[str, object]


@dataclass(slots=True)
class GatewayState:
    metrics: GatewayMetrics
    listener: ListenerCounters = field(default_factory=ListenerCounters)
    body_bytes_max: int = BODY_BYTES_MAX
    refused: dict[str, int] = field(default_factory=dict)
    """Requests that never became calls, by code: unknown routes, bodies too large, no configuration yet. Codes are a fixed set of words."""
    link_up: bool = False
    link_lost_at: MonoNs | None = None
    grace_s: float = 0.0
    problems: dict[str, str] = field(default_factory=dict)
    """What is wrong by source (spool, secrets, snapshot, providers); emptied where it is mended."""

    def refuse(self, code: str) -> None:
        self.refused[code] = self.refused.get(code, 0) + 1

    def degraded(self) -> tuple[str, ...]:
        found = [f"{source}: {problem}" for source, problem in self.problems.items()]
        if not self.link_up:
            away_s = ms_between(self.link_lost_at, mono_ns()) / 1000 if self.link_lost_at is not None else 0.0
            found.insert(
                0,
                f"control: away for {away_s:.0f} s; serving from the last snapshot for {max(0.0, self.grace_s - away_s):.0f} s more",
            )
        return tuple(found)

    def past_grace(self) -> bool:
        return not self.link_up and self.link_lost_at is not None and ms_between(self.link_lost_at, mono_ns()) / 1000 > self.grace_s

    def readiness(self, services: Services) -> tuple[int, Detail]:
        """(HTTP status, body): 200 while calls are served, degraded or not; 503 while they cannot be."""
        degraded = list(self.degraded())
        live = services.live
        if live is None:
            return 503, {"status": "starting", "degraded": degraded}
        detail: Detail = {
            "status": "degraded" if degraded else "ready",
            "degraded": degraded,
            "generation": live.generation,
            "snapshot_age_s": max(0.0, (wall_ms() - live.made_wall_ms) / 1000),
            "in_flight": len(services.in_flight),
            "saturated": _saturated(services),
        }
        if services.draining:
            return 503, detail | {"status": "draining"}
        if self.past_grace():
            return 503, detail | {"status": "out of grace"}
        return 200, detail

    def render_metrics(self, exemplars: bool = False) -> str:
        return self.metrics.render(exemplars)

    def watch(self, services: Services) -> None:
        """Bind the gauges that are read at each scrape."""
        metrics = self.metrics
        metrics.watch_in_flight(lambda: _in_flight(services))

        def read() -> None:
            metrics.connections.set(self.listener.connections_open)
            for reason, n in self.listener.closed.items():
                metrics.connections_closed.labels(reason).set(n)
            for code in self.listener.refused.keys() | self.refused.keys():
                metrics.refused_before_calls.labels(code).set(self.listener.refused.get(code, 0) + self.refused.get(code, 0))
            metrics.link_up.set(1 if self.link_up else 0)
            metrics.degraded.set(len(self.degraded()))
            metrics.tasks.set(_tasks())
            if services.live is not None:
                metrics.generation.set(services.live.generation)
                metrics.snapshot_age.set(0 if self.link_up else (wall_ms() - services.live.made_wall_ms) / 1000)

        metrics.registry.before_scrape(read)


def _saturated(services: Services) -> list[str]:
    """Endpoints at which calls wait, and what they wait for."""
    return [
        f"{view.endpoint}: {view.queued} calls wait, {view.running} of {view.requests_max:.0f} run; "
        f"a call would wait {view.wait_forecast_ms / 1000:.1f} s"
        for view in services.admission_views(mono_ns())
        if view.queued
    ]


def _in_flight(services: Services) -> InFlight:
    queued = sum(1 for f in services.in_flight.values() if f.tracks and f.tracks[-1].admitted is None)
    return InFlight(queued, len(services.in_flight) - queued)


def _tasks() -> int:
    """0 outside a loop, as in a test of the page."""
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:
        return 0
