"""Traffic by name, in one form."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from headway.lab.traces.arena import load_arena
from headway.lab.traces.azure import load_azure
from headway.lab.traces.calls import TraceCall
from headway.lab.traces.draw import draw_calls
from headway.lab.traces.mooncake import load_mooncake
from headway.lab.traces.servegen import load_servegen

R1_NOON_S: Final = 12 * 3_600
M_MID_NOON_S: Final = 86_400 + 12 * 3_600
HOUR_S: Final = 3_600
M_MID_SCALE: Final = 0.01
"""Its clients send 555 calls a second: one in a hundred of them fills an engine or two."""

TRAFFIC: Final[Mapping[str, Callable[[Path, int], list[TraceCall]]]] = MappingProxyType(
    {
        "azure_code": lambda traces, seed: load_azure(traces, "code"),
        "azure_conv": lambda traces, seed: load_azure(traces, "conv"),
        "mooncake": lambda traces, seed: load_mooncake(traces, spread_seed=seed),
        "servegen_r1": lambda traces, seed: draw_calls(load_servegen(traces, "r1"), seed, began_s=R1_NOON_S, seconds=HOUR_S),
        "servegen_m_mid": lambda traces, seed: draw_calls(
            load_servegen(traces, "m_mid"), seed, began_s=M_MID_NOON_S, seconds=HOUR_S, rate_scale=M_MID_SCALE
        ),
        "arena": lambda traces, seed: load_arena(traces),
    }
)


def load_calls(name: str, traces: Path, *, seed: int = 1) -> list[TraceCall]:
    """One of ``TRAFFIC`` in order of time, from 0; an hour of ServeGen's noon. KeyError, TraceMissing, TraceError.

    ``seed`` spreads what a coarse clock heaps up and draws what the file holds as distributions; recorded arrivals ignore it.
    """
    return TRAFFIC[name](traces, seed)
