"""Why a hop takes more in the tail than in the middle: because other requests are there, or because the same requests take longer.

Oaxaca's split over request types g, with p_g the share of type g and r_g what hop X takes in type g's own middle:
mean_tail(X) - mean_middle(X) = sum_g (p_g,tail - p_g,middle) r_g  +  the rest within types. The two sum exactly (HOP-4).
"""

from collections.abc import Sequence

import msgspec

from headway.calls.hops.times import TraceTimes

MIDDLE = (0.40, 0.60)


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """ms a trace; ``mix_ms + within_ms = excess_ms``."""

    hop: str
    excess_ms: float
    mix_ms: float
    within_ms: float


class TypeShare(msgspec.Struct, frozen=True, kw_only=True):
    """How much of the middle and of the tail a type is."""

    request_type: str
    middle: float
    tail: float


def split_tail(rows: Sequence[TraceTimes], share: float) -> tuple[tuple[Split, ...], tuple[TypeShare, ...]]:
    """Of the traces from the quantile ``share`` up against those between p40 and p60. Hops by excess; types by what they are of the tail.
    Empty without rows."""
    ordered = sorted(rows, key=lambda row: row.duration_us)
    if not ordered:
        return (), ()
    tail = ordered[min(len(ordered) - 1, int(share * (len(ordered) - 1))) :]
    middle = _middle(ordered)
    usual = {kind: _means(_middle(members)) for kind, members in _by_type(ordered).items()}
    tail_shares, middle_shares = _type_shares(tail), _type_shares(middle)
    excess = _minus(_means(tail), _means(middle))
    mix: dict[str, float] = {}
    for kind in {*tail_shares, *middle_shares}:
        moved = tail_shares.get(kind, 0.0) - middle_shares.get(kind, 0.0)
        for hop, ms in usual[kind].items():
            mix[hop] = mix.get(hop, 0.0) + moved * ms
    splits = [
        Split(hop=hop, excess_ms=excess.get(hop, 0.0), mix_ms=mix.get(hop, 0.0), within_ms=excess.get(hop, 0.0) - mix.get(hop, 0.0))
        for hop in {*excess, *mix}
    ]
    types = [
        TypeShare(request_type=kind, middle=middle_shares.get(kind, 0.0), tail=tail_shares.get(kind, 0.0))
        for kind in {*tail_shares, *middle_shares}
    ]
    return (
        tuple(sorted(splits, key=lambda each: (-each.excess_ms, each.hop))),
        tuple(sorted(types, key=lambda each: (-each.tail, each.request_type))),
    )


def _middle(ordered: Sequence[TraceTimes]) -> Sequence[TraceTimes]:
    first, last = (int(edge * len(ordered)) for edge in MIDDLE)
    return ordered[first : max(last, first + 1)]


def _by_type(rows: Sequence[TraceTimes]) -> dict[str, list[TraceTimes]]:
    """In the order of ``rows``."""
    groups: dict[str, list[TraceTimes]] = {}
    for row in rows:
        groups.setdefault(row.request_type, []).append(row)
    return groups


def _type_shares(rows: Sequence[TraceTimes]) -> dict[str, float]:
    return {kind: len(members) / len(rows) for kind, members in _by_type(rows).items()}


def _means(rows: Sequence[TraceTimes]) -> dict[str, float]:
    """By hop, ms."""
    sums: dict[str, int] = {}
    for row in rows:
        for hop, us in row.by_hop.items():
            sums[hop] = sums.get(hop, 0) + us
    return {hop: us / 1_000 / len(rows) for hop, us in sums.items()}


def _minus(left: dict[str, float], right: dict[str, float]) -> dict[str, float]:
    return {hop: left.get(hop, 0.0) - right.get(hop, 0.0) for hop in {*left, *right}}
