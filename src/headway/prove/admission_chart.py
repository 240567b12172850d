"""The chart of the proof: first tokens of small requests over time, alone, without us, with us; all tokens a second beneath."""

from pathlib import Path
from typing import Final

from headway.lab.drawing import BLUE, GREY, ORANGE, Panel, binned, document, linear, logarithmic
from headway.lab.engine.engine import ContinuousEngine
from headway.lab.worlds import arms
from headway.lab.worlds.driver import Outcomes, drive
from headway.lab.worlds.giants import SMALL, WORLDS
from headway.lab.worlds.machines import pro6000_8b
from headway.lab.worlds.numbers import quantile

BIN_S: Final = 1.0
SECONDS: Final = 1e9


def chart(seed: int, traces: Path) -> str:
    """SVG of one seed of five_giants."""
    world = WORLDS["five_giants"]
    runs = [
        ("alone", GREY, WORLDS["no_giant"], arms.fifo()),
        ("first come, first served", ORANGE, world, arms.fifo()),
        ("Headway, paced", BLUE, world, arms.headway()),
    ]
    shown: list[tuple[str, str, Outcomes]] = []
    for name, colour, story, arm in runs:
        engine = ContinuousEngine(arm.engine, pro6000_8b(traces), token_events=True)
        shown.append((name, colour, drive(story.asks(seed), engine, arm.policy(), endpoint=arms.ENDPOINT)))
    end_s = max(outcomes.ended_at for _, _, outcomes in shown) / SECONDS
    time_axis = linear([end_s / 1.05], "seconds")
    first = {name: _first_tokens(outcomes) for name, _, outcomes in shown}
    every = [ms for points in first.values() for _, ms in points]
    upper = Panel("First token of small requests, by arrival", time_axis, logarithmic(every, "ms"), top=34, height=280)
    for name, colour, _ in shown:
        upper.dots(first[name], colour)
        upper.line(binned(first[name], BIN_S, lambda ordered: quantile(ordered, 0.5)), colour, name)
    upper.note(world.giants_at_s, f"{world.giants} prompts of {world.giant_tokens:,} tokens arrive")
    rates = {name: _tokens_per_s(outcomes) for name, _, outcomes in shown}
    most = max(rate for points in rates.values() for _, rate in points)
    lower = Panel("All tokens a second, prompts and answers", time_axis, linear([most], "tok/s"), top=upper.bottom, height=170)
    for name, colour, _ in shown:
        lower.line(rates[name], colour, name)
    caption = (
        f"Simulated Llama-3.1-8B on an RTX PRO 6000, seed {seed}; 12 small requests a second. Dots are requests, lines medians a second; "
        "a prompt's tokens are spread from its sending to its first token."
    )
    return document(
        "One giant prompt no longer stalls everybody small", [upper.svg(), lower.svg()], lower.bottom + 24, caption=caption
    )


def _first_tokens(outcomes: Outcomes) -> list[tuple[float, float]]:
    return [(m.ask.at / SECONDS, ms) for m in outcomes.made if m.ask.band == SMALL and (ms := m.ttft_ms) is not None]


def _tokens_per_s(outcomes: Outcomes) -> list[tuple[float, float]]:
    bins = [0.0] * (int(outcomes.ended_at / SECONDS / BIN_S) + 2)
    for made in outcomes.made:
        call = made.last
        if call.first is None or call.sent is None or call.finished is None:
            continue
        _spread(bins, call.sent / SECONDS, call.first / SECONDS, made.ask.prompt_tokens)
        _spread(bins, call.first / SECONDS, call.finished / SECONDS, call.output_tokens)
    return [((n + 0.5) * BIN_S, tokens / BIN_S) for n, tokens in enumerate(bins[:-1])]


def _spread(bins: list[float], start: float, end: float, amount: float) -> None:
    """Evenly over the bins between ``start`` and ``end``."""
    span = max(end - start, 1e-9)
    for number in range(int(start / BIN_S), int(end / BIN_S) + 1):
        inside = min(end, (number + 1) * BIN_S) - max(start, number * BIN_S)
        bins[number] += amount * max(0.0, inside) / span
