"""The causes as a table: what each explains, what must hold, what refutes it. None may be named on absence of evidence.

A rule looks at one ``Case`` and answers a ``Claim``, or None where it has nothing to say. Where a signal is absent that it needs, its claim does not
hold, names the signal, and says how much it might have explained.
"""

from collections.abc import Callable, Sequence
from math import expm1

import msgspec

from headway.calls.phases.medians import median, rank_sum_p
from headway.calls.phases.model import Cause, Evidence, Phase, Seen
from headway.calls.phases.parts import Parts
from headway.calls.phases.series import Series
from headway.calls.phases.settings import Settings
from headway.calls.phases.target import Place, Recent, Target, Usuals

_SHIFT_SLACK = 1.5
"""A call may be so much further off than its route's other calls and still be of them."""
_MARKED = ("region", "fingerprint", "edge", "address")


class Case(msgspec.Struct, frozen=True):
    """One call in front of all rules."""

    seen: Seen
    parts: Parts
    target: Target
    settings: Settings

    @property
    def usuals(self) -> Usuals:
        return self.target.usuals(self.seen.tenant)

    @property
    def pace_up(self) -> bool:
        """Time a token unusual, and enough of it to matter."""
        parts, settings = self.parts, self.settings
        return parts.pace_units > settings.pace_units and parts.pace_ms > settings.pace_share * max(parts.excess_ms, 1.0)

    @property
    def together(self) -> bool:
        """First token and pace unusual as one."""
        return self.parts.noise_units > self.settings.noise_units

    @property
    def first_ms(self) -> float:
        """First-token time that tokens do not explain."""
        parts = self.parts
        odd = self.together or parts.residual_units > self.settings.noise_units
        return max((parts.rest_ms if odd else 0.0) + parts.crowd_ms, 0.0)

    @property
    def slower_ms(self) -> float:
        """Decode time that the number of tokens does not explain."""
        return max(self.parts.pace_ms, 0.0) if self.together or self.pace_up else 0.0

    @property
    def left_ms(self) -> float:
        """Both: what a route or a neighbour may have done."""
        return self.first_ms + self.slower_ms


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """``explained_ms`` is what the cause would explain; it ``holds`` when its evidence is there and nothing refutes it."""

    cause: Cause
    explained_ms: float
    holds: bool
    evidence: tuple[Evidence, ...] = ()
    refuted: str = ""
    missing: tuple[str, ...] = ()


Rule = Callable[[Case], Claim | None]


def own_queue(case: Case) -> Claim | None:
    """Our own clock; nothing refutes it."""
    waited = case.parts.queue_ms
    if waited <= 0:
        return None
    part = case.parts.split.parts_ms[Phase.QUEUE]
    return _held(Cause.OWN_QUEUE, waited, _seen("waited in our own queue", part, part - waited, "ms"))


def throttling(case: Case) -> Claim | None:
    """A 429 or 529 that we saw, or a limit that was nearly used up. A call that succeeded at first was not throttled."""
    seen, parts = case.seen, case.parts
    if parts.throttled_ms > 0:
        told = _seen("lost to refusals for the rate limit, with the wait they asked for", parts.throttled_ms, 0.0, "ms")
        return _held(Cause.THROTTLING, parts.throttled_ms, told)
    if not _near_limit(case):
        return None
    limit = _seen("of the provider's limit was left", 100 * (seen.ratelimit_remaining_share or 0.0), None, "%")
    if seen.attempts > 1 and parts.retried_ms > 0:
        return _held(Cause.THROTTLING, parts.retried_ms, limit)
    return Claim(
        cause=Cause.THROTTLING, explained_ms=0.0, holds=False, evidence=(limit,), refuted="it succeeded at the first attempt"
    )


def retry(case: Case) -> Claim | None:
    """An attempt before the one that answered, and no limit that explains it."""
    if case.seen.attempts <= 1 or case.parts.retried_ms <= 0:
        return None
    if _near_limit(case) and not case.parts.throttled_ms:
        return None
    spent = _seen("spent in attempts that did not answer", case.parts.retried_ms, 0.0, "ms")
    return _held(Cause.RETRY, case.parts.retried_ms, _seen("attempts", float(case.seen.attempts), 1.0), spent)


