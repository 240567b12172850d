"""What the ledger does, subject by subject, in plain structs: never rows. ``store.py`` implements these on SQLite and Postgres.

Every change carries ``actor`` and ``now`` (the ledger's time) and writes its audit entry in the same transaction. Every method may raise
LedgerUnavailable or LedgerBusy; what else it raises stands beside it.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import msgspec

from headway.kernel.errors import HeadwayError
from headway.kernel.instants import WallMs
from headway.ledger.keys import MintedKey
from headway.ledger.model import (
    AuditEntry,
    BudgetSpec,
    BudgetState,
    GenerationRecord,
    KeyRecord,
    Lease,
    LeaseRecord,
    Principal,
    PrincipalKind,
    Role,
    Session,
)


class LedgerError(HeadwayError):
    """Base of what a ledger refuses."""


class LedgerUnavailable(LedgerError):
    """The store cannot be reached or written now. What was asked may or may not have been done."""


class LedgerBusy(LedgerError):
    """Too much waits already; nothing was done."""


class NotFound(LedgerError):
    """Nobody and nothing of that name."""


class Taken(LedgerError):
    """The name is in use."""


class Refused(LedgerError):
    """Against a rule of the ledger; ``str()`` says which."""


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """How stores differ, as data: tests and the docs read this table instead of asking for a name."""

    store: str
    many_controls: bool
    """Several control processes may share it."""
    row_locks: bool
    own_clock: bool
    """The store's clock dates leases; otherwise this process' clock does."""


class NewKey(msgspec.Struct, frozen=True, kw_only=True):
    """What a key is made from. ``principal`` empty makes a service of the key's own."""

    tenant: str
    name: str = ""
    principal: str = ""
    role: Role = Role.VIEWER
    features: tuple[str, ...] = ()
    expires_wall_ms: int | None = None


class KeysSince(NamedTuple):
    """What changed among usable keys after a version. ``removed`` are revoked ones and those of disabled principals."""

    version: int
    upserted: tuple[KeyRecord, ...]
    removed: tuple[str, ...]


class LoginResult(NamedTuple):
    """``token`` is shown once. Without one, ``retry_after_ms`` says when the next try counts, 0 for wrong name or password."""

    token: str
    session: Session | None
    retry_after_ms: int = 0


class Granted(NamedTuple):
    """A lease, or why not; ``resets_in_ms`` until the next period."""

    lease: Lease | None
    reason: str = ""
    resets_in_ms: int | None = None


class LeaseAt(NamedTuple):
    gateway: str
    lease: str


class Principals(Protocol):
    async def create(
        self, kind: PrincipalKind, name: str, role: Role, *, tenant: str = "", password: str | None = None, actor: str, now: WallMs
    ) -> Principal:
        """Taken when the name exists, Refused for a password that is too short."""
        ...

    async def get(self, principal: str) -> Principal | None: ...
    async def named(self, kind: PrincipalKind, name: str) -> Principal | None: ...
    async def all(self) -> Sequence[Principal]: ...
    async def set_role(self, principal: str, role: Role, *, actor: str, now: WallMs) -> Principal:
        """NotFound; Refused when it would leave no owner."""
        ...

    async def set_disabled(self, principal: str, disabled: bool, *, actor: str, now: WallMs) -> Principal:
        """Its sessions end, its keys are withdrawn from the gateways. NotFound; Refused when it would leave no owner."""
        ...

    async def set_password(self, principal: str, password: str, *, actor: str, now: WallMs) -> None:
        """Its sessions end. NotFound, Refused."""
        ...

    async def authenticate(self, name: str, password: str) -> Principal | None:
        """The enabled user of this name and password, without a session and without throttling: see ``Sessions.login``."""
        ...

    async def any_password(self) -> bool: ...


class Keys(Protocol):
    async def create(self, new: NewKey, *, actor: str, now: WallMs) -> tuple[KeyRecord, MintedKey]:
        """The text is in ``MintedKey`` and nowhere else. NotFound for an unknown principal, Refused for one disabled."""
        ...

    async def get(self, key: str) -> KeyRecord | None: ...
    async def all(self) -> Sequence[KeyRecord]: ...
    async def revoke(self, key: str, *, actor: str, now: WallMs) -> KeyRecord:
        """Revoking twice changes nothing. NotFound."""
        ...

    async def set_expiry(self, key: str, expires_wall_ms: int | None, *, actor: str, now: WallMs) -> KeyRecord:
        """NotFound; Refused on a revoked key."""
        ...

    async def check(self, presented: str, now: WallMs) -> tuple[KeyRecord, Principal] | None:
        """Who presents this key, when it is good now. One digest in every case."""
        ...

    async def for_gateways(self, now: WallMs) -> KeysSince:
        """All usable keys that have a tenant, and the version they stand at."""
        ...

    async def since(self, version: int) -> KeysSince: ...


