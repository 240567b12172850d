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
        "Llama-3.1-8B on an RTX PRO 6000, LLMServingSim's kernel tables (vLLM 0.19.0): 16,689 steps, median error 1.2 %, 95 % of them "
        "within 15 %; replayed against the measured run: first token -8 %, time per token -1 %, end to end -2 % at the median"
    ),
    floor_ms=11.04,
    base_ms=5.649,
    token_ms=0.04368,
    pair_ms=1.836e-6,
    context_ms=1.120e-4,
    decode_ms=0.0,
)
RTX4090_8B: Final = FitStepTime(
    name="4090_8b",
    source=(
        "Llama-3.1-8B on an RTX 4090, LLMServingSim's kernel tables (vLLM 0.19.0): 22,389 steps, median error 0.8 %, 95 % of them "
        "within 2 %; replayed against the measured run: first token +2 %, time per token +2 %, end to end +6 % at the median"
    ),
    floor_ms=16.75,
    base_ms=13.63,
    token_ms=0.08693,
    pair_ms=3.838e-6,
    context_ms=1.404e-4,
    decode_ms=0.08885,
)
MACHINES: Final[Mapping[str, FitStepTime]] = MappingProxyType({machine.name: machine for machine in (PRO6000_8B, RTX4090_8B)})
