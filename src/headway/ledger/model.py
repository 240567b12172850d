"""Principals, keys, budgets and leases as plain values. Loads no SQLAlchemy: the gateway reads these too."""

from enum import StrEnum

import msgspec


class PrincipalKind(StrEnum):
    USER = "user"
    SERVICE = "service"
    KEY = "key"


class Role(StrEnum):
    """Each role may do what those before it may."""

    VIEWER = "viewer"
    REVIEWER = "reviewer"
    OPERATOR = "operator"
    OWNER = "owner"


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    kind: PrincipalKind
    name: str
    role: Role
    tenant: str = ""
    created_wall_ms: int = 0
    disabled: bool = False


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A key as the gateway knows it. The secret is shown once and never stored.

    A key is ``hw_<id body>_<secret>``: the id is looked up, then ``digest`` (BLAKE2b-256 of the secret, keyed with the id; the secret has 160
    random bits, so a slow hash would add nothing) is compared in constant time. An unknown id costs the same comparison.
    """

    id: str
    digest: bytes
    principal: str
    tenant: str
    name: str = ""
    role: Role = Role.VIEWER
    features: tuple[str, ...] = ()
    """Feature names it may call; empty is all of its tenant's."""
    created_wall_ms: int = 0
    expires_wall_ms: int | None = None
    revoked_wall_ms: int | None = None


class BudgetUnit(StrEnum):
    NANO_USD = "nano_usd"
    TOKENS = "tokens"


class BudgetState(msgspec.Struct, frozen=True, kw_only=True):
    """Invariant BUD-1: ``spent + leased <= cap`` at every moment. ``scope`` is ``tenant:NAME`` or ``key:ID``."""

    id: str
    scope: str
    unit: BudgetUnit
    period: str
    cap: int
    spent: int
    leased: int
    period_start_wall_ms: int
    period_end_wall_ms: int | None
    overrun: int = 0
    """Spent beyond reservations because a provider reported more than its own maximum; shown, and it counts in ``spent``."""
    cap_wanted: int = 0
    """What the settings say. ``cap`` is in force: after a lowering below ``spent + leased`` it follows them down to this."""
    active: bool = True
    """False when the settings no longer name it: nothing is granted, what is out comes back."""


class LeaseState(StrEnum):
    OPEN = "open"
    SETTLED = "settled"
    EXPIRED = "expired"
    """Counts as wholly spent until it is reconciled from the spool."""
    RECONCILED = "reconciled"


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """A block of a budget lent to one gateway. ``ttl_ms`` is what remained when it was sent."""

    id: str
    budget: str
    scope: str
    unit: BudgetUnit
    amount: int
    ttl_ms: int


class LeaseRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A lease as the ledger keeps it. ``spent`` is what its gateway reported, or the facts say, so far; it never falls."""

    id: str
    budget: str
    scope: str
    unit: BudgetUnit
    gateway: str
    request: str
    amount: int
    period_start_wall_ms: int
    granted_wall_ms: int
    expires_wall_ms: int
    spent: int = 0
    state: LeaseState = LeaseState.OPEN
    closing: bool = False
    """Control wants it back."""


class BudgetSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A budget as the settings or an owner state it."""

    scope: str
    unit: BudgetUnit
    period: str
    cap: int

    @property
    def id(self) -> str:
        return f"{self.scope}:{self.unit}:{self.period}"


class Session(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    principal: Principal
    created_wall_ms: int
    expires_wall_ms: int


class GenerationRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One configuration that was in force. ``shown`` is every value as text by key, secrets masked; ``diff`` what it changed."""

    number: int
    at_wall_ms: int
    digest: str
    path: str
    diff: tuple[tuple[str, str | None, str | None], ...] = ()
    shown: dict[str, str] = {}


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    at_wall_ms: int
    actor: str
    action: str
    subject: str
    detail: dict[str, str] = {}