def long_prompt(case: Case) -> Claim | None:
    """More uncached tokens than the tenant's prompts have. Refuted where the call is as much off when they are counted."""
    parts = case.parts
    if parts.uncached is None:
        if parts.rest_ms <= 0:
            return None
        return _lacks(Cause.LONG_PROMPT, parts.rest_ms, "the provider reports no token counts")
    if not parts.prompt_odd:
        return None
    usual = expm1(case.usuals.uncached.median())
    evidence = _seen("uncached prompt tokens", parts.uncached - parts.cold_tokens, usual, "tokens")
    left = parts.rest_ms > case.settings.left_share_max * max(parts.excess_ms, 1.0)
    off = left and parts.residual_units > case.settings.unusual_units
    return Claim(
        cause=Cause.LONG_PROMPT,
        explained_ms=parts.prompt_ms,
        holds=parts.prompt_ms > 0 and not off,
        evidence=(evidence, _first_token(case)),
        refuted="the first token is as late when the prompt's tokens are counted" if off else "",
    )


def cold_cache(case: Case) -> Claim | None:
    """A prompt that is usually cached and was not. Never on a count that nobody reports."""
    seen, parts = case.seen, case.parts
    idle = max(seen.idle_ms or 0.0, seen.prefix_seen_before_ms or 0.0)
    pause = _seen("since the prefix was last asked for", idle, None, "ms")
    if seen.cached_tokens is None:
        might = parts.rest_ms if seen.prefix_seen_before_ms is not None and idle > case.settings.cache_ttl_ms else 0.0
        return _lacks(Cause.COLD_CACHE, might, "the provider reports no cached count", pause) if might > 0 else None
    if seen.prefix_seen_before_ms is None and seen.cached_tokens == 0 and parts.prompt_odd:
        return None  # a prompt of another kind: nothing says that it should have been cached
    if parts.cold_tokens <= 0:
        return None
    usual = seen.cached_tokens + parts.cold_tokens
    fewer = _seen("cached prompt tokens", float(seen.cached_tokens), usual, "tokens")
    changed = bool(case.target.changed(seen))
    if seen.hosted and idle <= case.settings.cache_ttl_ms and not changed:
        return _lacks(
            Cause.COLD_CACHE,
            parts.cold_ms,
            "nothing says why the cache was cold: the prefix was asked for within its keeping time, on the same route",
            fewer,
        )
    return _held(Cause.COLD_CACHE, parts.cold_ms, fewer, pause)


def route_change(case: Case) -> Claim | None:
    """Another region, fingerprint, model, edge or address, and a change point where it began. Refuted by probes that find the route as it was."""
    change = case.target.changed(case.seen)
    might = case.left_ms
    if not change:
        if case.seen.hosted and might > 0 and not _marked(case):
            return _lacks(Cause.ROUTE_CHANGE, might, "the provider reports neither region nor fingerprint")
        return None
    evidence = tuple(Evidence(what=f"{name} is now {value}, which it was not before") for name, value in change)
    place = case.target.place_of.get(change[0])
    if place is None or len(place.recent) < case.settings.route_calls_min or not _stamped(case, place):
        calls = len(place.recent) if place is not None else 0
        return _lacks(Cause.ROUTE_CHANGE, might, f"no change point yet: {calls} calls on the new route before this one", *evidence)
    if _probes_calm(case, place):
        return Claim(
            cause=Cause.ROUTE_CHANGE,
            explained_ms=might,
            holds=False,
            evidence=evidence,
            refuted="probes on the new route are as fast as before",
        )
    explained = min(case.first_ms, _SHIFT_SLACK * _shift_ms(case, place)) + min(
        case.slower_ms, _SHIFT_SLACK * _route_pace_ms(case, place)
    )
    explained += case.parts.cold_ms  # a cache that the new route does not have
    moved = _seen("first tokens on the new route took longer than expected, by median", _shift_ms(case, place), None, "ms")
    return _held(Cause.ROUTE_CHANGE, explained, *evidence, moved)


def neighbour(case: Case) -> Claim | None:
    """Somebody else's work on the same engine: seen in its queue where it is our own, else in others who were slow at the same time."""
    if case.left_ms <= 0:
        return None
    return _neighbour_hosted(case) if case.seen.hosted else _neighbour_own(case)


def longer_output(case: Case) -> Claim | None:
    """More tokens than usual at the usual pace."""
    parts, seen = case.parts, case.seen
    if not parts.output_odd or parts.output_ms <= 0:
        return None
    count = float(seen.output_tokens if seen.output_tokens is not None else len(seen.token_ms))
    evidence = [_seen("output tokens", count, expm1(case.usuals.output.median()), "tokens")]
    if seen.reasoning_tokens:
        evidence.append(_seen("of them reasoning", float(seen.reasoning_tokens), None, "tokens"))
    refuted = "time a token is up" if case.pace_up else ""
    return Claim(
        cause=Cause.LONGER_OUTPUT,
        explained_ms=parts.output_ms,
        holds=not refuted,
        evidence=tuple(evidence),
        refuted=refuted,
    )


