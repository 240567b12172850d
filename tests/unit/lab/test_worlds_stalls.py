"""The victim x aggressor matrix of the lab is the time that steps would not have taken without the aggressor's prefill."""

import pytest

from headway.lab.engine.engine import ContinuousEngine
from headway.lab.engine.fit import FitStepTime
from headway.lab.engine.model import EngineSettings
from headway.lab.worlds.driver import drive
from headway.lab.worlds.giants import GIANT, SMALL, GiantsWorld
from headway.lab.worlds.model import Ask
from headway.lab.worlds.stalls import Stalls

LINEAR = FitStepTime(
    name="linear", source="a test", floor_ms=0.0, base_ms=10.0, token_ms=0.1, pair_ms=0.0, context_ms=0.0, decode_ms=0.0
)


def _ask(call: str, prompt: int, output: int, at_ms: float = 0.0) -> Ask:
    return Ask(call=call, at=int(at_ms * 1e6), tenant=call, band=call, prompt_tokens=prompt, output_tokens=output)


def test_a_decode_beside_a_prefill_loses_what_the_prefill_costs() -> None:
    # a decodes from 11 ms on; b's 1,000 tokens make one step of 10 + 100.1 instead of 10.1.
    engine = ContinuousEngine(EngineSettings(), LINEAR)
    stalls = Stalls(engine, str)
    drive([_ask("a", 10, 20), _ask("b", 1_000, 1, at_ms=15)], engine, hop_ms=0.0, watcher=stalls)
    assert stalls.stall_ms == {("a", "b"): pytest.approx(100.0)}


def test_one_that_waits_for_a_place_loses_the_whole_step_of_others_prefill() -> None:
    # Two chunks of 100 of a fill the step; b waits in both, and its own prefill stalls nobody.
    engine = ContinuousEngine(EngineSettings(step_tokens_max=100, sequences_max=10), LINEAR)
    stalls = Stalls(engine, str)
    drive([_ask("a", 200, 1), _ask("b", 50, 1)], engine, hop_ms=0.0, watcher=stalls)
    assert stalls.stall_ms == {("b", "a"): pytest.approx(40.0)}


def test_a_call_does_not_stall_itself_but_its_likes() -> None:
    engine = ContinuousEngine(EngineSettings(), LINEAR)
    stalls = Stalls(engine, lambda _: "all")
    drive([_ask("a", 100, 1), _ask("b", 100, 1)], engine, hop_ms=0.0, watcher=stalls)
    # One step of 10 + 20: nothing is left without both, and one of the two is the other's victim.
    assert stalls.stall_ms == {("all", "all"): pytest.approx(30.0)}


def test_among_giants_the_small_are_the_victims() -> None:
    world = GiantsWorld(giants=2, load_s=10.0, giants_at_s=3.0)
    asks = world.asks(7)
    engine = ContinuousEngine(EngineSettings(), LINEAR)
    stalls = Stalls(engine, {ask.call: ask.band for ask in asks}.__getitem__)
    drive(asks, engine, watcher=stalls)
    assert stalls.stall_ms[(SMALL, GIANT)] > 10 * stalls.stall_ms[(GIANT, SMALL)]
