"""Admission in the gateway: built when the first generation that shares an endpoint comes, told of each later one, shown to whoever asks.

Until then the desk makes no event for any call. An endpoint without an admission table is never asked about, whatever the others do.
"""

from collections.abc import Callable, Mapping

from headway.calls.admission.counters import Counters
from headway.calls.admission.model import EndpointAdmission, EndpointView, EngineLoad
from headway.calls.admission.others import ALONE, Others
from headway.calls.admission.policy import AdmissionPolicy
from headway.gateway.admission.settings import UNSHARED, endpoints_of, shares_of
from headway.gateway.desk import Desk
from headway.gateway.live import Live
from headway.kernel.instants import MonoNs, WallMs, after_ms

DAY_MS = 86_400_000


class GatewayAdmission:
    """``counters`` makes an endpoint's virtual token counters where they are shared with other gateways; None keeps them here."""

    def __init__(self, desk: Desk, counters: Callable[[str], Counters] | None = None) -> None:
        self._desk = desk
        self._counters = counters
        self.policy: AdmissionPolicy | None = None
        self.endpoints: Mapping[str, EndpointAdmission] = {}

    def install(self, live: Live, now: MonoNs, wall: WallMs) -> None:
        """A new generation. Calls that run go on; calls that wait are put in the new order, at an endpoint no longer shared they go."""
        endpoints, shares = endpoints_of(live), shares_of(live.settings)
        if self.policy is None:
            if not endpoints:
                return
            self.policy = AdmissionPolicy(
                endpoints, shares, default=UNSHARED, day_ends=_day_ends(now, wall), counters=self._counters
            )
            self._desk.admit_by(self.policy, frozenset(endpoints))
        else:
            self._desk.admit_by(self.policy, frozenset(endpoints))
            self._desk.do(self.policy.reconfigure(endpoints, shares, now), now)
        self.endpoints = endpoints

    def heard(self, endpoint: str, load: EngineLoad, now: MonoNs) -> None:
        """What an engine says of itself."""
        if self.policy is not None and endpoint in self.endpoints:
            self._desk.do(self.policy.load(endpoint, load, now), now)

    def own(self, endpoint: str, now: MonoNs) -> Others:
        """What this gateway has at an endpoint, for the other gateways."""
        return ALONE if self.policy is None else self.policy.own(endpoint, now)

    def others_told(self, endpoint: str, others: Others, now: MonoNs) -> None:
        """What the other gateways have there: who may go now goes."""
        if self.policy is not None:
            self._desk.do(self.policy.others_told(endpoint, others, now), now)

    def views(self, now: MonoNs) -> tuple[EndpointView, ...]:
        """Endpoints that are shared and have seen calls."""
        if self.policy is None:
            return ()
        return tuple(self.policy.view(name, now) for name in self.policy.endpoints if name in self.endpoints)


def _day_ends(now: MonoNs, wall: WallMs) -> MonoNs:
    return after_ms(now, DAY_MS - wall % DAY_MS)
