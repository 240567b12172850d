"""Every threshold of the verdicts in one place, so that they can be fitted on some worlds and scored on others."""

import msgspec


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What counts as slow, as unusual, as evidence. Shares are of 1, units are robust standard deviations."""

    # --- slow
    slow_units: float = 3.0
    """A call is slow when its excess passes this many of the usual call's own deviations, ..."""
    slow_share: float = 0.2
    """... this share of what was expected, ..."""
    slow_ms: float = 100.0
    """... and this."""

    # --- naming
    explained_share_min: float = 0.6
    """Of the excess: a cause that explains less is not named."""
    lead_share_min: float = 0.15
    """Of the excess, between the first and the second cause, unless one is part of the other."""
    baseline_calls_min: int = 30
    noise_units: float = 3.0
    """First token and pace within this of their usual spread are as expected."""
    unusual_units: float = 3.0
    """Tokens, waits and gaps further from their median than this are no ordinary variation."""
    pace_units: float = 3.0
    """Time a token further above its usual is "pace up"."""
    pace_share: float = 0.15
    left_share_max: float = 0.4
    """Of the excess: more that is left when tokens are counted refutes tokens as the cause."""

    # --- evidence
    cached_share_drop: float = 0.2
    """Of the prompt: cached so much less than usual is a cold cache, less is not."""
    cache_ttl_ms: float = 300_000.0
    """How long providers keep what nobody asks for."""
    ratelimit_near: float = 0.02
    together_ms: float = 120_000.0
    """Calls so near in time are slow "at the same time"."""
    others_min: int = 3
    others_p_max: float = 0.01
    others_units: float = 1.0
    """Others are slow when their median is so far above its usual."""
    neighbour_units: float = 0.5
    """An engine's own load so far above its usual is a neighbour's, where the first token is late."""
    neighbour_pace_units: float = 3.0
    """The same where only the pace is slow: it goes with the load all day."""
    others_near: int = 6
    """Of others the so many nearest in time are looked at: before, after, and half of each."""
    stamp_ms: float = 120_000.0
    stamp_calls: int = 20
    """A change point lies at a change of route when it is within either."""
    route_units: float = 0.7
    """The median of a changed route's calls is off by so much when it is the route that is slow."""
    route_calls_min: int = 2
    """Calls on the changed route that its shift is taken from."""
    probe_units_max: float = 1.0
    """Probes on the changed route that stay within this say that it is as it was."""
    new_after_calls: int = 60
    """Of a target: a route first seen later than this is a change, for ``settle_ms``."""
    new_again_calls: int = 200
    new_again_ms: float = 900_000.0
    """A route that nobody saw for so many calls and so long is new again."""

    # --- change points
    cusum_k: float = 0.5
    cusum_h: float = 5.0
    cusum_h_busy: float = 8.0
    """At more than ``busy_per_s`` calls."""
    busy_per_s: float = 1.0
    clip: float = 4.0
    settle_ms: float = 1_800_000.0
    """After so long a change is the new usual."""
    settle_calls: int = 100
    level_ms: float = 900_000.0
    """g is the median residual of so long."""
    level_calls_min: int = 10

    # --- memory, all per target; over a bound the oldest goes
    calls_kept: int = 512
    targets_max: int = 512
    tenants_max: int = 256
    lanes_max: int = 64
    places_max: int = 64
    refit_every: int = 24
