"""Two families of worlds that share no engine, no provider, no shape of traffic and no kind of noise: on one thresholds are found, on the other scored."""

from typing import Final

import msgspec

from headway.lab.engine.fit import FitStepTime
from headway.lab.engine.fitted import PRO6000_8B, RTX4090_8B
from headway.lab.engine.hosted import HostedTime
from headway.lab.engine.model import EngineSettings


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """Who calls with what. Ranges are of tenants' medians; a call's answer lies around its tenant's by ``output_vary`` (one sigma, as a share)."""

    tenants: int
    prefix_tokens: tuple[int, int]
    tail_tokens: tuple[int, int]
    output_tokens: tuple[int, int]
    papers_tokens: tuple[int, int]
    """One tenant more asks about whole papers, ``papers_share`` of all calls."""
    papers_share: float
    tail_sigma: float
    """Of the logarithm of what a prompt has of its own: long ones are far longer."""
    output_vary: float
    run_share: float
    """Of calls that follow a tool of their run."""
    tool_ms: float
    tool_vary: float


class Noise(msgspec.Struct, frozen=True, kw_only=True):
    """``sigma`` of logarithms; ``hiccup`` is the share of calls that meet a pause of up to ``hiccup_ms``, ``drift`` a slow swing of a share."""

    first_sigma: float
    """Of a provider's first token."""
    pace_sigma: float
    net_ms: float
    net_sigma: float
    step_sigma: float
    hiccup: float
    hiccup_ms: float
    drift: float
    drift_period_ms: float


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """``loads_per_s`` are three rates of calls, on the own engine and at the hosted provider."""

    name: str
    shape: Shape
    noise: Noise
    engine: EngineSettings
    machine: FitStepTime
    hosted: HostedTime
    own_loads_per_s: tuple[float, float, float]
    hosted_loads_per_s: tuple[float, float, float]
    scrape_ms: float
    """How often our gateway asks the engine for its load."""
    cache_grain_tokens: int
    """The provider counts cached tokens in multiples of it."""


FITTING: Final = Family(
    name="fitting",
    shape=Shape(
        tenants=5,
        prefix_tokens=(600, 2_400),
        tail_tokens=(150, 600),
        output_tokens=(60, 140),
        papers_tokens=(1_000, 2_000),
        papers_share=0.025,
        tail_sigma=0.45,
        output_vary=0.10,
        run_share=0.3,
        tool_ms=350.0,
        tool_vary=0.20,
    ),
    noise=Noise(
        first_sigma=0.15,
        pace_sigma=0.07,
        net_ms=6.0,
        net_sigma=0.6,
        step_sigma=0.04,
        hiccup=0.0,
        hiccup_ms=0.0,
        drift=0.05,
        drift_period_ms=1_500_000.0,
    ),
    engine=EngineSettings(sequences_max=128),
    machine=PRO6000_8B,
    hosted=HostedTime(wait_ms=240.0, base_ms=120.0, token_ms=0.09, pace_ms=((0, 11.0), (50, 14.0), (100, 17.0))),
    own_loads_per_s=(1.0, 2.0, 3.5),
    hosted_loads_per_s=(0.5, 1.0, 3.0),
    scrape_ms=1_000.0,
    cache_grain_tokens=128,
)
SCORING: Final = Family(
    name="scoring",
    shape=Shape(
        tenants=6,
        prefix_tokens=(900, 4_000),
        tail_tokens=(80, 900),
        output_tokens=(40, 220),
        papers_tokens=(1_200, 2_400),
        papers_share=0.025,
        tail_sigma=0.35,
        output_vary=0.15,
        run_share=0.4,
        tool_ms=800.0,
        tool_vary=0.25,
    ),
    noise=Noise(
        first_sigma=0.12,
        pace_sigma=0.10,
        net_ms=15.0,
        net_sigma=0.4,
        step_sigma=0.08,
        hiccup=0.01,
        hiccup_ms=200.0,
        drift=0.08,
        drift_period_ms=2_400_000.0,
    ),
    engine=EngineSettings(sequences_max=64, step_tokens_max=1_024, plan_ahead=True),
    machine=RTX4090_8B,
    hosted=HostedTime(wait_ms=420.0, base_ms=80.0, token_ms=0.05, pace_ms=((0, 16.0), (20, 21.0), (80, 25.0), (100, 31.0))),
    own_loads_per_s=(0.4, 0.8, 1.5),
    hosted_loads_per_s=(0.4, 1.0, 2.0),
    scrape_ms=500.0,
    cache_grain_tokens=64,
)
FAMILIES: Final = (FITTING, SCORING)
