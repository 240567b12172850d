"""Engines by name for the socket: settings and step times in the fit grade, so that they need no data beside them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from headway.lab.engine.fit import FitStepTime
from headway.lab.engine.model import EngineSettings


class EngineProfile(msgspec.Struct, frozen=True, kw_only=True):
    """One machine with one model."""

    name: str
    about: str
    settings: EngineSettings
    time: FitStepTime
    context_tokens_max: int


LAPTOP_135M: Final = EngineProfile(
    name="laptop_135m",
    about="SmolLM2-135M on two cores: a prompt of 3,000 tokens takes about nine seconds",
    settings=EngineSettings(step_tokens_max=512, sequences_max=6, kv_blocks=512),
    time=FitStepTime(
        name="fit laptop_135m",
        source="llama.cpp b11434, SmolLM2-135M Q4_1: pieces of 109 tokens at contexts 0 and 2,400, and decodes of one request",
        floor_ms=6.0,
        base_ms=4.0,
        token_ms=2.2,
        pair_ms=6.1e-4,
        context_ms=6.1e-4,
        decode_ms=0.0,
    ),
    context_tokens_max=8_192,
)
PRO6000_8B: Final = EngineProfile(
    name="pro6000_8b",
    about="Llama-3.1-8B on an RTX PRO 6000: 28,000 tokens of prompt take about two seconds",
    settings=EngineSettings(kv_blocks=32_768),
    time=FitStepTime(
        name="fit pro6000_8b",
        source="LLMServingSim's layer tables with 2 ms a step, 4,000 drawn steps: median error 2.3 %, p95 19 %",
        floor_ms=13.2,
        base_ms=13.2,
        token_ms=0.0283,
        pair_ms=2.33e-6,
        context_ms=9.1e-5,
        decode_ms=0.0,
    ),
    context_tokens_max=131_072,
)
RTX4090_8B: Final = EngineProfile(
    name="4090_8b",
    about="Llama-3.1-8B on an RTX 4090, 41,408 tokens of KV memory",
    settings=EngineSettings(kv_blocks=2_588),
    time=FitStepTime(
        name="fit 4090_8b",
        source="LLMServingSim's layer tables, 4,000 drawn steps: median error 3.3 %, p95 20 %",
        floor_ms=17.0,
        base_ms=15.3,
        token_ms=0.0716,
        pair_ms=4.15e-6,
        context_ms=1.44e-4,
        decode_ms=0.0,
    ),
    context_tokens_max=40_960,
)
PROFILES: Final[Mapping[str, EngineProfile]] = MappingProxyType({p.name: p for p in (PRO6000_8B, RTX4090_8B, LAPTOP_135M)})
