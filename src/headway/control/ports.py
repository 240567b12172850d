"""What the board and the API need of the rest of control, as small ports. ``process.py`` binds the real ones.

Every method may raise ``Away``: the page then shows what it has and says what is missing.
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from headway.calls.pricing import PriceRow
from headway.facts.model import AttemptFact, CallFact, FeedbackFact, SegmentFact
from headway.kernel.errors import HeadwayError
from headway.kernel.figure import Figure
from headway.ledger.model import AuditEntry, BudgetState, KeyRecord, Principal, Role


class Away(HeadwayError):
    """A store cannot be reached now; ``str()`` says which and why."""


# --- what was seen ---------------------------------------------------------------------------------------------------------


class CallFilter(msgspec.Struct, frozen=True, kw_only=True):
    """What the Calls page and its API filter by; empty is all. ``model`` matches any of requested, routed and answered, in part."""

    tenant: str = ""
    feature: str = ""
    state: str = ""
    """in_flight, unknown, failed (ended otherwise than done) or an outcome."""
    model: str = ""
    origin: str = "client"
    """An origin, or ``any``."""
    key: str = ""


class StoredCall(msgspec.Struct, frozen=True, kw_only=True):
    """One call with all rows that hang on it."""

    fact: CallFact
    attempts: tuple[AttemptFact, ...] = ()
    segments: tuple[SegmentFact, ...] = ()
    feedback: tuple[FeedbackFact, ...] = ()


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a time series; ``None`` where nothing was seen."""

    start_wall_ms: int
    calls: int = 0
    failed: int = 0
    first_token_p50_ms: float | None = None
    first_token_p99_ms: float | None = None
    cost_nano_usd: int = 0


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """What a feature, a tenant or all of them did in the range."""

    name: str
    calls: int
    failed: int
    first_token_p50: Figure
    first_token_p99: Figure
    cost_nano_usd: int
    """Sum of the known costs."""
    cost_unknown: int
    """Calls whose cost is unknown, and therefore not in the sum."""
    input_tokens: int
    output_tokens: int
    series: tuple[Bucket, ...] = ()


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """The range ``since`` to ``until`` in one look: calls of origin client."""

    since_wall_ms: int
    until_wall_ms: int
    bucket_ms: int
    newest_wall_ms: int | None
    """Start of the newest call that is in the facts: the age of every figure here."""
    total: Group
    features: tuple[Group, ...] = ()
    tenants: tuple[Group, ...] = ()


class Facts(Protocol):
    async def calls(self, where: CallFilter, before: str, limit: int) -> Sequence[CallFact]:
        """Newest first by id, older than ``before`` (empty: from now)."""
        ...

    async def one(self, call: str) -> StoredCall | None: ...

    async def beside(self, since_wall_ms: int, until_wall_ms: int, limit: int) -> Sequence[CallFact]:
        """Calls that ran at some moment of the stretch."""
        ...

    async def overview(self, since_wall_ms: int, until_wall_ms: int, bucket_ms: int, tenant: str) -> Overview: ...


# --- who and how much ------------------------------------------------------------------------------------------------------


class NewKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a key is made from. ``expires_in_s`` None never expires."""

    tenant: str
    name: str = ""
    role: Role = Role.VIEWER
    features: tuple[str, ...] = ()
    expires_in_s: int | None = None


class NewUser(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    password: str
    role: Role = Role.VIEWER
    tenant: str = ""


class Ledger(Protocol):
    """Principals, sessions, keys, budgets and the audit log. Every change writes its audit entry with ``actor``."""

    async def principals(self) -> Sequence[Principal]: ...
    async def any_password(self) -> bool: ...
    async def check_password(self, name: str, password: str) -> Principal | None: ...
    async def owner(self) -> Principal:
        """An enabled owner bound to no tenant; made, without a password, when there is none."""
        ...

    async def add_user(self, new: NewUser, actor: str) -> Principal: ...
    async def disable(self, principal: str, actor: str) -> bool: ...
    async def open_session(self, principal: str) -> str: ...
    async def session(self, token: str) -> Principal | None: ...
    async def close_session(self, token: str) -> None: ...
    async def keys(self) -> Sequence[KeyRecord]: ...
    async def check_key(self, key: str) -> KeyRecord | None: ...
    async def create_key(self, new: NewKey, actor: str) -> tuple[KeyRecord, str]: ...
    async def revoke_key(self, key: str, actor: str) -> bool: ...
    async def budgets(self) -> Sequence[BudgetState]: ...
    async def audit(self, before: str, limit: int) -> Sequence[AuditEntry]: ...
    async def note(self, actor: str, action: str, subject: str) -> None: ...


# --- what is configured and who is connected --------------------------------------------------------------------------------


class DiffLine(msgspec.Struct, frozen=True, kw_only=True):
    """One value that the last reload changed; ``None`` where it was not set."""

    key: str
    before: str | None
    after: str | None


class TenantView(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    weight: float
    klass: str
    features: tuple[str, ...] = ()


class FeatureView(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    targets: tuple[str, ...] = ()
    strict: bool = False
    records_text: bool = False


class ProviderView(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    preset: str
    base_url: str = ""
    models: tuple[str, ...] = ()


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    """What is in force, and what the newest file changed or got wrong."""

    number: int
    loaded_wall_ms: int
    path: str
    diff: tuple[DiffLine, ...] = ()
    problem: str = ""
    """Why the file on disk is not in force; empty when it is."""
    problem_wall_ms: int | None = None
    tenants: tuple[TenantView, ...] = ()
    features: tuple[FeatureView, ...] = ()
    providers: tuple[ProviderView, ...] = ()


class GatewayView(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    version: str
    connected: bool
    generation: int
    heartbeat_wall_ms: int | None
    in_flight: int = 0
    degraded: tuple[str, ...] = ()
    metrics: str = ""


class Configuration(Protocol):
    def generation(self) -> Generation: ...
    async def reload(self, actor: str) -> Generation: ...


class Gateways(Protocol):
    def gateways(self) -> Sequence[GatewayView]: ...


class Prices(Protocol):
    def version(self) -> str: ...
    def find(self, provider: str, model: str) -> Sequence[PriceRow]: ...


class Health(Protocol):
    def degraded(self) -> Sequence[str]:
        """What control itself cannot do now, one sentence each; empty when all is well."""
        ...

    def metrics(self) -> str:
        """Control's own figures as Prometheus text."""
        ...
