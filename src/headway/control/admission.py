"""Admission as control knows it: what gateways told last of their queues, the evidence of a range, and the alarm that is looked at twice a minute.

One computation, four readers: the board, the API, the command line and the metrics all read what ``AdmissionBook`` returns.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from headway.calls.admission.model import EndpointView
from headway.calls.admission.objectives import Kept, Objective
from headway.calls.admission.report import AdmissionReport, Stratum
from headway.calls.admission.stalls import folded
from headway.control.access import Who
from headway.control.admission_now import SharedEndpoint, TenantShare
from headway.control.ports import AWAY
from headway.facts.answers import AdmissionQuery, Stalled
from headway.kernel.instants import WallMs
from headway.kernel.limits import LINK_GATEWAYS_MAX
from headway.link.messages import AdmissionSeen

log = logging.getLogger(__name__)
ALARM_EVERY_S = 30.0
ALARM_RANGE_MS = 15 * 60_000
ALARM_BUCKET_MS = 60_000
SILENT_AFTER_MS = 5_000
"""A gateway tells its queues every second; what is older than this is shown as old."""
KEPT_MS, KEPT_MAX = 10_000, 8
"""A second of work for a range: who looks again so soon, or beside another, reads the same. Over so many the one kept first goes."""
SERVED_OVER_MS = 60_000
SERVED_EVERY_MS = 5_000
NOT_YOURS = "not yours"
"""What everybody else is to a caller who is bound to one tenant."""


class AdmissionFacts(Protocol):
    """What is asked of the facts. Both may raise one of ``ports.AWAY``."""

    async def admission(self, where: AdmissionQuery, bucket_ms: int, objectives: Mapping[str, Objective]) -> AdmissionReport: ...

    async def stalled(self, call: str, endpoint: str, since_wall_ms: int, until_wall_ms: int) -> Stalled: ...


class AdmissionBook:
    """Lives on control's loop. Keeps the last word of each gateway (at most LINK_GATEWAYS_MAX) and a minute of service."""

    def __init__(
        self, facts: AdmissionFacts, objectives: Callable[[], Mapping[str, Objective]], clock: Callable[[], WallMs]
    ) -> None:
        self._facts, self._objectives, self._clock = facts, objectives, clock
        self._seen: dict[str, tuple[WallMs, AdmissionSeen]] = {}
        self._served: dict[tuple[str, str], deque[tuple[int, dict[str, float]]]] = {}
        self._kept: dict[tuple[int, int, str, str], tuple[WallMs, AdmissionReport]] = {}
        self.latest: AdmissionReport | None = None
        """Of the last quarter of an hour, at most half a minute old; None before the first look and while the facts are away."""
        self.problem = ""

    # --- now

    def seen(self, gateway: str, message: AdmissionSeen) -> None:
        """The last word of a gateway. One that shares nothing any more is forgotten."""
        now = self._clock()
        if not message.endpoints:
            self._forget(gateway)
            return
        if gateway not in self._seen and len(self._seen) >= LINK_GATEWAYS_MAX:
            self._forget(min(self._seen, key=lambda name: self._seen[name][0]))
        self._seen[gateway] = (now, message)
        for view in message.endpoints:
            history = self._served.setdefault((gateway, view.endpoint), deque(maxlen=SERVED_OVER_MS // SERVED_EVERY_MS + 1))
            if not history or now - history[-1][0] >= SERVED_EVERY_MS:
                history.append((now, {t.tenant: t.served_tokens for t in view.tenants}))
        for key in [k for k in self._served if k[0] == gateway and k[1] not in {v.endpoint for v in message.endpoints}]:
            del self._served[key]

    def _forget(self, gateway: str) -> None:
        self._seen.pop(gateway, None)
        for key in [k for k in self._served if k[0] == gateway]:
            del self._served[key]

    def now(self, who: Who) -> tuple[SharedEndpoint, ...]:
        """Every shared endpoint, most waiting first, as far as ``who`` may see."""
        now = self._clock()
        found = [
            self._shared(gateway, at, now, view, who) for gateway, (at, message) in self._seen.items() for view in message.endpoints
        ]
        return tuple(sorted(found, key=lambda e: (-e.view.queued, e.view.endpoint, e.gateway)))

    def _shared(self, gateway: str, at: WallMs, now: WallMs, view: EndpointView, who: Who) -> SharedEndpoint:
        served = self._served_lately(gateway, view)
        total = sum(served.values())
        active = [t for t in view.tenants if t.queued or t.running or served.get(t.tenant)] or list(view.tenants)
        weights = sum(t.weight for t in active) or 1.0
        shares = [
            TenantShare(
                now=t,
                entitled_share=t.weight / weights if t in active else 0.0,
                served_share=served.get(t.tenant, 0.0) / total if total else None,
            )
            for t in view.tenants
            if who.sees(t.tenant)
        ]
        ends = view.done + view.queued + view.running + view.refused + view.evicted
        return SharedEndpoint(
            gateway=gateway,
            seen_wall_ms=at,
            silent=now - at > SILENT_AFTER_MS,
            whole=not who.tenant,
            view=msgspec.structs.replace(view, tenants=()) if not who.tenant else _bare(view),
            tenants=tuple(sorted(shares, key=lambda s: (-s.now.queued, -s.now.running, -s.now.outstanding_tokens, s.now.tenant))),
            adds_up=view.submitted == ends,
        )

    def _served_lately(self, gateway: str, view: EndpointView) -> dict[str, float]:
        """Virtual tokens by tenant since the oldest of the kept minute. A counter that fell, as after a restart, counts from zero."""
        history = self._served.get((gateway, view.endpoint))
        before = history[0][1] if history else {}
        now = {t.tenant: t.served_tokens for t in view.tenants}
        return {name: grown for name, served in now.items() if (grown := _grown(before.get(name, 0.0), served)) > 0}

    # --- what was

    async def report(self, since_wall_ms: int, until_wall_ms: int, bucket_ms: int, endpoint: str, who: Who) -> AdmissionReport:
        """The evidence of a range that ends now, at most KEPT_MS old. Raises one of ``ports.AWAY``. A caller bound to one tenant sees its own lines, and others as one."""
        key, at = (until_wall_ms - since_wall_ms, bucket_ms, endpoint, who.tenant), self._clock()
        known = self._kept.get(key)
        if known is not None and 0 <= at - known[0] < KEPT_MS:
            return known[1]
        where = AdmissionQuery(since_wall_ms=since_wall_ms, until_wall_ms=until_wall_ms, endpoint=endpoint, tenant=who.tenant)
        found = bounded(await self._facts.admission(where, bucket_ms, self._objectives()), who)
        self._kept.pop(key, None)
        self._kept[key] = (at, found)
        if len(self._kept) > KEPT_MAX:
            del self._kept[next(iter(self._kept))]
        return found

    async def stalled(self, call: str, endpoint: str, since_wall_ms: int, until_wall_ms: int, who: Who) -> Stalled:
        """What a call lost to others; those whom ``who`` may not see are counted with what is laid to nobody."""
        found = await self._facts.stalled(call, endpoint, since_wall_ms, until_wall_ms)
        hidden = sum(c.stall_ms for c in found.culprits if not who.sees(c.tenant))
        return msgspec.structs.replace(
            found,
            culprits=tuple(c for c in found.culprits if who.sees(c.tenant)),
            unexplained_ms=found.unexplained_ms + hidden,
        )

    # --- the alarm

    async def run(self) -> None:
        """For ever: look at the last quarter of an hour."""
        while True:
            await self.look()
            await asyncio.sleep(ALARM_EVERY_S)

    async def look(self) -> None:
        """One look. While the facts are away nothing is said to be well."""
        now = self._clock()
        where = AdmissionQuery(since_wall_ms=now - ALARM_RANGE_MS, until_wall_ms=now + 1)
        try:
            self.latest = await self._facts.admission(where, ALARM_BUCKET_MS, self._objectives())
            self.problem = ""
        except AWAY as away:
            self.latest, self.problem = None, f"objectives of first-token time cannot be judged: {away}"
        except Exception:
            log.exception("the look at first-token objectives failed")
            self.latest, self.problem = None, "objectives of first-token time cannot be judged; see control.log"

    def alarms(self) -> tuple[Kept, ...]:
        """Parts over their objective, those that the pooled figure hides first."""
        return (
            tuple(sorted(self.latest.masking.over, key=lambda k: (k.state != "masked", -(k.broken_share.low or 0))))
            if self.latest
            else ()
        )


def bounded(report: AdmissionReport, who: Who) -> AdmissionReport:
    """For a caller who sees one tenant only: no name of another, what others did as one."""
    if not who.tenant:
        return report
    kept = (who.tenant,)
    own = folded(report.stalls, kept, NOT_YOURS)
    own = msgspec.structs.replace(
        own,
        cells=tuple(c for c in own.cells if c.victim == who.tenant),
        victims={name: n for name, n in own.victims.items() if name == who.tenant},
    )
    return msgspec.structs.replace(report, stalls=own, stalls_by_class=msgspec.structs.replace(own, cells=(), victims={}))


def metrics_of(book: AdmissionBook) -> Sequence[tuple[str, str, str, list[tuple[str, float]]]]:
    """Families as (name, kind, help, samples): first-token time, broken share and state by class; the masking alarm. Absent while unknown."""
    report = book.latest
    if report is None:
        return ()
    times: list[tuple[str, float]] = []
    shares: list[tuple[str, float]] = []
    for line in (report.pooled, *report.classes):
        label = f'class="{_escaped(line.key.klass)}"' if line.key.kind == "class" else 'class="",pooled="true"'
        for name, figure in (("0.5", line.first_token.p50), ("0.95", line.first_token.p95), ("0.99", line.first_token.p99)):
            if figure.value is not None:
                times.append((f'{{{label},quantile="{name}"}}', figure.value))
        if line.kept.broken_share.value is not None:
            shares.append((f"{{{label}}}", line.kept.broken_share.value))
    masked = [(f'{{kind="{part.kind}",name="{_escaped(part.name)}"}}', 1.0) for part in report.masking.masked]
    return (
        ("headway_admission_first_token_ms", "gauge", "First-token time of the last quarter of an hour, by class.", times),
        ("headway_admission_objective_broken_share", "gauge", "Share of calls past their class's first-token objective.", shares),
        (
            "headway_admission_masked",
            "gauge",
            "Parts over their objective while all calls together keep theirs.",
            [("", float(len(masked)))],
        ),
        ("headway_admission_masked_part", "gauge", "Which parts these are.", masked),
    )


def slowest(report: AdmissionReport) -> Stratum | None:
    """The class whose first tokens took most times their time alone, at p99."""
    known = [line for line in report.classes if line.slowdown.p99.value is not None]
    return max(known, key=lambda line: line.slowdown.p99.value or 0.0, default=None)


def _bare(view: EndpointView) -> EndpointView:
    """Without any count over all tenants."""
    return msgspec.structs.replace(
        view,
        submitted=0,
        queued=0,
        running=0,
        done=0,
        refused=0,
        evicted=0,
        in_flight_tokens=0.0,
        long_queued=0,
        long_running=0,
        paced_pieces=0,
        tenants=(),
        usage_missing=0,
        usage_refused=0,
    )


def _grown(before: float, now: float) -> float:
    return now - before if now >= before else now


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
