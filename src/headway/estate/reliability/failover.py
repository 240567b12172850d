"""Where the next attempt of a call goes: a generator that yields ``Attempt`` or ``Wait`` and is sent ``Tried``.

One body, driven by the gateway, by replays and by tests. Rules:

    nothing sent (connect failed)          the next target; the same again when there is no other
    unusable (no key, cannot carry it)     the next target only
    refused by status 408/409/429/5xx      the next target; the same again when there is no other, honouring Retry-After
    sent, no answer (first byte timed out) the next target only: the first may still be working, and the same one would pay twice
    answer begun but nothing committed     the next target (an error event came first, or the stream broke before any text)
    committed                              never: the caller has seen a part of an answer
    other statuses (400, 401, 404, ...)    never: another provider would be asked the same wrong thing

Every further attempt at one provider, its replicas included, draws on one retry budget for the whole gateway, so that an upstream in full
failure sees at most ``1 + RETRY_SHARE_MAX`` times the offered load (the idea is Finagle's RetryBudget). Going on to another provider
costs nothing: it sees each call once, and a provider that is down must not take those with it that another could serve.
"""

from collections.abc import Generator, Sequence
from enum import StrEnum

import msgspec

from headway.kernel.instants import NS_PER_S, MonoNs
from headway.kernel.limits import RETRIES_PER_CALL_MAX, RETRY_BURST, RETRY_SHARE_MAX

BACKOFF_FIRST_MS = 100.0
BACKOFF_MAX_MS = 5_000.0
RETRY_AFTER_HONOURED_MS_MAX = 10_000
"""A provider that asks for a longer pause is left, not waited for."""
RETRY_STATUSES = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})


class Failure(StrEnum):
    NONE = "none"
    NOT_SENT = "not_sent"
    UNUSABLE = "unusable"
    """This target cannot take the call, whatever is tried: its key is missing, or its dialect lacks what a strict feature needs."""
    STATUS = "status"
    NO_ANSWER = "no_answer"
    BROKE_OFF = "broke_off"
    COMMITTED = "committed"
    FINAL = "final"
    """Ours to end: the caller went, the deadline passed, a policy cut it."""


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    failure: Failure
    status: int = 0
    retry_after_ms: int | None = None
    should_retry: bool | None = None
    """The provider's own ``x-should-retry``, where it sent one."""


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    target: int
    """Index into the targets."""
    number: int


class Wait(msgspec.Struct, frozen=True, kw_only=True):
    ms: float


class Budget:
    """The retry budget: each first attempt earns a share of a retry, each retry spends one; idle time refills the burst slowly."""

    __slots__ = ("_balance", "_last", "burst", "share", "spent", "turned_down")

    def __init__(self, share: float = RETRY_SHARE_MAX, burst: float = RETRY_BURST) -> None:
        self.share, self.burst = share, burst
        self._balance = burst
        self._last: MonoNs | None = None
        self.spent = 0
        self.turned_down = 0

    def earn(self) -> None:
        self._balance = min(self.burst, self._balance + self.share)

    def spend(self, now: MonoNs) -> bool:
        """True when a retry may go."""
        if self._last is not None:  # a tenth of a retry a second, so that a quiet gateway is never without one
            self._balance = min(self.burst, self._balance + (now - self._last) / NS_PER_S / 10)
        self._last = now
        if self._balance < 1.0:
            self.turned_down += 1
            return False
        self._balance -= 1.0
        self.spent += 1
        return True


def attempts(
    targets: int,
    *,
    retries_max: int,
    budget: Budget,
    jitter: float,
    providers: Sequence[str] | None = None,
) -> Generator[Attempt | Wait, tuple[Tried, MonoNs] | None, Tried]:
    """Yield what to do next until an attempt succeeds or nothing may follow; return the last ``Tried``.

    ``targets`` is how many endpoints serve the route in order, ``providers`` whose each is (None: all of different ones). ``retries_max`` bounds
    further attempts at one provider, RETRIES_PER_CALL_MAX all of them. ``jitter`` in [0, 1) spreads the waits of callers that failed together.
    """
    budget.earn()
    target, number, waits, retries = 0, 1, 0, 0
    last = Tried(failure=Failure.FINAL)
    while True:
        sent = yield Attempt(target=target, number=number)
        if sent is None:
            raise ValueError("the outcome of an attempt must be sent back")
        last, now = sent
        if not _may_follow(last) or number > RETRIES_PER_CALL_MAX:
            return last
        after = _next_of_another(target, targets, providers)
        onward = target + 1 if target + 1 < targets else None
        if last.failure in ONLY_ELSEWHERE and onward is None:
            return last
        wait_ms = 0.0 if onward is not None else _wait_ms(last, waits, jitter)
        elsewhere = onward is not None and onward == after
        if not elsewhere:  # the same provider again, if it may be asked again at all
            nothing_sent = last.failure is Failure.UNUSABLE
            may = retries < retries_max and wait_ms <= RETRY_AFTER_HONOURED_MS_MAX and (nothing_sent or budget.spend(now))
            if not may and after is None:
                return last
            if may:
                retries += 1
            else:
                onward, wait_ms, elsewhere = after, 0.0, True
        if elsewhere:
            retries = 0
        if wait_ms:
            waits += 1
            yield Wait(ms=wait_ms)
        target = target if onward is None else onward
        number += 1


def spent(last: Tried, attempts_made: int, retries_max: int) -> bool:
    """Whether the caller should leave it: its retries would only multiply ours, made or turned down by the budget.

    Not where retries are switched off here, nor where the provider asks for a longer pause than is waited here: the caller may wait it out.
    """
    if attempts_made > 1:
        return True
    long_pause = (last.retry_after_ms or 0) > RETRY_AFTER_HONOURED_MS_MAX
    return retries_max > 0 and _may_follow(last) and not long_pause


ONLY_ELSEWHERE = frozenset({Failure.NO_ANSWER, Failure.BROKE_OFF, Failure.UNUSABLE})


def _next_of_another(target: int, targets: int, providers: Sequence[str] | None) -> int | None:
    """The next target of another provider; None when there is none."""
    if providers is None:
        return target + 1 if target + 1 < targets else None
    return next((i for i in range(target + 1, targets) if providers[i] != providers[target]), None)


def _may_follow(tried: Tried) -> bool:
    if tried.failure in (Failure.NONE, Failure.COMMITTED, Failure.FINAL):
        return False
    if tried.failure is Failure.STATUS:
        return tried.status in RETRY_STATUSES if tried.should_retry is None else tried.should_retry
    return True


def _wait_ms(tried: Tried, waits: int, jitter: float) -> float:
    if tried.retry_after_ms is not None:
        return float(tried.retry_after_ms)
    return min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * float(2**waits)) * (0.5 + jitter / 2)
