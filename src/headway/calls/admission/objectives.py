"""Objectives of first-token time by class, and the masking alarm: the pooled figure is green while one class or tenant breaks its objective.

A call keeps its objective when its first token comes within its class's ``first_token_ms``; a class does when at least ``share`` of its calls do.
A call that was given up without a first token after waiting longer than that has broken it; one that was refused at once has not: it was told.
Chance alarms nobody: a part is over only when so many late calls would be rarer than ALARM_ERROR, divided by the number of parts looked at
(Bonferroni), were each call late with the probability that is allowed: the exact binomial test. Intervals that are shown are Wilson's (1927).
"""

from collections.abc import Mapping, Sequence
from math import exp, lgamma, log, sqrt

import msgspec

from headway.kernel.figure import Figure

ALARM_ERROR = 0.01
"""Chance that a look at parts which all just keep their objective finds one over it."""
_Z95 = 1.959963984540054
CALLS_MIN = 20
"""Fewer tell nothing of a share."""


class Objective(msgspec.Struct, frozen=True, kw_only=True):
    """At least ``share`` of a class's calls have their first token within ``first_token_ms``."""

    klass: str
    first_token_ms: float
    share: float = 0.95
    assumed: bool = False
    """Nobody configured it."""


DEFAULTS = {"interactive": 2_000.0, "batch": 60_000.0}
"""First-token objectives in milliseconds of classes that configure none; a class not named here has interactive's."""


def objective_of(klass: str, configured: Mapping[str, Objective]) -> Objective:
    """The class's objective, or the default."""
    found = configured.get(klass)
    return found or Objective(klass=klass, first_token_ms=DEFAULTS.get(klass, DEFAULTS["interactive"]), assumed=True)


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """How a part of the calls kept its objective. ``kind`` says what part: all, class, tenant, endpoint or tenant and class.

    ``state`` is ``kept``, ``over``, ``masked`` (over, while all calls together keep theirs) or ``cannot tell``.
    """

    kind: str
    name: str
    calls: int
    broken: int
    allowed_share: float
    state: str
    broken_share: Figure


class Masking(msgspec.Struct, frozen=True, kw_only=True):
    """The alarm. ``masked`` are the parts that nobody would see in the pooled figure."""

    pooled: Kept
    parts: tuple[Kept, ...]

    @property
    def masked(self) -> tuple[Kept, ...]:
        return tuple(part for part in self.parts if part.state == "masked")

    @property
    def over(self) -> tuple[Kept, ...]:
        return tuple(part for part in self.parts if part.state in ("over", "masked"))


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """``calls`` that had an objective, ``broken`` of them; ``allowed_share`` is the mean over its calls of what their classes allow."""

    kind: str
    name: str
    calls: int
    broken: int
    allowed_share: float


def masking(pooled: Part, parts: Sequence[Part]) -> Masking:
    """Judge every part. Parts too small to tell are listed as such and take no confidence from the others."""
    judged = [part for part in parts if part.calls >= CALLS_MIN]
    error = ALARM_ERROR / max(1, len(judged))
    whole = _kept(pooled, ALARM_ERROR)
    found = [_kept(part, error) for part in parts]
    if whole.state == "kept":
        found = [msgspec.structs.replace(part, state="masked") if part.state == "over" else part for part in found]
    return Masking(pooled=whole, parts=tuple(found))


def _kept(part: Part, error: float) -> Kept:
    low, high = wilson(part.broken, part.calls, _Z95)
    state = (
        "cannot tell"
        if part.calls < CALLS_MIN
        else "over"
        if at_least(part.broken, part.calls, part.allowed_share) < error
        else "kept"
    )
    figure = Figure(
        value=part.broken / part.calls if part.calls else None,
        unit="share",
        n=part.calls,
        method="Wilson's 95 % interval" if part.calls else "no call had an objective",
        low=low if part.calls else None,
        high=high if part.calls else None,
        stratum=f"{part.kind} {part.name}".strip(),
    )
    return Kept(
        kind=part.kind,
        name=part.name,
        calls=part.calls,
        broken=part.broken,
        allowed_share=part.allowed_share,
        state=state,
        broken_share=figure,
    )


def at_least(hits: int, n: int, share: float) -> float:
    """The chance of ``hits`` or more of ``n``, each with the probability ``share``. Its terms are summed from ``hits`` until they are nothing."""
    if hits <= n * share:
        return 1.0  # no less than about a half: nothing that anybody asks
    if share <= 0:
        return 0.0
    odds = share / (1 - share)
    term = exp(lgamma(n + 1) - lgamma(hits + 1) - lgamma(n - hits + 1) + hits * log(share) + (n - hits) * log(1 - share))
    total, k = term, hits
    while k < n and term > total * 1e-12:
        term *= (n - k) / (k + 1) * odds
        total += term
        k += 1
    return min(1.0, total)


def wilson(hits: int, n: int, z: float) -> tuple[float, float]:
    """Wilson's interval of a share; (0, 1) of nothing."""
    if n == 0:
        return 0.0, 1.0
    share, z2 = hits / n, z * z
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = z / (1 + z2 / n) * sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return (max(0.0, middle - half) if hits else 0.0), (min(1.0, middle + half) if hits < n else 1.0)
