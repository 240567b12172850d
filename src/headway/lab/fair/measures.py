"""What a run did to its tenants: waits of the light and of the heavy, the largest gap of service, tokens a second. Measured or simulated."""

from typing import Final

import msgspec
import numpy as np

from headway.lab.fair.measured import Floats, Ints, Mask, Run

GAP_FROM_S: Final = 60.0
GAP_EVERY_S: Final = 5.0
MINUTE_S: Final = 60.0
PROMPT_PRICE: Final = 1.0
OUTPUT_PRICE: Final = 2.0


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds to the first token by side; ``service_gap`` in virtual tokens; ``tokens_per_s`` of prompts and answers over the makespan."""

    light_p50_s: float
    light_p99_s: float
    heavy_p50_s: float
    heavy_p99_s: float
    tpot_p50_ms: float
    service_gap: float
    tokens_per_s: float


def seen(run: Run, first_s: Floats, end_s: Floats, light: Mask, heavy: Mask) -> Seen:
    """``run`` says who asked what and when; ``first_s`` and ``end_s`` what became of it."""
    wait = first_s - run.arrival_s
    light_p50, light_p99 = (float(value) for value in np.percentile(wait[light], (50, 99)))
    heavy_p50, heavy_p99 = (float(value) for value in np.percentile(wait[heavy], (50, 99)))
    several = run.output > 1
    return Seen(
        light_p50_s=light_p50,
        light_p99_s=light_p99,
        heavy_p50_s=heavy_p50,
        heavy_p99_s=heavy_p99,
        tpot_p50_ms=1000.0 * float(np.median((end_s - first_s)[several] / (run.output - 1)[several])),
        service_gap=service_gap(run, first_s, end_s),
        tokens_per_s=float((run.prompt.sum() + run.output.sum()) / (end_s.max() - run.arrival_s.min())),
    )


def service_gap(run: Run, first_s: Floats, end_s: Floats) -> float:
    """Largest difference of service between two clients, looked at every five seconds from the 60th to the end of arrivals, in whole minutes.

    A prompt counts in full at its first token, an answer twice and spread evenly from there to its end.
    """
    until = max(GAP_FROM_S, MINUTE_S * round(float(run.arrival_s.max()) / MINUTE_S))
    times = np.arange(GAP_FROM_S, until + 1e-9, GAP_EVERY_S)
    most = np.full(len(times), -np.inf)
    least = np.full(len(times), np.inf)
    for client in np.unique(run.client):
        mine = run.client == client
        service = _service(times, first_s[mine], end_s[mine], run.prompt[mine], run.output[mine])
        most, least = np.maximum(most, service), np.minimum(least, service)
    return float((most - least).max())


def _service(times: Floats, first_s: Floats, end_s: Floats, prompt: Ints, output: Ints) -> Floats:
    """Of one client until each of ``times``, summed over its requests by the instants at which their rates change."""
    rate = OUTPUT_PRICE * output / np.maximum(end_s - first_s, 1e-9)
    jumps = PROMPT_PRICE * prompt
    return (
        _sum_until(times, first_s, jumps - rate * first_s)
        + times * _sum_until(times, first_s, rate)
        - (times * _sum_until(times, end_s, rate) - _sum_until(times, end_s, rate * end_s))
    )


def _sum_until(times: Floats, at: Floats, values: Floats) -> Floats:
    """Sum of those ``values`` whose instant has come, at each of ``times``."""
    order = np.argsort(at, kind="stable")
    summed = np.concatenate([[0.0], np.cumsum(values[order])])
    return np.asarray(summed[np.searchsorted(at[order], times, side="right")], dtype=np.float64)
