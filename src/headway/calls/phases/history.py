"""What is usual, learnt call by call: deterministic, bounded, without a clock of its own. Calls are learnt in order of time, as they end."""

from math import log1p

from headway.calls.phases.model import Phase, Seen
from headway.calls.phases.parts import Parts, meanwhile_of, parts_of, point_of, running_of, share_cached, uncached_of
from headway.calls.phases.residual import Lane
from headway.calls.phases.settings import Settings
from headway.calls.phases.target import Crowd, Place, Recent, Target, Usuals, kept


def target_key(seen: Seen) -> tuple[str, str, str]:
    """Provider, the model as it was sent, tier."""
    return (seen.provider, seen.asked or seen.model, seen.tier)


class History:
    """All targets. Over ``targets_max`` the one unused for longest is forgotten."""

    __slots__ = ("settings", "targets")

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.targets: dict[tuple[str, str, str], Target] = {}

    def target(self, seen: Seen) -> Target | None:
        """None for a target that was never called."""
        return self.targets.get(target_key(seen))

    def learn(self, seen: Seen) -> None:
        """A call that ended, whatever became of it. Probes say how the target is, not what its tenants ask."""
        target = kept(self.targets, target_key(seen), lambda: Target(self.settings), self.settings.targets_max)
        parts = parts_of(seen, target)
        place = target.note(seen)
        lane = target.lane_for(seen)
        self._level(seen, parts, target, place)
        if parts.streamed:
            self._lane(seen, parts, target, lane)
        if not seen.probe:
            _usual(target.everyone, seen, parts)
            _usual(target.usuals_for(seen.tenant), seen, parts)
        _crowd(target.crowd, seen)

    def _level(self, seen: Seen, parts: Parts, target: Target, place: Place) -> None:
        """Change points: of all routes together, and of a new one by itself. Residuals count by their rank among the usual ones: a sum of skewed
        ones would drift without any change."""
        found = Recent(
            at_ms=seen.at_ms,
            tenant=seen.tenant,
            probe=seen.probe,
            units=parts.residual_units,
            residual=parts.residual,
            pace_token_ms=parts.pace_token_ms,
            pace_units=parts.pace_units,
            pace_off=parts.pace_off,
            moved=place is not target.whole,
        )
        target.recent.append(found)
        if target.rose() is None and not found.moved:
            target.calm.append(found)
        usual = target.lane(seen)
        if usual is None or parts.n_baseline < self.settings.baseline_calls_min:
            return
        first, pace = usual.residuals.score(parts.residual), usual.pace.score(parts.pace_share or 1.0)
        for each in {id(target.whole): target.whole, id(place): place}.values():
            each.recent.append(found)
            if parts.streamed and not _another_size(parts):
                each.first.receive(first, seen.at_ms)
            if parts.pace_token_ms is not None:
                each.pace.receive(pace, seen.at_ms)

    def _lane(self, seen: Seen, parts: Parts, target: Target, lane: Lane) -> None:
        """While a rise lasts, a lane that was usual before learns nothing of it: else the slow hour would be the measure of itself."""
        held = target.rose() is not None and lane.n >= self.settings.baseline_calls_min and target.settled(lane, seen.at_ms)
        if not held or _another_size(parts):
            lane.learn(seen.at_ms, point_of(seen, parts))
        if lane is target.lane(seen):
            lane.residuals.add(seen.at_ms, parts.residual)
        if parts.pace_token_ms is not None:
            lane.learn_pace(seen.at_ms, parts.pace_token_ms, running_of(seen))


def _another_size(parts: Parts) -> bool:
    """Prompts of a size that is not usual: how far they are off says how well the line knows their size, and nothing of the level."""
    return parts.prompt_odd or parts.cold_tokens > 0


def _usual(usuals: Usuals, seen: Seen, parts: Parts) -> None:
    at, part = seen.at_ms, parts.split.parts_ms
    uncached, share = uncached_of(seen), share_cached(seen)
    if uncached is not None:
        usuals.uncached.add(at, log1p(max(uncached - parts.cold_tokens, 0.0)))
    if share is not None:
        usuals.cached_share.add(at, share)
        usuals.cached.add(at, log1p(max(seen.cached_tokens or 0, 0)))
    if seen.output_tokens is not None:
        usuals.output.add(at, log1p(seen.output_tokens))
    usuals.queue.add(at, part[Phase.QUEUE])
    if part[Phase.TOOL] > 0:
        usuals.tool.add(at, part[Phase.TOOL])
    usuals.connect.add(at, part[Phase.CONNECT])
    usuals.blocked.add(at, part[Phase.READER])
    usuals.expected.add(at, parts.split.duration_ms - parts.over_ms)
    usuals.excess.add(at, parts.noise)


def _crowd(crowd: Crowd, seen: Seen) -> None:
    for series, value in (
        (crowd.waiting, seen.engine_waiting),
        (crowd.running, seen.engine_running),
        (crowd.preempted, seen.engine_preempted),
        (crowd.beside, seen.beside_tokens),
        (crowd.meanwhile, meanwhile_of(seen)),
    ):
        if value is not None:
            series.add(seen.at_ms, float(value))
