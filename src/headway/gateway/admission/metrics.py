"""What admission counts, by endpoint: read from the policy's own views at each scrape, so that ``lost`` checks what the scheduler holds."""

from collections.abc import Callable, Sequence

from headway.calls.admission.model import EndpointView
from headway.gateway.metrics import Registry

_MS_PER_S = 1000.0


class AdmissionMetrics:
    def __init__(self, registry: Registry, wait_seconds: Sequence[float]) -> None:
        gauge = registry.gauge
        self.wait = registry.histogram(
            "headway_admission_wait_seconds", "Waiting to be admitted, by tenant class.", wait_seconds, (), ("class",)
        )
        self._calls = gauge(
            "headway_admission_calls",
            "Attempts at a shared endpoint since the start by state: submitted = done + queued + running + refused + evicted.",
            ("state",),
            ("endpoint",),
        )
        self._lost = gauge("headway_admission_lost", "What that equation lacks; anything but 0 is a fault.", (), ("endpoint",))
        self._long = gauge("headway_admission_long", "Long prompts, waiting or being read.", ("state",), ("endpoint",))
        self._room = gauge("headway_admission_requests_max", "Requests that may be in flight at once.", (), ("endpoint",))
        self._tokens = gauge("headway_admission_tokens", "Prompt and expected output tokens in flight.", (), ("endpoint",))
        self._forecast = gauge("headway_admission_wait_forecast_seconds", "What a call would wait now.", (), ("endpoint",))
        self._pieces = gauge("headway_admission_pieces", "Pieces of paced prompts sent since the start.", (), ("endpoint",))
        self._pacing = gauge("headway_admission_pacing", "1 at the state that pacing is in.", (), ("endpoint", "state"))
        self._usage = gauge("headway_admission_usage", "Usage reports that were missing or refused.", ("what",), ("endpoint",))
        self._shared = gauge(
            "headway_admission_shared",
            "1: counters are shared with other gateways; 0: the shared store is away.",
            (),
            ("endpoint",),
        )
        self._pacing_was: dict[str, str] = {}

    def watch(self, registry: Registry, views: Callable[[], Sequence[EndpointView]]) -> None:
        registry.before_scrape(lambda: self._show(views()))

    def _show(self, views: Sequence[EndpointView]) -> None:
        for view in views:
            name = view.endpoint
            for state in ("submitted", "queued", "running", "done", "refused", "evicted"):
                self._calls.labels(state, name).set(getattr(view, state))
            self._lost.labels(name).set(view.submitted - view.done - view.queued - view.running - view.refused - view.evicted)
            self._long.labels("queued", name).set(view.long_queued)
            self._long.labels("running", name).set(view.long_running)
            self._room.labels(name).set(view.requests_max)
            self._tokens.labels(name).set(view.in_flight_tokens)
            self._forecast.labels(name).set(view.wait_forecast_ms / _MS_PER_S)
            self._pieces.labels(name).set(view.paced_pieces)
            if (was := self._pacing_was.get(name, view.pacing)) != view.pacing:
                self._pacing.labels(name, was).set(0)
            self._pacing_was[name] = view.pacing
            self._pacing.labels(name, view.pacing).set(1)
            if view.shared != "local":
                self._shared.labels(name).set(view.shared == "shared")
            self._usage.labels("missing", name).set(view.usage_missing)
            self._usage.labels("refused", name).set(view.usage_refused)
