"""Two windows, one slow process: which hop explains what was added, within request types.

A slow process is slow towards everyone it speaks to: its work takes longer, or all its links do, each call by about the same. So a hop is
credited with what its own work gained, and with what its links gained times how evenly the gain per call is spread over them (participation
ratio: 1 when all links gained alike, 1/k when one of k did). A caller is then no suspect because of one slow callee, and a slow caller is,
although each of its calls looks slow. There is nothing to tune.
"""

from collections.abc import Sequence

import msgspec

from headway.calls.hops.links import Link, LinkTimes

TYPE_TRACES_MIN = 10
"""Of the first window; a type with fewer there has no normal to be held against."""


class Suspect(msgspec.Struct, frozen=True, kw_only=True):
    """``added_ms`` a trace of the second window, ``own_ms`` of it in the hop's own work."""

    hop: str
    added_ms: float
    own_ms: float
    links_ms: float
    evenness: float


def suspects(first: Sequence[LinkTimes], second: Sequence[LinkTimes], *, least: int = TYPE_TRACES_MIN) -> tuple[Suspect, ...]:
    """Largest first; empty where no type is in both windows."""
    gained, calls = _within_types(first, second, least)
    hops = sorted({hop for link in gained for hop in link})
    return tuple(sorted((_suspect(hop, gained, calls) for hop in hops), key=lambda each: (-each.added_ms, each.hop)))


def _suspect(hop: str, gained: dict[Link, float], calls: dict[Link, float]) -> Suspect:
    own = max(0.0, gained.get((hop, hop), 0.0))
    links = [link for link in gained if hop in link and link[0] != link[1]]
    per_call = [max(0.0, gained[link]) / calls[link] for link in links if calls.get(link, 0.0) > 0]
    squares = len(per_call) * sum(each * each for each in per_call)
    evenness = sum(per_call) ** 2 / squares if squares > 0 else 0.0
    whole = sum(max(0.0, gained[link]) for link in links)
    return Suspect(hop=hop, added_ms=own + evenness * whole, own_ms=own, links_ms=whole, evenness=evenness)


def _within_types(
    first: Sequence[LinkTimes], second: Sequence[LinkTimes], least: int
) -> tuple[dict[Link, float], dict[Link, float]]:
    """By link: ms gained a trace, and calls a trace, types weighted as the second window mixes them."""
    before, after = _by_type(first), _by_type(second)
    types = [kind for kind, rows in after.items() if len(before.get(kind, ())) >= least]
    n = sum(len(after[kind]) for kind in types)
    gained: dict[Link, float] = {}
    calls: dict[Link, float] = {}
    for kind in types:
        old, new = before[kind], after[kind]
        share = len(new) / n
        for link in dict.fromkeys(link for row in (*old, *new) for link in row.by_link):
            change = _mean_us(new, link) - _mean_us(old, link)
            gained[link] = gained.get(link, 0.0) + share * change / 1_000
        for row in new:
            for link, count in row.calls.items():
                calls[link] = calls.get(link, 0.0) + count / n
    return gained, calls


def _mean_us(rows: Sequence[LinkTimes], link: Link) -> float:
    return sum(row.by_link.get(link, 0) for row in rows) / len(rows)


def _by_type(rows: Sequence[LinkTimes]) -> dict[str, list[LinkTimes]]:
    groups: dict[str, list[LinkTimes]] = {}
    for row in rows:
        groups.setdefault(row.request_type, []).append(row)
    return groups
