"""What the other gateways in front of the same endpoint have there, as of the last exchange with the shared store (pure)."""

import msgspec


class Others(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over the gateways alive besides this one. Tokens are KV tokens in flight; ``least`` is the least virtual token counter of those that
    wait there, None where nobody does."""

    gateways: int = 0
    requests: int = 0
    tokens: float = 0.0
    long: int = 0
    """Long prompts being read."""
    queued: int = 0
    weight: float = 0.0
    """Of the tenants that have something queued there, or how many calls wait where weights do not order."""
    least: float | None = None
    away: bool = False
    """The store is: the sums are 0, and this gateway keeps to its part, one of ``gateways + 1``."""


ALONE = Others()
