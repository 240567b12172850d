"""Whether somebody else's work made a call slow: the load of an engine of one's own, or others that were slow at the same time."""

from collections.abc import Callable, Sequence

from headway.calls.phases.claims import Case, Claim, evidence, first_token, held, lacks
from headway.calls.phases.medians import median, rank_sum_p
from headway.calls.phases.model import Cause, Evidence
from headway.calls.phases.parts import meanwhile_of
from headway.calls.phases.series import Series
from headway.calls.phases.target import Recent

_MARKED = ("region", "fingerprint", "edge", "address")


def neighbour(case: Case) -> Claim | None:
    """Somebody else's work on the same engine: seen in its queue where it is our own, else in others who were slow at the same time."""
    if case.left_ms <= 0:
        return None
    return _neighbour_hosted(case) if case.seen.hosted else _neighbour_own(case)


def _neighbour_own(case: Case) -> Claim | None:
    """What is waiting, read or running beside a call makes its first token late; its pace is slowed by what runs or is read while it decodes."""
    seen, crowd, settings = case.seen, case.target.crowd, case.settings
    waiting = ("requests waiting in the engine", seen.engine_waiting, crowd.waiting, "")
    beside = ("prompt tokens that others had read beside it", seen.beside_tokens, crowd.beside, "tokens")
    preempted = ("requests that the engine had set aside", seen.engine_preempted, crowd.preempted, "")
    running = ("requests running beside it", seen.engine_running, crowd.running, "")
    meanwhile = ("prompt tokens that others had read a second while it decoded", meanwhile_of(seen), crowd.meanwhile, "tokens")
    if all(told[1] is None for told in (waiting, beside, preempted, running)):
        return lacks(Cause.NEIGHBOUR, case.left_ms, "the engine tells nothing of its queue")
    late = _more((waiting, beside, preempted, running), settings.neighbour_units) if case.first_ms > 0 else []
    slower = _more((preempted, running, meanwhile), settings.neighbour_pace_units) if case.slower_ms > 0 else []
    explained = (case.first_ms if late else 0.0) + (case.slower_ms if slower else 0.0)
    return held(Cause.NEIGHBOUR, explained, *dict.fromkeys([*late, *slower]), first_token(case)) if late or slower else None


def _more(told: Sequence[tuple[str, float | None, Series, str]], units: float) -> list[Evidence]:
    """What is so far above its usual."""
    return [
        evidence(what, float(value), series.median(), unit)
        for what, value, series, unit in told
        if value and value > series.median() and (len(series) == 0 or series.units(value) > units)
    ]


def _neighbour_hosted(case: Case) -> Claim | None:
    if case.target.changed(case.seen):
        return None
    left, probes = case.left_ms, case.target.probed
    others, p_others, slow = together(case, _of_others(case))
    tested, p_probes, probed = together(case, lambda r: r.probe)
    if not slow:
        if others < case.settings.others_min:
            return lacks(Cause.NEIGHBOUR, left, f"{others} calls of others at the same time, {case.settings.others_min} are needed")
        return Claim(cause=Cause.NEIGHBOUR, explained_ms=left, holds=False, refuted="others were not slow at the same time")
    shown = [evidence("calls of others were slow at the same time (rank sum)", float(others), None, f"calls, p = {p_others:.2g}")]
    if probed:
        shown.append(evidence("probes too", float(tested), None, f"probes, p = {p_probes:.2g}"))
    if not probed and probes and tested >= case.settings.others_min:
        return Claim(
            cause=Cause.NEIGHBOUR, explained_ms=left, holds=False, evidence=tuple(shown), refuted="probes were not slow then"
        )
    if not probed and not marked(case):
        missing = (
            "no probe at the same time, and the provider reports neither region nor fingerprint: a neighbour or a changed route"
        )
        return lacks(Cause.NEIGHBOUR, left, missing, *shown)
    return held(Cause.NEIGHBOUR, left, *shown)


def others_slow(case: Case) -> bool:
    """Whether calls of other tenants were slow with it."""
    return together(case, _of_others(case))[2]


def _of_others(case: Case) -> Callable[[Recent], bool]:
    return lambda recent: not recent.probe and recent.tenant != case.seen.tenant


def together(case: Case, wanted: Callable[[Recent], bool]) -> tuple[int, float, bool]:
    """How many of the wanted calls nearest in time were slow with it, p that they were no slower than the wanted calls are when all is calm, and
    whether they were slow: by p, and by enough to be seen. A wave may just begin or end with this call: those before it, after it and around it are
    three tries, and p is of three."""
    settings, at = case.settings, case.seen.at_ms
    close = sorted(
        (r for r in case.target.recent if wanted(r) and not r.moved and abs(r.at_ms - at) <= settings.together_ms),
        key=lambda r: r.at_ms,  # they were learnt as they ended
    )
    before = [r for r in close if r.at_ms <= at][-settings.others_near :]
    after = [r for r in close if r.at_ms > at][: settings.others_near]
    near_ids = {id(r) for r in (*before, *after)}
    calm = [_off(r) for r in case.target.calm if wanted(r) and id(r) not in near_ids]
    half = settings.others_near // 2
    tries = [[_off(r) for r in each] for each in (before, after, before[-half:] + after[:half])]
    usual, best = median(calm), (0, 1.0, False)
    for near in tries:
        if len(near) >= settings.others_min:
            p = min(1.0, len(tries) * rank_sum_p(near, calm))
            if p < best[1]:
                best = (len(near), p, p < settings.others_p_max and median(near) - usual > settings.others_units)
    return best if best[0] else (len(close), 1.0, False)


def _off(recent: Recent) -> float:
    return max(recent.units, recent.pace_units)


def marked(case: Case) -> bool:
    """Whether the target tells by anything where calls are answered."""
    return any(name in case.target.reports for name in _MARKED if name != "address" or not case.seen.hosted)
