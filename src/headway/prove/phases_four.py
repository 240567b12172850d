"""Four calls of exactly 2,340 ms, each of a world of its own, and what the verdicts say of them: the chart's bars.

Their durations are set, not found: of a call to which a cause was done, the answer is cut or goes on at its own pace until the whole lasts 2,340 ms.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from headway.calls.phases.model import Cause, Seen, Split, Verdict
from headway.calls.phases.split import split
from headway.calls.phases.watch import Watch
from headway.lab.phase_worlds.families import SCORING
from headway.lab.phase_worlds.model import Row
from headway.lab.phase_worlds.plan import Plan, usual_of
from headway.lab.phase_worlds.world import live

LASTS_MS: Final = 2_340.0
CAUSES: Final = (Cause.LONG_PROMPT, Cause.COLD_CACHE, Cause.NEIGHBOUR, Cause.ROUTE_CHANGE)
STRENGTH: Final = 4.0
LOAD: Final = 2
TOKENS_MIN: Final = 8


class Shown(msgspec.Struct, frozen=True):
    cause: Cause
    """What was done."""
    split: Split
    verdict: Verdict


def four(seed: int) -> list[Shown]:
    """At the hosted provider of the scored family. A cause of which no call was told rightly is shown with what was said of it."""
    alone = Plan(family=SCORING, hosted=True, load=LOAD, seed=seed)
    usual = usual_of([row.seen for row in live(alone)[alone.warm_calls :]], alone.prompt_token_ms)
    found = []
    for cause in CAUSES:
        rows = live(msgspec.structs.replace(alone, causes=(cause,), strengths=(STRENGTH,)), usual)
        found.append(_one(cause, rows))
    return found


def _one(cause: Cause, rows: Sequence[Row]) -> Shown:
    """The injected call that lasts longest under LASTS_MS becomes that long; of a world with none, the shortest one over it."""
    injected = [row.seen for row in rows if row.truth.causes and not row.seen.tool_ms]
    under = [seen for seen in injected if seen.duration_ms <= LASTS_MS]
    chosen = max(under, key=_duration) if under else min(injected, key=_duration)
    shown = lasting(chosen, LASTS_MS)
    watch = Watch()
    told = []
    for row in sorted(rows, key=lambda each: each.seen.at_ms + each.seen.duration_ms):
        told += watch.learn(shown if row.seen.call == chosen.call else row.seen)
    told += watch.finish()
    verdict = next(each.verdict for each in told if each.verdict.call == chosen.call)
    return Shown(cause, split(shown), verdict)


def _duration(seen: Seen) -> float:
    return seen.duration_ms


def lasting(seen: Seen, duration_ms: float) -> Seen:
    """The same call with so many output tokens fewer or more at its own pace that it lasts so long; what is left goes to its first token."""
    first, last = seen.first_token_ms or 0.0, seen.last_token_ms or 0.0
    steps = max((seen.output_tokens or 1) - 1, 1)
    pace = (last - first) / steps
    close = seen.duration_ms - last
    tokens = max(TOKENS_MIN, int((duration_ms - close - first) / pace) + 1)
    begins = duration_ms - close - (tokens - 1) * pace
    reads = tuple(begins + n * pace for n in range(tokens))
    return msgspec.structs.replace(
        seen,
        duration_ms=duration_ms,
        first_token_ms=begins,
        last_token_ms=reads[-1],
        token_ms=reads,
        output_tokens=tokens,
    )
