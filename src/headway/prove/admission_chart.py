"""The chart of the proof: first tokens of small requests over time, alone, without us, with us; all tokens a second beneath."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from headway.lab.drawing import BLUE, GREY, ORANGE, Panel, binned, document, linear, logarithmic
from headway.lab.engine.engine import ContinuousEngine
from headway.lab.engine.model import EngineEvent, EngineRequest
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
    flows: list[Flow] = []
    for name, colour, story, arm in runs:
        engine = ContinuousEngine(arm.engine, pro6000_8b(traces), token_events=True)
        flows.append(Flow(engine))
        outcomes = drive(story.asks(seed), engine, arm.policy(), endpoint=arms.ENDPOINT, watcher=flows[-1])
        shown.append((name, colour, outcomes))
    end_s = max(outcomes.ended_at for _, _, outcomes in shown) / SECONDS
    time_axis = linear([end_s / 1.05], "seconds")
    first = {name: _first_tokens(outcomes) for name, _, outcomes in shown}
    every = [ms for points in first.values() for _, ms in points]
    upper = Panel("First token of small requests, by arrival", time_axis, logarithmic(every, "ms"), top=34, height=280)
    for name, colour, _ in shown:
        upper.dots(first[name], colour)
        upper.line(binned(first[name], BIN_S, lambda ordered: quantile(ordered, 0.5)), colour, name)
    upper.note(world.giants_at_s, f"{world.giants} prompts of {world.giant_tokens:,} tokens arrive")
    most = max(rate for flow in flows for _, rate in flow.per_s())
    lower = Panel(
        "Tokens a second that the engine computes, prompts and answers",
        time_axis,
        linear([most], "tok/s"),
        top=upper.bottom,
        height=170,
    )
    for (_, colour, _), flow in zip(shown, flows, strict=True):
        lower.line(flow.per_s(), colour)
    caption = f"Simulated Llama-3.1-8B on an RTX PRO 6000, seed {seed}; 12 small requests a second. Dots are requests, lines medians a second."
    return document(
        "One giant prompt no longer stalls everybody small", [upper.svg(), lower.svg()], lower.bottom + 24, caption=caption
    )


def _first_tokens(outcomes: Outcomes) -> list[tuple[float, float]]:
    return [(m.ask.at / SECONDS, ms) for m in outcomes.made if m.ask.band == SMALL and (ms := m.ttft_ms) is not None]


class Flow:
    """Watches steps: tokens that the engine computes, prompts and answers, by the second. What its cache held is not computed."""

    def __init__(self, engine: ContinuousEngine) -> None:
        self.tokens: dict[int, float] = {}
        self._engine = engine

    def sent(self, request: EngineRequest) -> None:
        """Nothing is computed yet."""

    def aborted(self, request_id: str) -> None:
        """What was computed stays computed."""

    def step(self, began: int, ended: int, events: Sequence[EngineEvent]) -> None:
        work = self._engine.last_work
        second = int(began / SECONDS)
        tokens = sum(chunk for chunk, _ in work.chunks) + work.decodes
        self.tokens[second] = self.tokens.get(second, 0.0) + tokens

    def per_s(self) -> list[tuple[float, float]]:
        """At the middle of each second."""
        return [(second + 0.5, self.tokens.get(second, 0.0)) for second in range(max(self.tokens, default=-1) + 1)]
