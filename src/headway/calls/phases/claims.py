"""What a rule looks at, and what it answers."""

import msgspec

from headway.calls.phases.model import Cause, Evidence, Seen
from headway.calls.phases.parts import Parts
from headway.calls.phases.settings import Settings
from headway.calls.phases.target import Target, Usuals


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


def evidence(what: str, value: float, usual: float | None, unit: str = "") -> Evidence:
    return Evidence(what=what, value=round(value, 3), usual=None if usual is None else round(usual, 3), unit=unit)


def held(cause: Cause, explained_ms: float, *evidence: Evidence) -> Claim:
    return Claim(cause=cause, explained_ms=explained_ms, holds=explained_ms > 0, evidence=evidence)


def lacks(cause: Cause, might_ms: float, missing: str, *evidence: Evidence) -> Claim:
    return Claim(cause=cause, explained_ms=might_ms, holds=False, evidence=evidence, missing=(missing,))


def first_token(case: Case) -> Evidence:
    return evidence("to the first token", case.parts.took_ms, case.parts.first_expected_ms, "ms")
