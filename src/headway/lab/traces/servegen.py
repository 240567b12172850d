"""Clients of a cloud as rates, gap distributions and length distributions (ServeGen, Alibaba; seconds of the day).

A client's window of 600 s has a rate, and gaps drawn from a Gamma (mean shape x scale) or Weibull distribution; lengths have a
distribution per 6 hours.
"""

from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

import msgspec

from headway.lab.traces.reading import TraceError, records

FILES: Final = MappingProxyType({"r1": "servegen_deepseek_r1.jsonl.gz", "m_mid": "servegen_m_mid_day2_51clients.jsonl.gz"})
WINDOW_S: Final = 600
LENGTHS_S: Final = 21_600

Family = Literal["Gamma", "Weibull"]
Spread = tuple[tuple[float, ...], tuple[float, ...]]
"""Values and their probabilities; empty when nothing came in that window."""


class Window(msgspec.Struct, frozen=True, array_like=True):
    """``start_s`` of the window, requests a second, coefficient of variation of gaps, their distribution."""

    start_s: int
    rate: float
    gap_cv: float
    family: Family
    shape: float
    scale: float


class Lengths(msgspec.Struct, frozen=True):
    input_tokens: Spread
    output_tokens: Spread
    reason_ratio: Spread = ((), ())
    """Of an answer, the share that is reasoning; reasoning models only."""


class Client(msgspec.Struct, frozen=True):
    client: int
    trace: tuple[Window, ...]
    dataset: dict[str, Lengths]


def load_servegen(traces: Path, name: Literal["r1", "m_mid"]) -> list[Client]:
    """TraceMissing; TraceError for a rate that is negative or a distribution that does not fit together."""
    path = traces / FILES[name]
    clients: list[Client] = []
    for number, client in records(path, Client):
        problem = _problem(client)
        if problem:
            raise TraceError(path, number, problem)
        clients.append(client)
    return clients


def _problem(client: Client) -> str:
    for window in client.trace:
        if not (window.rate >= 0 and window.shape > 0 and window.scale > 0):
            return f"client {client.client}: window {window.start_s} has a negative rate, or a shape or scale that is not positive"
    for start, lengths in client.dataset.items():
        for values, shares in (lengths.input_tokens, lengths.output_tokens, lengths.reason_ratio):
            if len(values) != len(shares) or (shares and abs(sum(shares) - 1) > 0.01):
                return f"client {client.client}: lengths at {start} have {len(values)} values, {len(shares)} shares, sum {sum(shares):g}"
    return ""
