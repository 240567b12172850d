"""One world of the proof lived through and judged, as the product judges: calls are learnt as they end, and each is given its verdict a little later."""

from collections.abc import Sequence

import msgspec

from headway.calls.phases.settings import Settings
from headway.calls.phases.watch import Watch
from headway.lab.phase_worlds.model import Row
from headway.lab.phase_worlds.plan import Plan, Usual, usual_of
from headway.lab.phase_worlds.world import live
from headway.prove.phases_score import Scored, scored


class Alone(msgspec.Struct, frozen=True):
    """A world left alone: what is usual there, and what was said of its calls."""

    usual: Usual
    calls: list[Scored]


def alone(plan: Plan) -> Alone:
    rows = live(plan)
    known = rows[plan.warm_calls :]
    chosen = {row.seen.call for row in known}
    return Alone(
        usual_of([row.seen for row in known], plan.prompt_token_ms),
        [call for name, call in judged(rows, plan.name) if name in chosen],
    )


def touched(plan: Plan, usual: Usual) -> list[Scored]:
    """The calls to which the causes were done."""
    return [call for _, call in judged(live(plan, usual), plan.name) if call.causes]


def judged(rows: Sequence[Row], world: str, settings: Settings | None = None) -> list[tuple[str, Scored]]:
    """(call, what was said of it) of all rows, in the order in which verdicts came."""
    watch = Watch(settings)
    by_call = {row.seen.call: row for row in rows}
    told = []
    for row in sorted(rows, key=lambda each: each.seen.at_ms + each.seen.duration_ms):
        told += watch.learn(row.seen)
    told += watch.finish()
    return [
        (row.seen.call, scored(world, row.truth, each.verdict, row.seen.duration_ms))
        for each in told
        for row in (by_call[each.verdict.call],)
    ]
