"""Whether another route made a call slow: a new marker, and a change point where it appeared."""

from math import expm1

from headway.calls.phases.claims import Case, Claim, evidence, held, lacks
from headway.calls.phases.medians import median
from headway.calls.phases.model import Cause, Evidence, Phase
from headway.calls.phases.neighbours import marked
from headway.calls.phases.target import Place

_SHIFT_SLACK = 1.5
"""A call may be so much further off than its route's other calls and still be of them."""


def route_change(case: Case) -> Claim | None:
    """Another region, fingerprint, model, edge or address, and a change point where it began. Refuted by probes that find the route as it was."""
    change = case.target.changed(case.seen)
    might = case.left_ms
    if not change:
        if case.seen.hosted and might > 0 and not marked(case):
            return lacks(Cause.ROUTE_CHANGE, might, "the provider reports neither region nor fingerprint")
        return None
    shown = tuple(Evidence(what=f"{name} is now {value}, which it was not before") for name, value in change)
    place = case.target.place_of.get(change[0])
    if place is None or len(place.recent) < case.settings.route_calls_min or not _stamped(case, place):
        calls = len(place.recent) if place is not None else 0
        return lacks(Cause.ROUTE_CHANGE, might, f"no change point yet: {calls} calls on the new route before this one", *shown)
    if _probes_calm(case, place):
        return Claim(
            cause=Cause.ROUTE_CHANGE,
            explained_ms=might,
            holds=False,
            evidence=shown,
            refuted="probes on the new route are as fast as before",
        )
    explained = min(case.first_ms, _SHIFT_SLACK * _shift_ms(case, place)) + min(
        case.slower_ms, _SHIFT_SLACK * _route_pace_ms(case, place)
    )
    explained += case.parts.cold_ms  # a cache that the new route does not have
    moved = evidence("first tokens on the new route took longer than expected, by median", _shift_ms(case, place), None, "ms")
    return held(Cause.ROUTE_CHANGE, explained, *shown, moved)


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
