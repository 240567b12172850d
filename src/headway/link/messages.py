"""What gateway and control say to each other, msgpack, tagged by ``m``.

Down: Snapshot, KeysChanged, LeaseGranted, LeaseRefused, LeaseClosed, SegmentStored, Drain.
Up: Hello, LeaseWanted, LeaseReturned, SegmentSent, CallOpened, CallSeen, AdmissionSeen, Heartbeat.
Nothing here carries a monotonic instant: durations only. Every message may be sent again; its receiver is idempotent.
"""

import msgspec

from headway.calls.admission.model import EndpointView
from headway.calls.pricing import PriceRow as PriceRow
from headway.calls.pricing import PriceTable as PriceTable
from headway.config.model import Settings
from headway.facts.model import AttemptFact, CallFact
from headway.ledger.model import BudgetUnit, KeyRecord, Lease


class BudgetScope(msgspec.Struct, frozen=True, kw_only=True):
    """That a scope has a budget at all: calls under it need a lease. ``block`` is the lease size to ask for."""

    budget: str
    scope: str
    unit: BudgetUnit
    block: int
    cap: int


class Snapshot(msgspec.Struct, frozen=True, kw_only=True, tag="snapshot", tag_field="m"):
    """All that a gateway needs to serve alone. ``made_wall_ms`` dates it for the grace.

    It holds references to provider secrets, never their values: each gateway resolves them in its own environment.
    """

    generation: int
    made_wall_ms: int
    settings: Settings
    keys: tuple[KeyRecord, ...]
    prices: PriceTable
    budgets: tuple[BudgetScope, ...] = ()
    probe_key: str = ""
    """Id of control's own key among ``keys``: whoever calls with it is a probe."""


class KeysChanged(msgspec.Struct, frozen=True, kw_only=True, tag="keys_changed", tag_field="m"):
    upserted: tuple[KeyRecord, ...] = ()
    removed: tuple[str, ...] = ()


class LeaseGranted(msgspec.Struct, frozen=True, kw_only=True, tag="lease_granted", tag_field="m"):
    lease: Lease
    request: str


class LeaseRefused(msgspec.Struct, frozen=True, kw_only=True, tag="lease_refused", tag_field="m"):
    budget: str
    request: str
    reason: str
    resets_in_ms: int | None = None


class LeaseClosed(msgspec.Struct, frozen=True, kw_only=True, tag="lease_closed", tag_field="m"):
    """Control took the block back (revoked budget, lowered cap): stop using it and return what is left."""

    lease: str


class SegmentStored(msgspec.Struct, frozen=True, kw_only=True, tag="segment_stored", tag_field="m"):
    """The segment is durable at control: the gateway may delete its file."""

    segment: str


class Drain(msgspec.Struct, frozen=True, kw_only=True, tag="drain", tag_field="m"):
    pass


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag="hello", tag_field="m"):
    gateway: str
    version: str
    schema_version: int
    generation: int
    token: str = ""
    open_leases: tuple[str, ...] = ()
    """Blocks it still holds after a reconnect; all others of this gateway are expired."""


class LeaseWanted(msgspec.Struct, frozen=True, kw_only=True, tag="lease_wanted", tag_field="m"):
    budget: str
    amount: int
    request: str


class LeaseReturned(msgspec.Struct, frozen=True, kw_only=True, tag="lease_returned", tag_field="m"):
    """``spent`` so far; with ``final`` the rest of the block goes back."""

    lease: str
    spent: int
    final: bool


class SegmentSent(msgspec.Struct, frozen=True, kw_only=True, tag="segment_sent", tag_field="m"):
    """A closed spool segment, whole: sent again until SegmentStored comes."""

    segment: str
    data: bytes


class CallOpened(msgspec.Struct, frozen=True, kw_only=True, tag="call_opened", tag_field="m"):
    """Live feed, best effort: dropped and counted when the link is slow."""

    call: str
    started_wall_ms: int
    tenant: str
    feature: str
    requested: str
    dialect: str
    stream: bool
    origin: str = "client"


class CallSeen(msgspec.Struct, frozen=True, kw_only=True, tag="call_seen", tag_field="m"):
    """Live feed, best effort: the finished call as it will stand in the facts."""

    fact: CallFact
    attempts: tuple[AttemptFact, ...] = ()


class AdmissionSeen(msgspec.Struct, frozen=True, kw_only=True, tag="admission_seen", tag_field="m"):
    """Live feed, every second while an endpoint is shared by a policy: who waits and runs there now. The latest counts."""

    at_wall_ms: int
    endpoints: tuple[EndpointView, ...]


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True, tag="heartbeat", tag_field="m"):
    """Every second. ``metrics`` is the gateway's Prometheus text, which control shows and serves too; empty: as it was said last."""

    at_wall_ms: int
    in_flight: int
    degraded: tuple[str, ...] = ()
    metrics: str = ""


Down = Snapshot | KeysChanged | LeaseGranted | LeaseRefused | LeaseClosed | SegmentStored | Drain
Up = Hello | LeaseWanted | LeaseReturned | SegmentSent | CallOpened | CallSeen | AdmissionSeen | Heartbeat