class Sessions(Protocol):
    async def login(self, name: str, password: str, *, address: str = "", now: WallMs) -> LoginResult:
        """Counts failures by name and by address; over LOGIN_FAILURES_PER_MINUTE_MAX nothing is tried."""
        ...

    async def open(self, principal: str, *, actor: str, now: WallMs) -> LoginResult:
        """NotFound, Refused when disabled."""
        ...

    async def find(self, token: str, now: WallMs) -> Session | None: ...
    async def revoke(self, token: str, *, now: WallMs) -> bool: ...
    async def revoke_all(self, principal: str, *, actor: str, now: WallMs) -> int: ...
    async def login_token(self, principal: str, *, actor: str, now: WallMs) -> str:
        """Good once, for LOGIN_LINK_TTL_S; at most LOGIN_LINKS_MAX of one principal, the oldest gives way."""
        ...

    async def redeem(self, login_token: str, now: WallMs) -> LoginResult: ...


class Budgets(Protocol):
    async def sync(self, specs: Sequence[BudgetSpec], now: WallMs) -> Sequence[LeaseAt]:
        """The budgets of a new generation: those of the settings not named are closed. Leases that must come back."""
        ...

    async def set_one(self, spec: BudgetSpec, *, active: bool = True, actor: str, now: WallMs) -> Sequence[LeaseAt]:
        """A budget that an owner states beside the settings, as for one key. Leases that must come back."""
        ...

    async def states(self, now: WallMs) -> Sequence[BudgetState]:
        """Active budgets in the period that holds ``now``."""
        ...

    async def history(self, budget: str, limit: int) -> Sequence[BudgetState]:
        """Its periods, newest first."""
        ...

    async def grant(self, budget: str, amount: int, *, gateway: str, request: str, now: WallMs) -> Granted:
        """The same request of a gateway gets the same lease while that is open."""
        ...

    async def give_back(self, lease: str, spent: int, *, final: bool, now: WallMs) -> LeaseRecord | None:
        """None for an unknown lease. May come twice and out of order."""
        ...

    async def hello(self, gateway: str, open_leases: Sequence[str], *, said_wall_ms: WallMs, now: WallMs) -> Sequence[str]:
        """All other leases of this gateway that were open when it said so expire. Those listed that it must return."""
        ...

    async def expire(self, now: WallMs) -> Sequence[LeaseRecord]:
        """What has just expired. Leases that ended LEASES_KEPT_DAYS ago are deleted."""
        ...

    async def unsettled(self, gateway: str, granted_before: WallMs) -> Sequence[LeaseRecord]:
        """Expired and reconciled leases of the running periods, whose facts may still come."""
        ...

    async def reconcile(self, charged: dict[str, int], now: WallMs) -> Sequence[LeaseRecord]:
        """Sum of what the facts charged to each lease. Those that changed."""
        ...


class Audit(Protocol):
    async def note(self, entry: AuditEntry) -> None: ...
    async def entries(self, *, before: str = "", limit: int, subject: str = "") -> Sequence[AuditEntry]:
        """Newest first by id."""
        ...


class Generations(Protocol):
    async def current(self) -> GenerationRecord | None: ...
    async def get(self, number: int) -> GenerationRecord | None: ...
    async def latest(self, limit: int) -> Sequence[GenerationRecord]: ...
    async def add(self, digest: str, shown: dict[str, str], *, path: str, actor: str, now: WallMs) -> GenerationRecord:
        """The next number with its diff; the current one again when the digest is unchanged."""
        ...


__all__ = [
    "Audit",
    "Budgets",
    "Capabilities",
    "Generations",
    "Granted",
    "Keys",
    "KeysSince",
    "LeaseAt",
    "LedgerBusy",
    "LedgerError",
    "LedgerUnavailable",
    "LoginResult",
    "NewKey",
    "NotFound",
    "Principals",
    "Refused",
    "Sessions",
    "Taken",
]