def slow_decode(case: Case) -> Claim | None:
    """The same tokens at a slower pace, whoever slowed it."""
    parts = case.parts
    if not parts.streamed and case.seen.output_tokens:
        return None
    if not case.pace_up:
        return None
    took = parts.split.parts_ms[Phase.DECODE] + parts.split.parts_ms[Phase.STALL]
    evidence = [_seen("from the first token to the last", took, took - parts.pace_ms, "ms")]
    if case.seen.hosted and not _marked(case) and _together(case, lambda r: not r.probe and r.tenant != case.seen.tenant)[2]:
        missing = "others were slow at the same time, and the provider reports neither region nor fingerprint: a neighbour or a changed route"
        return _lacks(Cause.SLOW_DECODE, parts.pace_ms, missing, *evidence)
    if stalled := parts.split.parts_ms[Phase.STALL]:
        evidence.append(_seen("of it in stalls", stalled, 0.0, "ms"))
    return _held(Cause.SLOW_DECODE, parts.pace_ms, *evidence)


def slow_reader(case: Case) -> Claim | None:
    """Our own socket's clock."""
    blocked = case.parts.reader_ms
    if blocked <= 0:
        return None
    part = case.parts.split.parts_ms[Phase.READER]
    return _held(Cause.SLOW_READER, blocked, _seen("our writes to the caller were blocked", part, part - blocked, "ms"))


def tool_wait(case: Case) -> Claim | None:
    """The gap between two calls of a run."""
    waited = case.parts.tool_ms
    if waited <= 0:
        return None
    part = case.parts.split.parts_ms[Phase.TOOL]
    return _held(Cause.TOOL_WAIT, waited, _seen("the run was busy with a tool before this call", part, part - waited, "ms"))


RULES: dict[Cause, Rule] = {
    Cause.OWN_QUEUE: own_queue,
    Cause.THROTTLING: throttling,
    Cause.RETRY: retry,
    Cause.LONG_PROMPT: long_prompt,
    Cause.COLD_CACHE: cold_cache,
    Cause.ROUTE_CHANGE: route_change,
    Cause.NEIGHBOUR: neighbour,
    Cause.LONGER_OUTPUT: longer_output,
    Cause.SLOW_DECODE: slow_decode,
    Cause.SLOW_READER: slow_reader,
    Cause.TOOL_WAIT: tool_wait,
}
NESTED = frozenset(
    {
        (Cause.ROUTE_CHANGE, Cause.COLD_CACHE),
        (Cause.ROUTE_CHANGE, Cause.SLOW_DECODE),
        (Cause.ROUTE_CHANGE, Cause.NEIGHBOUR),
        (Cause.NEIGHBOUR, Cause.SLOW_DECODE),
    }
)
"""(outer, inner): both may explain the same milliseconds, and the outer one says more. A slower route also queues more."""


def claims_of(case: Case) -> tuple[Claim, ...]:
    """What every rule says of the call, most explained first."""
    found = [claim for rule in RULES.values() if (claim := rule(case)) is not None]
    return tuple(sorted(found, key=lambda claim: -claim.explained_ms))


# --- evidence


def _near_limit(case: Case) -> bool:
    share = case.seen.ratelimit_remaining_share
    return share is not None and share <= case.settings.ratelimit_near


def _neighbour_own(case: Case) -> Claim | None:
    """What is waiting, read or running beside a call makes its first token late; its pace is slowed by what runs or is read while it decodes."""
    seen, crowd, settings = case.seen, case.target.crowd, case.settings
    waiting = ("requests waiting in the engine", seen.engine_waiting, crowd.waiting, "")
    beside = ("prompt tokens that others had read beside it", seen.beside_tokens, crowd.beside, "tokens")
    preempted = ("requests that the engine had set aside", seen.engine_preempted, crowd.preempted, "")
    running = ("requests running beside it", seen.engine_running, crowd.running, "")
    meanwhile = ("prompt tokens that others had read while it decoded", seen.beside_decode_tokens, crowd.beside_decode, "tokens")
    if all(told[1] is None for told in (waiting, beside, preempted, running)):
        return _lacks(Cause.NEIGHBOUR, case.left_ms, "the engine tells nothing of its queue")
    late = _more((waiting, beside, preempted, running), settings.neighbour_units) if case.first_ms > 0 else []
    slower = _more((preempted, running, meanwhile), settings.neighbour_pace_units) if case.slower_ms > 0 else []
    explained = (case.first_ms if late else 0.0) + (case.slower_ms if slower else 0.0)
    return _held(Cause.NEIGHBOUR, explained, *dict.fromkeys([*late, *slower]), _first_token(case)) if late or slower else None


