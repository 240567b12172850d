"""Where calls' time goes by route, as histograms with exemplars: phases, gaps between tokens, and what probes find.

A call's phases are those that its verdict will rest on (``facts.seen``, ``calls.phases.split``). Most calls are one attempt without stalls or blocked
writes: of these the parts are three subtractions, which a test holds equal to the split. Gaps are sorted once and counted by bucket, so that a
token costs no step of its own; calls alike are counted together for the same reason.
"""

from collections.abc import Sequence
from itertools import islice, pairwise
from typing import Final, NamedTuple

import msgspec

from headway.calls.model import Origin
from headway.calls.phases.gaps import STALL_MS_MIN, overlap_ms
from headway.calls.phases.model import Phase
from headway.calls.phases.probes import PROMPT_REF, ProbeKind
from headway.calls.phases.split import split
from headway.facts.model import AttemptFact, CallFact
from headway.facts.seen import seen_of
from headway.gateway.flow import Track
from headway.gateway.metrics import Distribution, Mark, Registry
from headway.kernel.limits import METRIC_VALUES_PER_LABEL_MAX

PHASE_SECONDS: Final = (0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0)
GAP_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 10.0)
FIRST_TOKEN_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0)
PHASES: Final = tuple(phase for phase in Phase if phase is not Phase.TOOL)
"""The tool wait lies before a call, and a gateway does not know the call before."""
_KINDS: Final = {PROMPT_REF + kind: kind.value for kind in ProbeKind}
_MS_PER_S: Final = 1000.0
_NS_PER_S: Final = 1e9
_STALL_S: Final = STALL_MS_MIN / _MS_PER_S


class Ended(NamedTuple):
    """A call that ended, until it is counted; see ``GatewayMetrics.ended``."""

    call: CallFact
    attempts: Sequence[AttemptFact]
    track: Track | None
    blocked: Sequence[int] | None


def mark_of(call: CallFact) -> Mark:
    return Mark(call.call, call.traceparent, call.started_wall_ms + call.duration_ms)


def observe_calls(series: Distribution, values: list[float], calls: Sequence[CallFact] = ()) -> None:
    """One value of each of ``calls``, in any order; of each bucket the largest becomes the exemplar. Without calls there are none."""
    series.observe_sorted(sorted(values), (lambda value: mark_of(calls[values.index(value)])) if calls else None)


class RouteMetrics:
    """``count`` costs a series one search a bucket, however many calls are alike; a token none of its own."""

    def __init__(self, registry: Registry) -> None:
        self._of_route: dict[str, tuple[Distribution, ...]] = {}
        """Series of PHASES by route, up to METRIC_VALUES_PER_LABEL_MAX routes; a later route looks its series up each time."""
        self._phases = registry.histogram(
            "headway_phase_seconds",
            "Where calls' time went, by part; the parts of a call add up to it.",
            PHASE_SECONDS,
            ("phase",),
            ("route",),
        )
        self._gaps = registry.histogram(
            "headway_token_gap_seconds",
            "Between two reads of a streamed answer, from the first token to the last; without those in which the caller read slowly.",
            GAP_SECONDS,
            (),
            ("route",),
        )
        self._probes = registry.histogram(
            "headway_probe_first_token_seconds",
            "Probes: from arrival to the first token, by kind.",
            FIRST_TOKEN_SECONDS,
            ("kind",),
            ("route",),
        )

    def count(self, group: Sequence[Ended]) -> None:
        """Calls of one origin and one route."""
        one = group[0].call
        if not one.routed or one.origin == Origin.PIECE:
            return  # nothing was sent, or they are parts of other calls
        if one.origin == Origin.PROBE:
            self._count_probes([each.call for each in group])
            return
        rows = [self._parts_ms(each) for each in group]
        calls = [each.call for each in group]
        for series, parts_ms in zip(self._series(one.routed), zip(*rows, strict=True), strict=True):
            observe_calls(series, [part_ms / _MS_PER_S for part_ms in parts_ms], calls)

    def _count_probes(self, calls: Sequence[CallFact]) -> None:
        for call in calls:
            if call.first_token_ms is not None and (kind := _KINDS.get(call.prompt_ref)) is not None:
                observe_calls(self._probes.labels(kind, call.routed), [call.first_token_ms / _MS_PER_S], [call])

    def _parts_ms(self, each: Ended) -> tuple[float, ...]:
        """A call's parts, in the order of PHASES; its gaps are counted on the way."""
        call = each.call
        gaps = gaps_s(each.track, each.blocked) if each.track is not None else []
        if gaps:
            self._gaps.labels(call.routed).observe_sorted(gaps, lambda _: mark_of(call))
        stalled = bool(gaps) and gaps[-1] > _STALL_S
        parts = None if stalled else plain_parts_ms(call, each.attempts)
        if parts is not None:
            return parts
        tries = list(each.attempts)
        if tries and not stalled:
            tries[-1] = msgspec.structs.replace(tries[-1], token_times=b"")  # no gap can be a stall
        whole = split(seen_of(call, tries)).parts_ms
        return tuple([whole[phase] for phase in PHASES])

    def _series(self, route: str) -> tuple[Distribution, ...]:
        known = self._of_route.get(route)
        if known is None:
            known = tuple([self._phases.labels(phase, route) for phase in PHASES])
            if len(self._of_route) < METRIC_VALUES_PER_LABEL_MAX:
                self._of_route[route] = known
        return known


def plain_parts_ms(call: CallFact, tries: Sequence[AttemptFact]) -> tuple[float, ...] | None:
    """What ``split`` says, to the thousandth of a millisecond, of a call of one attempt whose instants are in order, and which neither stalled nor
    waited for its caller. None for any other."""
    if len(tries) != 1 or call.blocked_ms or call.received_ms:
        return None
    only = tries[0]
    start, to_sending, to_last, first = only.start_ms, only.sent_ms, only.last_token_ms, call.first_token_ms
    if start is None or to_sending is None or first is None or only.error_code or only.stalled_ms:
        return None
    connect = 0.0 if only.connect_ms is None else max(only.connect_ms - only.queue_ms, 0.0)
    sent, last = start + to_sending, first if to_last is None else start + to_last
    if not connect + call.queue_ms <= sent <= first <= last <= call.duration_ms:
        return None
    return (0.0, sent - connect, connect, first - sent, last - first, 0.0, 0.0, call.duration_ms - last)


def gaps_s(track: Track, blocked: Sequence[int] | None) -> list[float]:
    """Seconds between reads from the first token to the last, shortest first; of gaps in which our own write waited, none."""
    first, last, reads = track.first_token, track.last_token, track.reads
    if first is None or last is None or len(reads) < 2:
        return []
    if reads[0] < first or reads[-1] > last:
        reads = [read for read in reads if first <= read <= last]
    if not blocked:
        return sorted([(after - before) / _NS_PER_S for before, after in pairwise(reads)])
    waits = [
        (float(since), float(until)) for since, until in zip(islice(blocked, 0, None, 2), islice(blocked, 1, None, 2), strict=False)
    ]
    return sorted([(after - before) / _NS_PER_S for before, after in pairwise(reads) if not overlap_ms(waits, before, after)])
