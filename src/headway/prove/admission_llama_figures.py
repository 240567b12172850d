"""Figures of the proof on a real engine, from what its windows measured. Seconds; ratios are of two arms of one run."""

import random
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Final

from headway.kernel.figure import Figure
from headway.prove.admission_llama_load import CALL_S_MAX, Shot, Window
from headway.prove.checked import percentile

RESAMPLES: Final = 400
INTERVAL: Final = (0.025, 0.975)
MAIN: Final = ("alone", "fifo", "headway")
SHARES: Final = (("p50", 0.50), ("p95", 0.95), ("p99", 0.99))
WINDOW_METHOD: Final = "small requests sent between a giant's sending and its first token, 0.5 s apart, pooled over giants; one that failed counts as 300 s"
ALONE_METHOD: Final = "small requests 0.5 s apart, nobody else"
GIANT_METHOD: Final = "median over giants of fresh text"
INTERVAL_METHOD: Final = "interval: 95 % bootstrap over windows"

Windows = Sequence[Window]
Statistic = Callable[[Windows], float]


class Measured:
    """What one arm has so far."""

    def __init__(self) -> None:
        self.windows: list[Window] = []
        self.quiet: list[Shot] = []
        """Giants of the quiet control, with nobody beside them."""
        self.pieces = 0
        """Sub-calls that the gateway made in its windows."""

    @property
    def usable(self) -> list[Window]:
        """Windows whose giant was answered, with at least one small request that was."""
        return [w for w in self.windows if all(s.well for s in w.giants) and any(s.well for s in w.small)]

    @property
    def small(self) -> int:
        return sum(shot.well for window in self.usable for shot in window.small)

    @property
    def giants(self) -> int:
        return sum(shot.well for window in self.usable for shot in window.giants)

    @property
    def failed(self) -> int:
        sent = [shot for window in self.windows for shot in (*window.small, *window.giants)]
        return sum(not shot.well for shot in (*sent, *self.quiet))


def small_ttft(share: float) -> Statistic:
    def of(windows: Windows) -> float:
        return percentile([s.ttft_s if s.ttft_s is not None and s.well else CALL_S_MAX for w in windows for s in w.small], share)

    return of


def giant_ttft(windows: Windows) -> float:
    return median(s.ttft_s for w in windows for s in w.giants if s.ttft_s is not None and s.well)


def figures(measured: Mapping[str, Measured], seed: int, wanted: Mapping[str, tuple[int, int]]) -> dict[str, Figure]:
    """``wanted`` tells how many giants and small requests each arm needs; an arm with fewer gives no figure."""
    enough = {name: one for name, one in measured.items() if one.giants >= wanted[name][0] and one.small >= max(1, wanted[name][1])}
    rng = random.Random(seed)
    out: dict[str, Figure] = {}
    for name, one in enough.items():
        out |= _arm(name if name in MAIN else f"curve.{name}", one, rng, whole=name in MAIN)
    for over in ("fifo", "alone"):
        if over in enough and "headway" in enough:
            out |= _ratios(enough["headway"], over, enough[over], rng)
    for name, one in measured.items():
        if one.windows:
            method = "requests refused, torn or without a token, in and beside giants"
            out[f"one_giant.{name}.failed"] = Figure(value=one.failed, unit="requests", n=one.small + one.giants, method=method)
    return out


def _arm(name: str, one: Measured, rng: random.Random, *, whole: bool) -> dict[str, Figure]:
    out = {}
    for label, share in SHARES if whole else SHARES[1:2]:
        method = WINDOW_METHOD if one.giants else ALONE_METHOD
        out[f"one_giant.{name}.small_ttft_{label}"] = _figure(one, small_ttft(share), one.small, method, rng)
    if one.giants:
        out[f"one_giant.{name}.giant_ttft"] = _figure(one, giant_ttft, one.giants, GIANT_METHOD, rng)
        tokens = [shot.prompt_tokens for w in one.usable for shot in w.giants if shot.well]
        method = "median prompt of the giants, as the engine counts"
        out[f"one_giant.{name}.giant_prompt"] = Figure(value=median(tokens), unit="tokens", n=len(tokens), method=method)
        pieces = one.pieces / one.giants
        method = "pieces sent for each giant, as the gateway counts"
        out[f"one_giant.{name}.pieces_per_giant"] = Figure(value=round(pieces, 2), unit="pieces", n=one.giants, method=method)
    return out


def _figure(one: Measured, statistic: Statistic, n: int, method: str, rng: random.Random) -> Figure:
    low, high = _interval([statistic(_again(one.usable, rng)) for _ in range(RESAMPLES)])
    value = round(statistic(one.usable), 4)
    return Figure(value=value, unit="s", n=n, low=low, high=high, method=f"{method}; {INTERVAL_METHOD}")


def _ratios(headway: Measured, over: str, other: Measured, rng: random.Random) -> dict[str, Figure]:
    chosen: list[tuple[str, Statistic, int, str]] = [
        (f"small_ttft_{label}", small_ttft(share), min(headway.small, other.small), WINDOW_METHOD) for label, share in SHARES
    ]
    if other.giants:
        chosen.append(("giant_ttft", giant_ttft, min(headway.giants, other.giants), GIANT_METHOD))
    out = {}
    for label, statistic, n, method in chosen:
        drawn = [statistic(_again(headway.usable, rng)) / statistic(_again(other.usable, rng)) for _ in range(RESAMPLES)]
        low, high = _interval(drawn)
        out[f"one_giant.headway_over_{over}.{label}"] = Figure(
            value=round(statistic(headway.usable) / statistic(other.usable), 4),
            unit="ratio",
            n=n,
            low=low,
            high=high,
            method=f"headway over {over}, each: {method}; {INTERVAL_METHOD}",
        )
    return out


def _again(windows: Windows, rng: random.Random) -> Windows:
    return rng.choices(windows, k=len(windows))


def _interval(drawn: Sequence[float]) -> tuple[float, float]:
    return round(percentile(drawn, INTERVAL[0]), 4), round(percentile(drawn, INTERVAL[1]), 4)