def _more(told: Sequence[tuple[str, int | None, Series, str]], units: float) -> list[Evidence]:
    """What is so far above its usual."""
    return [
        _seen(what, float(value), series.median(), unit)
        for what, value, series, unit in told
        if value and value > series.median() and (len(series) == 0 or series.units(value) > units)
    ]


def _neighbour_hosted(case: Case) -> Claim | None:
    if case.target.changed(case.seen):
        return None
    left, probes = case.left_ms, case.target.probed
    others, p_others, slow = _together(case, lambda r: not r.probe and r.tenant != case.seen.tenant)
    tested, p_probes, probed = _together(case, lambda r: r.probe)
    if not slow:
        if others < case.settings.others_min:
            return _lacks(
                Cause.NEIGHBOUR, left, f"{others} calls of others at the same time, {case.settings.others_min} are needed"
            )
        return Claim(cause=Cause.NEIGHBOUR, explained_ms=left, holds=False, refuted="others were not slow at the same time")
    evidence = [_seen("calls of others were slow at the same time (rank sum)", float(others), None, f"calls, p = {p_others:.2g}")]
    if probed:
        evidence.append(_seen("probes too", float(tested), None, f"probes, p = {p_probes:.2g}"))
    if not probed and probes and tested >= case.settings.others_min:
        return Claim(
            cause=Cause.NEIGHBOUR, explained_ms=left, holds=False, evidence=tuple(evidence), refuted="probes were not slow then"
        )
    if not probed and not _marked(case):
        missing = (
            "no probe at the same time, and the provider reports neither region nor fingerprint: a neighbour or a changed route"
        )
        return _lacks(Cause.NEIGHBOUR, left, missing, *evidence)
    return _held(Cause.NEIGHBOUR, left, *evidence)


def _together(case: Case, wanted: Callable[[Recent], bool]) -> tuple[int, float, bool]:
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


def _marked(case: Case) -> bool:
    """Whether the target tells by anything where calls are answered."""
    return any(name in case.target.reports for name in _MARKED if name != "address" or not case.seen.hosted)


def _stamped(case: Case, place: Place) -> bool:
    """A change point of first tokens or pace, of this route or of all together, where the route began."""
    whole = case.target.whole
    return any(
        alarm is not None
        and alarm.rose
        and (
            abs(alarm.stamp_ms - place.since_ms) <= case.settings.stamp_ms
            or (of_place and alarm.stamp_index <= case.settings.stamp_calls)
            or (not of_place and abs(alarm.stamp_index - place.since_index) <= case.settings.stamp_calls)
        )
        for alarm, of_place in (
            (place.first.episode, True),
            (place.pace.episode, True),
            (whole.first.episode, False),
            (whole.pace.episode, False),
        )
    )


def _probes_calm(case: Case, place: Place) -> bool:
    probes = [each.units for each in place.recent if each.probe]
    return len(probes) >= case.settings.others_min and median(probes) < case.settings.probe_units_max


def _shift_ms(case: Case, place: Place) -> float:
    """What the first tokens of the route's latest calls were off by, at this call's size."""
    found = [each.residual for each in place.recent] + [case.parts.residual]
    return max(case.parts.first_expected_ms * expm1(median(found)), 0.0)


def _route_pace_ms(case: Case, place: Place) -> float:
    """What its pace was off by, at this call's length."""
    decode = case.parts.split.parts_ms[Phase.DECODE] + case.parts.split.parts_ms[Phase.STALL] - case.parts.pace_ms
    off = [each.pace_off for each in place.recent if each.pace_off is not None]
    return max(decode * expm1(median(off)), 0.0) if off else 0.0


def _first_token(case: Case) -> Evidence:
    return _seen("to the first token", case.parts.took_ms, case.parts.first_expected_ms, "ms")


def _seen(what: str, value: float, usual: float | None, unit: str = "") -> Evidence:
    return Evidence(what=what, value=round(value, 3), usual=None if usual is None else round(usual, 3), unit=unit)


def _held(cause: Cause, explained_ms: float, *evidence: Evidence) -> Claim:
    return Claim(cause=cause, explained_ms=explained_ms, holds=explained_ms > 0, evidence=evidence)


def _lacks(cause: Cause, might_ms: float, missing: str, *evidence: Evidence) -> Claim:
    return Claim(cause=cause, explained_ms=might_ms, holds=False, evidence=evidence, missing=(missing,))
