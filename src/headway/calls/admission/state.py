"""Hot state of one endpoint: tenants, runs, calls. Plain slotted classes that ``scheduler.py`` and the orders change in place.

Costs, counters and buckets are virtual tokens; ``need_tokens`` are KV tokens. Instants are monotonic nanoseconds.
"""

from enum import IntEnum
from typing import TYPE_CHECKING

from headway.calls.admission.forecast import NONE
from headway.calls.admission.model import RunShare, Share
from headway.calls.conversation import DialectName
from headway.kernel.instants import NS_PER_S, MonoNs

if TYPE_CHECKING:
    from headway.calls.admission.order import Group

FAR = MonoNs(2**63 - 1)


class State(IntEnum):
    QUEUED = 0
    RUNNING = 1
    ENDED = 2


class Rank(IntEnum):
    """Which tenants are looked at first; within a rank the order decides."""

    UNDER_FLOOR = 0
    NORMAL = 1
    DEMOTED = 2
    PAUSED = 3
    """Not looked at until its day ends."""


class Tenant:
    """One tenant at one endpoint."""

    __slots__ = (
        "cap", "capped", "epoch", "floor", "fresh", "groups", "lane_counter", "least_counter", "name", "oldest", "outstanding", "promised_tokens",
        "promises", "queued", "queued_tokens", "rank", "running", "served", "share", "unsettled", "weight",
    )  # fmt: skip

    def __init__(self, name: str, share: Share) -> None:
        self.name = name
        self.rank = Rank.NORMAL
        self.queued = self.running = 0
        self.queued_tokens = self.outstanding = self.served = 0.0
        self.unsettled = 0.0
        """What it was charged for calls that run and may be refunded: all but the output that has come."""
        self.lane_counter = 0.0
        """Service in the long lane alone, over weight: whose giant goes next."""
        self.least_counter = 0.0
        """What the counter would be had the tenant come with no credit when it was last lifted: refunds of older charges stop here."""
        self.epoch = 0
        """How often it was lifted."""
        self.fresh = False
        """It has been sent nothing since it was last lifted: at equal counters it goes before those that have."""
        self.capped = False
        """Its head waits for its own cap."""
        self.groups: list[Group | None] = [None, None]
        self.promises = 0
        self.promised_tokens = 0.0
        self.shared_by(share)

    def shared_by(self, share: Share) -> None:
        self.share, self.weight = share, max(share.weight, 1e-9)
        self.cap, self.floor = share.cap_tokens, share.floor_tokens

    @property
    def idle(self) -> bool:
        return not (self.queued or self.running or self.promises)


class Run:
    """All children of one run at one endpoint: how many at once, how fast, and how much service it has had."""

    __slots__ = ("_at", "_level", "attained", "id", "parked", "running", "share", "waiting", "wakes_at")

    def __init__(self, id: str, share: RunShare, now: MonoNs) -> None:
        self.id, self.share = id, share
        self.attained = 0.0
        self.running = self.waiting = 0
        self.parked: list[tuple[int, Call]] = []
        """Children that were next and had to stand back: a heap by arrival."""
        self.wakes_at: MonoNs | None = None
        self._level, self._at = float(share.burst_tokens), now

    def open(self, now: MonoNs) -> bool:
        return self.running < self.share.concurrency_max and (self.share.tokens_per_s is None or self._filled(now) > 0.0)

    def opens_at(self, now: MonoNs) -> MonoNs | None:
        """When its rate allows the next child. None: not a matter of time."""
        rate = self.share.tokens_per_s
        if rate is None or rate <= 0 or self.running >= self.share.concurrency_max or (level := self._filled(now)) > 0.0:
            return None
        return MonoNs(now + 1 + int((1.0 - level) / rate * NS_PER_S))

    def charge(self, tokens: float, now: MonoNs) -> None:
        self.attained = max(0.0, self.attained + tokens)
        if self.share.tokens_per_s is not None:
            self._level = min(float(self.share.burst_tokens), self._filled(now) - tokens)

    def _filled(self, now: MonoNs) -> float:
        if now > self._at:
            gained = (self.share.tokens_per_s or 0.0) * (now - self._at) / NS_PER_S
            self._level, self._at = min(float(self.share.burst_tokens), self._level + gained), now
        return self._level


class Call:
    """One attempt at this endpoint, from its arrival to its end."""

    __slots__ = (
        "arrived_at", "attempt", "band", "batch", "began_at", "blocked_at", "charged", "cost", "deadline_at", "dialect", "epoch",
        "feature", "first_at",
        "forecast", "group", "head_ok", "id", "long", "need_tokens", "out_tokens", "outstanding", "parked", "passes",
        "produced", "prompt_tokens", "read_before", "run", "seq", "state", "taken_tokens", "tenant", "uncached_before", "unsettled",
    )  # fmt: skip

    def __init__(self, id: str, tenant: Tenant, seq: int, now: MonoNs) -> None:
        self.id, self.tenant, self.seq, self.arrived_at = id, tenant, seq, now
        self.state = State.QUEUED
        self.attempt = 1
        self.batch = self.long = self.parked = self.head_ok = False
        self.feature = ""
        self.band = 0
        self.dialect = DialectName.OPENAI_CHAT
        self.run: Run | None = None
        self.group: Group | None = None
        self.prompt_tokens = self.out_tokens = self.need_tokens = 0
        self.cost = self.charged = self.outstanding = self.unsettled = 0.0
        self.produced = self.taken_tokens = 0
        self.read_before = self.uncached_before = 0
        """Of the prompt: tokens that pieces of it have had read already, and those of them that were in no cache before."""
        self.epoch = 0
        """Its tenant's when it was charged."""
        self.passes = 0
        self.blocked_at: MonoNs | None = None
        self.deadline_at: MonoNs | None = None
        self.forecast = NONE
        """Of its wait."""
        self.began_at: MonoNs | None = None
        self.first_at: MonoNs | None = None
        """When its prompt had been read."""
