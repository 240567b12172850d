"""The verdict on one call: slow or not, and the one cause that explains it, or that nobody can tell and what is missing.

Cannot tell where no cause explains 60 % of the excess, where the first two lie within 15 points and neither is part of the other, where fewer than
30 calls are known, or where a signal is absent that the likeliest cause needs.
"""

from headway.calls.phases.causes import NESTED, claims_of
from headway.calls.phases.claims import Case, Claim
from headway.calls.phases.history import History
from headway.calls.phases.model import Cause, Evidence, Phase, Seen, Verdict
from headway.calls.phases.parts import Parts, parts_of
from headway.calls.phases.settings import Settings
from headway.calls.phases.target import Target

_CONNECT_SHARE = 0.15


class Judge:
    """Pure: the same call and history give the same verdict, and neither is changed."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()

    def verdict(self, seen: Seen, history: History) -> Verdict:
        """``history`` may have learnt calls that came after, and this one: a change is better dated then."""
        target = history.target(seen)
        known = 0 if target is None else _calls_known(seen, target)
        if target is None or known < self.settings.baseline_calls_min:
            return self._unknown(seen, known)
        parts = parts_of(seen, target)
        if parts.excess_ms <= parts.slow_above_ms:
            return _verdict(seen, parts, slow=False, cause=None)
        return self._named(Case(seen, parts, target, self.settings))

    def claims(self, seen: Seen, history: History) -> tuple[Claim, ...]:
        """What every rule says of the call, most explained first; empty of a target that was never called."""
        target = history.target(seen)
        return () if target is None else claims_of(Case(seen, parts_of(seen, target), target, self.settings))

    def _unknown(self, seen: Seen, known: int) -> Verdict:
        needs = self.settings.baseline_calls_min
        missing = f"{known} calls of this target are known, {needs} are needed"
        return Verdict(call=seen.call, slow=False, cause=Cause.CANNOT_TELL, missing=(missing,), n_baseline=known)

    def _named(self, case: Case) -> Verdict:
        claims = claims_of(case)
        holding = [claim for claim in claims if claim.holds]
        excess = case.parts.excess_ms
        first, second = _ranked(holding, self.settings.lead_share_min * excess)
        lead = first is not None and first.explained_ms >= self.settings.explained_share_min * excess
        if first is None or not lead or _tied(first, second, self.settings.lead_share_min * excess):
            return self._cannot_tell(case, claims, first, second)
        return _verdict(
            case.seen,
            case.parts,
            slow=True,
            cause=first.cause,
            explained_ms=first.explained_ms,
            evidence=first.evidence,
            second=_second(claims, first),
            missing=_missing(claims, self.settings.lead_share_min * excess),
        )

    def _cannot_tell(self, case: Case, claims: tuple[Claim, ...], first: Claim | None, second: Claim | None) -> Verdict:
        excess = case.parts.excess_ms
        missing = list(_missing(claims, self.settings.lead_share_min * excess))
        if first is not None and second is not None and _tied(first, second, self.settings.lead_share_min * excess):
            missing.append(f"nothing tells {_words(first.cause)} from {_words(second.cause)}: they explain about as much")
        if not missing:
            missing.append(_unexplained(first, excess))
        evidence = tuple(each for claim in claims[:2] for each in claim.evidence) + _connect(case.parts)
        return _verdict(
            case.seen,
            case.parts,
            slow=True,
            cause=Cause.CANNOT_TELL,
            explained_ms=first.explained_ms if first is not None else 0.0,
            evidence=evidence,
            second=first.cause if first is not None else claims[0].cause if claims else None,
            missing=tuple(missing),
        )


def _calls_known(seen: Seen, target: Target) -> int:
    lane = target.lane(seen)
    return 0 if lane is None else lane.n


def _ranked(holding: list[Claim], near_ms: float) -> tuple[Claim | None, Claim | None]:
    """First and second; an outer cause that explains about as much as its inner one goes before it."""
    if not holding:
        return None, None
    first = holding[0]
    for other in holding[1:]:
        if (other.cause, first.cause) in NESTED and first.explained_ms - other.explained_ms < near_ms:
            first = other
    rest = [claim for claim in holding if claim is not first and (first.cause, claim.cause) not in NESTED]
    return first, rest[0] if rest else None


def _tied(first: Claim, second: Claim | None, near_ms: float) -> bool:
    return second is not None and first.explained_ms - second.explained_ms < near_ms


def _second(claims: tuple[Claim, ...], first: Claim) -> Cause | None:
    others = [claim for claim in claims if claim is not first and claim.explained_ms > 0 and not claim.refuted]
    return max(others, key=lambda claim: (claim.holds, claim.explained_ms)).cause if others else None


def _missing(claims: tuple[Claim, ...], from_ms: float) -> tuple[str, ...]:
    """Signals whose absence leaves open what might be a part that matters."""
    named = [text for claim in claims if not claim.holds and claim.explained_ms >= from_ms for text in claim.missing]
    return tuple(dict.fromkeys(named))


def _unexplained(first: Claim | None, excess_ms: float) -> str:
    if first is None:
        return "no cause has evidence"
    return f"{_words(first.cause)} explains {100 * first.explained_ms / excess_ms:.0f} % of it, and nothing explains the rest"


def _connect(parts: Parts) -> tuple[Evidence, ...]:
    if parts.connect_ms <= _CONNECT_SHARE * parts.excess_ms:
        return ()
    took = parts.split.parts_ms[Phase.CONNECT]
    return (Evidence(what="connecting", value=round(took, 3), usual=round(took - parts.connect_ms, 3), unit="ms"),)


def _words(cause: Cause) -> str:
    return cause.value.replace("_", " ")


def _verdict(
    seen: Seen,
    parts: Parts,
    *,
    slow: bool,
    cause: Cause | None,
    explained_ms: float = 0.0,
    evidence: tuple[Evidence, ...] = (),
    second: Cause | None = None,
    missing: tuple[str, ...] = (),
) -> Verdict:
    return Verdict(
        call=seen.call,
        slow=slow,
        cause=cause,
        excess_ms=parts.excess_ms,
        explained_ms=explained_ms,
        expected_ms=parts.expected_ms,
        evidence=evidence,
        second=second,
        missing=missing,
        n_baseline=parts.n_baseline,
    )
