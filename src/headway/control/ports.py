"""What the board and the API need of the rest of control, as small ports. ``process.py`` binds the real ones.

Facts and ledger may be away: then their methods raise one of ``AWAY``, the page shows what it has and says what is missing.
"""

from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from headway.calls.pricing import PriceRow
from headway.facts.answers import Bucket, CallQuery, CallStory, FactsAway, Group, Overview
from headway.facts.model import CallFact
from headway.kernel.errors import HeadwayError
from headway.kernel.instants import WallMs
from headway.ledger.port import Audit, Budgets, Keys, LeaseAt, LedgerBusy, LedgerUnavailable, Principals, Sessions

StoredCall = CallStory


class Away(HeadwayError):
    """Something of control cannot be reached now; ``str()`` says what and why."""


AWAY: Final = (Away, FactsAway, LedgerUnavailable, LedgerBusy)

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


class Facts(Protocol):
    async def calls(self, where: CallFilter, before: str, limit: int) -> Sequence[CallFact]:
        """Newest first by id, older than ``before`` (empty: from now)."""
        ...

    async def one(self, call: str) -> CallStory | None: ...

    async def beside(self, since_wall_ms: int, until_wall_ms: int, limit: int) -> Sequence[CallFact]:
        """Calls that ran at some moment of the stretch."""
        ...

    async def overview(self, since_wall_ms: int, until_wall_ms: int, bucket_ms: int, tenant: str) -> Overview: ...


# --- who and how much ------------------------------------------------------------------------------------------------------


class LedgerSubjects(Protocol):
    """The subjects of the ledger that pages and API use; ``ledger.store.Ledger`` has them all."""

    @property
    def principals(self) -> Principals: ...
    @property
    def keys(self) -> Keys: ...
    @property
    def sessions(self) -> Sessions: ...
    @property
    def budgets(self) -> Budgets: ...
    @property
    def audit(self) -> Audit: ...
    def now(self) -> WallMs: ...


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
    """What is in force, and what the newest file changed or got wrong. Number 0: nothing yet."""

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
    open_access: bool = False
    """Calls without a key are let in from loopback."""


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

    async def push_keys(self) -> None:
        """Tell every gateway now that keys have changed, rather than at the next look."""
        ...

    async def push_budgets(self, closing: Sequence[LeaseAt]) -> None:
        """Tell every gateway now that budgets beside the settings have changed, and take these blocks back."""
        ...


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


__all__ = [
    "AWAY",
    "Away",
    "Bucket",
    "CallFilter",
    "CallQuery",
    "CallStory",
    "Configuration",
    "DiffLine",
    "Facts",
    "FeatureView",
    "GatewayView",
    "Gateways",
    "Generation",
    "Group",
    "Health",
    "LedgerSubjects",
    "Overview",
    "Prices",
    "ProviderView",
    "StoredCall",
    "TenantView",
]
