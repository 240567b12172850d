"""Machines in the fit grade, for when their kernel tables are not at hand.

Fitted by ``fitting.fit`` to steps of the table grade under ShareGPT lengths at five loads, three prompts of 28,000 tokens among them.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from headway.lab.engine.fit import FitStepTime

PRO6000_8B: Final = FitStepTime(
    name="pro6000_8b",
    source=(
        "Llama-3.1-8B on an RTX PRO 6000, LLMServingSim's kernel tables (vLLM 0.19.0): 16,689 steps, median error 1.5 %, 95 % of them "
        "within 17 %; replayed against the measured run, time per token +6 %"
    ),
    floor_ms=10.86,
    base_ms=11.02,
    token_ms=0.04072,
    pair_ms=2.069e-6,
    context_ms=9.606e-5,
    decode_ms=0.0,
)
RTX4090_8B: Final = FitStepTime(
    name="4090_8b",
    source=(
        "Llama-3.1-8B on an RTX 4090, LLMServingSim's kernel tables (vLLM 0.19.0): 22,389 steps, median error 0.8 %, 95 % of them "
        "within 2 %; replayed against the measured run, time per token +1 %"
    ),
    floor_ms=16.58,
    base_ms=16.75,
    token_ms=0.08586,
    pair_ms=3.897e-6,
    context_ms=1.404e-4,
    decode_ms=0.00312,
)
MACHINES: Final[Mapping[str, FitStepTime]] = MappingProxyType({machine.name: machine for machine in (PRO6000_8B, RTX4090_8B)})
