"""What every handler reaches through ``request.app.state``: one frozen bundle, built by ``process.py``."""

from collections.abc import Callable
from typing import Annotated, cast

import msgspec
from fastapi import Depends, Request

from headway.control.access import OPERATOR, OPERATOR_EVERYWHERE, OWNER_EVERYWHERE, VIEWER, VIEWER_EVERYWHERE, Who
from headway.control.admission import AdmissionBook
from headway.control.auth import Authenticator
from headway.control.live import LiveFeed
from headway.control.pages.slow_book import SlowBook
from headway.control.pages.time_book import TimeBook
from headway.control.phases import PhaseBook
from headway.control.ports import Configuration, Facts, Gateways, Health, LedgerSubjects, Prices
from headway.control.probes import ProbeJob
from headway.control.traces import TraceDesk
from headway.kernel.instants import WallMs, wall_ms


class Deps(msgspec.Struct, frozen=True, kw_only=True):
    """``facts``, ``ledger`` and the others may be away: then their methods raise one of ``ports.AWAY``."""

    authenticator: Authenticator
    facts: Facts
    ledger: LedgerSubjects
    configuration: Configuration
    gateways: Gateways
    prices: Prices
    health: Health
    live: LiveFeed
    admission: AdmissionBook
    time: TimeBook
    phases: PhaseBook
    slow: SlowBook
    traces: TraceDesk
    probes: ProbeJob
    gateway_address: str = "http://127.0.0.1:8080"
    """Where calls go in, for the lines that a page tells a newcomer to run."""
    hosts: tuple[str, ...] = ()
    clock: Callable[[], WallMs] = wall_ms


def deps_of(request: Request) -> Deps:
    """The bundle of the application that serves ``request``."""
    return cast(Deps, request.app.state.deps)


Viewer = Annotated[Who, Depends(VIEWER)]
ViewerEverywhere = Annotated[Who, Depends(VIEWER_EVERYWHERE)]
Operator = Annotated[Who, Depends(OPERATOR)]
OperatorEverywhere = Annotated[Who, Depends(OPERATOR_EVERYWHERE)]
OwnerEverywhere = Annotated[Who, Depends(OWNER_EVERYWHERE)]
Use = Annotated[Deps, Depends(deps_of)]
