"""The queues now, as board, API and command line show them: plain values, loaded without a web framework."""

import msgspec

from headway.calls.admission.model import EndpointView, TenantView


class TenantShare(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant at an endpoint beside what its weight entitles it to. Shares are None where nobody was served within the last minute."""

    now: TenantView
    entitled_share: float
    served_share: float | None
    """Of the virtual tokens served within SERVED_OVER_MS."""


class SharedEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint as one gateway shares it. ``tenants``: those with most waiting first. ``adds_up`` is the conservation of calls."""

    gateway: str
    seen_wall_ms: int
    silent: bool
    whole: bool
    """False for a caller who sees one tenant: counts over all tenants are then zeros and not shown."""
    view: EndpointView
    tenants: tuple[TenantShare, ...]
    adds_up: bool


class AdmissionNow(msgspec.Struct, frozen=True, kw_only=True):
    """As the gateways told it last, at most some seconds ago."""

    endpoints: tuple[SharedEndpoint, ...]
