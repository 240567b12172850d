"""Who makes a call."""

from dataclasses import dataclass

from headway.calls.model import Origin


@dataclass(slots=True, frozen=True)
class Caller:
    """Who asks, from the key; ``run``, ``step`` and the like from validated ``x-headway-*`` headers."""

    tenant: str
    principal: str
    key: str = ""
    klass: str = "interactive"
    features: tuple[str, ...] = ()
    run: str = ""
    step: str = ""
    parent: str = ""
    prompt_ref: str = ""
    deadline_ms: float | None = None
    commitment: str = ""
    idempotency_key: str = ""
    traceparent: str = ""
    scopes: tuple[str, ...] = ()
    """Budget scopes that pay: ``tenant:NAME`` and ``key:ID``."""
    origin: Origin = Origin.CLIENT
    """A probe, where control itself calls."""
