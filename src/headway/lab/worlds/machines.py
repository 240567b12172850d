"""Machines by name: an engine's settings and what its steps cost."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from headway.lab.engine.model import StepTime
from headway.lab.engine.table import Calibration, TableStepTime
from headway.lab.traces.profiles import load_profile


def pro6000_8b(traces: Path) -> StepTime:
    """Llama-3.1-8B on an RTX PRO 6000, 2 ms a step over its kernels. TraceMissing where its tables are not."""
    profile = load_profile(traces, "RTXPRO6000", "meta-llama/Llama-3.1-8B")
    return TableStepTime(profile, layers=32, calibration=Calibration(overhead_ms=2.0))


def rtx4090_8b(traces: Path) -> StepTime:
    """Llama-3.1-8B on an RTX 4090, without overhead."""
    return TableStepTime(load_profile(traces, "RTX4090", "meta-llama/Llama-3.1-8B"), layers=32)


MACHINES: Final[Mapping[str, Callable[[Path], StepTime]]] = MappingProxyType({"pro6000_8b": pro6000_8b, "4090_8b": rtx4090_8b})
