"""Verdicts for spans: calls are judged as they are exported, each some two minutes later, when what went on beside it is known.

What is usual is learnt from the spans that pass, so a control that has just started cannot tell at first; the board, which reads the facts, can. A call costs
about 2 ms of the exporter's thread: over SPAN_VERDICTS_PER_S_MAX calls a second the others are not judged here, and counted.
"""

from collections import OrderedDict
from collections.abc import Sequence

from headway.calls.model import Origin, Outcome
from headway.calls.phases.model import Verdict
from headway.calls.phases.watch import Told as Judged
from headway.calls.phases.watch import Watch
from headway.control.spans import Told
from headway.facts.model import CallFact
from headway.facts.phases import Joiner
from headway.kernel.limits import SPAN_VERDICTS_PENDING_MAX, SPAN_VERDICTS_PER_S_MAX

_JUDGED = frozenset({Origin.CLIENT, Origin.PROBE})
_BURST_S = 10.0
_MS_PER_S = 1000
_QUIET_S = 15.0
"""So long nothing comes before what waits is judged: a backlog that is being sent is old too, and not at its end."""


class SpanVerdicts:
    """Lives in the exporter's thread. ``learn`` what was exported, ``idle`` when nothing comes; both answer calls that were slow, with why."""

    def __init__(self) -> None:
        self._reporting: set[tuple[str, str]] = set()
        """Routes that have reported a cached token."""
        self._telling: set[str] = set()
        """Providers whose engines tell of their queue."""
        self._joiner, self._watch = Joiner(self._reporting, self._telling), Watch()
        self._calls: OrderedDict[str, CallFact] = OrderedDict()
        self._newest_ms = 0
        self._allowed, self._at_s = SPAN_VERDICTS_PER_S_MAX * _BURST_S, 0.0
        self.left_out = 0

    @property
    def pending(self) -> bool:
        return bool(self._calls)

    def learn(self, batch: Sequence[Told], now_s: float) -> list[tuple[CallFact, Verdict]]:
        """``now_s``: of any clock that only rises."""
        told = [each for each in batch if _judged(each)]
        told.sort(key=lambda each: (_call(each).started_wall_ms, _call(each).call))
        told = self._affordable(told, now_s)
        for each in told:
            for tried in each.attempts:
                if tried.cached_tokens:
                    self._reporting.add((tried.provider, tried.upstream_model))
                if tried.engine_waiting is not None:
                    self._telling.add(tried.provider)
            self._remember(_call(each))
        calls = [_call(each) for each in told]
        judged: list[Judged] = []
        for seen in self._joiner.joined(calls, {_call(each).call: each.attempts for each in told}):
            self._newest_ms = max(self._newest_ms, seen.at_ms)
            judged += self._watch.learn(seen)
        return self._slow(judged)

    def idle(self, now_wall_ms: int, now_s: float) -> list[tuple[CallFact, Verdict]]:
        """Judges what waits once nothing more can come beside it."""
        settled = now_wall_ms >= self._newest_ms + self._watch.settings.together_ms + _QUIET_S * _MS_PER_S
        if not self._calls or not settled or now_s < self._at_s + _QUIET_S:
            return []
        found = self._slow(self._watch.finish())
        self._calls.clear()
        return found

    def _affordable(self, told: list[Told], now_s: float) -> list[Told]:
        most = SPAN_VERDICTS_PER_S_MAX * _BURST_S
        self._allowed = min(most, self._allowed + (now_s - self._at_s) * SPAN_VERDICTS_PER_S_MAX) if self._at_s else most
        self._at_s = now_s
        taken = told[: int(self._allowed)]
        self._allowed -= len(taken)
        self.left_out += len(told) - len(taken)
        return taken

    def _remember(self, call: CallFact) -> None:
        self._calls[call.call] = call
        if len(self._calls) > SPAN_VERDICTS_PENDING_MAX:
            self._calls.popitem(last=False)

    def _slow(self, judged: Sequence[Judged]) -> list[tuple[CallFact, Verdict]]:
        found = [(self._calls.pop(each.verdict.call, None), each.verdict) for each in judged]
        return [(call, verdict) for call, verdict in found if call is not None and verdict.cause is not None]


def _judged(told: Told) -> bool:
    """Whether it is a call that got an answer, with all its attempts at hand: what verdicts learn from."""
    call = told.fact
    return (
        type(call) is CallFact
        and call.origin in _JUDGED
        and call.outcome == Outcome.DONE
        and 0 < call.attempts <= len(told.attempts)
    )


def _call(told: Told) -> CallFact:
    assert type(told.fact) is CallFact
    return told.fact
