"""Where calls' time goes by route, as histograms with exemplars: phases, gaps between tokens, and what probes find.

A call's phases are those that its verdict will rest on (``facts.seen``, ``calls.phases.split``). Only a call that had a gap long enough to be a stall has its
token times read for them; the gaps themselves are sorted once and counted by bucket, so that a token costs no step of its own.
"""

from collections.abc import Sequence
from itertools import islice, pairwise
from typing import Final

import msgspec

from headway.calls.model import Origin
from headway.calls.phases.gaps import STALL_MS_MIN, overlap_ms
from headway.calls.phases.model import Phase
from headway.calls.phases.probes import PROMPT_REF, ProbeKind
from headway.calls.phases.split import split
from headway.facts.model import AttemptFact, CallFact, Fact
from headway.facts.seen import seen_of
from headway.gateway.flow import Track
from headway.gateway.metrics import Mark, Registry

PHASE_SECONDS: Final = (0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0)
GAP_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 10.0)
FIRST_TOKEN_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0)
PHASES: Final = tuple(phase for phase in Phase if phase is not Phase.TOOL)
"""The tool wait lies before a call, and a gateway does not know the call before."""
_KINDS: Final = {PROMPT_REF + kind: kind.value for kind in ProbeKind}
_MS_PER_S: Final = 1000.0
_NS_PER_S: Final = 1e9
_STALL_S: Final = STALL_MS_MIN / _MS_PER_S


class RouteMetrics:
    """``record`` takes about 15 microseconds a call and 0.06 a token."""

    def __init__(self, registry: Registry) -> None:
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

    def record(self, call: CallFact, attempts: Sequence[Fact], track: Track | None, blocked: Sequence[int] | None) -> None:
        """A call that ended. ``track``: its last attempt; ``blocked``: when our writes waited, pairs of monotonic nanoseconds."""
        if not call.routed or call.origin == Origin.PIECE:
            return  # nothing was sent, or it is a part of another call
        mark = Mark(call.call, call.traceparent, call.started_wall_ms + call.duration_ms)
        if call.origin == Origin.PROBE:
            if call.first_token_ms is not None and (kind := _KINDS.get(call.prompt_ref)) is not None:
                self._probes.labels(kind, call.routed).observe(call.first_token_ms / _MS_PER_S, mark)
            return
        gaps = gaps_s(track, blocked) if track is not None else []
        if gaps:
            self._gaps.labels(call.routed).observe_sorted(gaps, mark)
        tries = [fact for fact in attempts if type(fact) is AttemptFact]
        if tries and not (gaps and gaps[-1] > _STALL_S):
            tries[-1] = msgspec.structs.replace(tries[-1], token_times=b"")  # no gap can be a stall
        parts = split(seen_of(call, tries)).parts_ms
        for phase in PHASES:
            self._phases.labels(phase, call.routed).observe(parts[phase] / _MS_PER_S, mark)


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
