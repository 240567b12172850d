"""What the pipeline works with, built once in ``process.py``: nothing else constructs these."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from headway.calls.admission.model import EndpointView, EngineLoad
from headway.calls.conversation import DialectName
from headway.estate.reliability.failover import Budget
from headway.facts.model import Fact
from headway.gateway.budgets import BudgetBook
from headway.gateway.desk import Desk
from headway.gateway.dialects.port import Dialect
from headway.gateway.estimate import Estimator
from headway.gateway.families import GatewayMetrics
from headway.gateway.flow import Flow
from headway.gateway.live import Live
from headway.gateway.repeats import Repeats
from headway.gateway.upstream.port import Upstream
from headway.kernel.ids import IdSource
from headway.kernel.instants import MonoNs, WallMs


class FactSink(Protocol):
    def put(self, fact: Fact) -> bool:
        """Never waits and never raises: False is a row that was shed and counted."""
        ...


class Feed(Protocol):
    """The live feed and the wishes to control; best effort, never waits."""

    def opened(self, flow: Flow) -> None: ...

    def closed(self, flow: Flow, facts: list[Fact]) -> None: ...

    def ask_leases(self) -> None:
        """Send what the budget book wants to ask for."""
        ...


def _no_views(_now: MonoNs) -> tuple[EndpointView, ...]:
    return ()


@dataclass(slots=True)
class Services:
    gateway: str
    upstream: Upstream
    dialects: dict[DialectName, Dialect]
    facts: FactSink
    feed: Feed
    metrics: GatewayMetrics
    desk: Desk = field(default_factory=Desk)
    book: BudgetBook = field(default_factory=BudgetBook)
    estimator: Estimator = field(default_factory=Estimator)
    retry_budget: Budget = field(default_factory=Budget)
    repeats: Repeats = field(default_factory=Repeats)
    live: Live | None = None
    in_flight: dict[str, Flow] = field(default_factory=dict)
    draining: bool = False
    engine_loads: dict[str, EngineLoad] = field(default_factory=dict)
    """What each engine said of itself last, by endpoint; of those that are asked."""
    admission_views: Callable[[MonoNs], tuple[EndpointView, ...]] = _no_views
    """Who waits and runs at each endpoint that a policy shares: sent to control every second, nothing while it is empty."""
    new_call_id: Callable[[WallMs], str] = field(default_factory=lambda: IdSource("call"))
