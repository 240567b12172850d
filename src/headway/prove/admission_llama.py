"""``headway prove admission --engine llama``: one giant prompt among small requests, on the local real engine, through the running product.

Arms take turns giant by giant, whichever is furthest from what it needs, so that other load on the machine meets all of them alike:
``alone`` (small requests only), ``fifo`` (admission off), ``headway`` (lanes, paced prefill at its default stall), and the curve, the same
at other stalls. A small request counts where it was sent between a giant's sending and the giant's first token. Quiet control: a giant
with nobody beside it is not to be paced.
"""

import asyncio
import random
import signal
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Final

import msgspec

from headway.kernel.figure import Proof
from headway.prove.admission_llama_figures import Measured, figures
from headway.prove.admission_llama_load import GIANT_OUTPUT_TOKENS, Shot, giant_text, shoot, window_alone, window_with
from headway.prove.admission_llama_stage import FIFO, PacedArm, Stage, stage
from headway.prove.watching import metrics

HEADWAY: Final = "headway"
GIANT_TOKENS: Final = 3_100
GIANTS_MIN: Final = 5
SMALL_MIN: Final = 300
ALONE_WINDOW_S: Final = 15.0
CURVE_STALLS_MS: Final = (60, 125, 500, 1_000)
CURVE_GIANTS: Final = 2
RUN_S_MAX: Final = 780.0
"""No new turn begins later; what was not measured enough by then is absent from the figures."""
WORDS_GUESS: Final = 3_000
FAILURES_MAX: Final = 20
"""Requests of one arm that may fail; then the run ends, and what was not measured is absent."""

Say = Callable[[str], None]


class Arm(msgspec.Struct, frozen=True, kw_only=True):
    """``small_min`` and ``giants_min`` are what it needs to be told of; ``later`` lets arms of the curve wait for the main ones."""

    name: str
    feature: str
    giants_min: int
    small_min: int
    stall_ms: float | None = None
    """Of a paced arm; None is the product's default."""
    later: float = 0.0

    def progress(self, measured: Measured) -> float:
        """From 0 to 1 and beyond: the part of what it needs that it has."""
        parts = [measured.small / self.small_min if self.small_min else 1.0]
        parts.append(measured.giants / self.giants_min if self.giants_min else 1.0)
        return min(parts)


ARMS: Final = (
    Arm(name="alone", feature=FIFO, giants_min=0, small_min=SMALL_MIN),
    Arm(name="fifo", feature=FIFO, giants_min=GIANTS_MIN, small_min=SMALL_MIN),
    Arm(name=HEADWAY, feature=HEADWAY, giants_min=GIANTS_MIN, small_min=SMALL_MIN),
)


def curve_arms() -> tuple[Arm, ...]:
    return tuple(
        Arm(name=f"stall_{ms:04d}", feature=f"stall_{ms:04d}", giants_min=CURVE_GIANTS, small_min=0, stall_ms=ms, later=0.4)
        for ms in CURVE_STALLS_MS
    )


def prove(seed: int, say: Say, *, arms: tuple[Arm, ...] | None = None, run_s_max: float = RUN_S_MAX) -> Proof:
    """Run it all; about twelve minutes. ModelError when the local model is not built, KeyboardInterrupt when it was told to stop."""
    try:
        return asyncio.run(_until_stopped(_prove(seed, say, arms or (*ARMS, *curve_arms()), run_s_max)))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


async def _until_stopped(work: Coroutine[None, None, Proof]) -> Proof:
    """A SIGTERM ends it as Ctrl-C does: what was started is stopped first."""
    task = asyncio.ensure_future(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


async def _prove(seed: int, say: Say, arms: tuple[Arm, ...], run_s_max: float) -> Proof:
    began = time.monotonic()
    rng = random.Random(seed)
    say("starting the local model and the product")
    paced = {arm.feature: PacedArm(name=arm.feature, stall_ms=arm.stall_ms) for arm in arms if arm.feature != FIFO}
    measured = {arm.name: Measured() for arm in arms}
    alarms = 0
    async with stage(tuple(paced.values())) as running:
        words = await _giant_words(running, rng)
        if HEADWAY in paced:
            say("quiet control: a giant with nobody beside it")
            alarms = await _quiet_control(running, measured[HEADWAY], rng, words)
        while time.monotonic() - began < run_s_max and (arm := next_turn(arms, measured)) is not None:
            say(_status(arms, measured, arm))
            await _turn(running, arm, measured[arm.name], rng, words)
            if measured[arm.name].failed > FAILURES_MAX:
                say(
                    f"{measured[arm.name].failed} requests of {arm.name} failed; the gateway said: {running.product.gateway.tail()}"
                )
                break
    return Proof(
        pillar="admission",
        engine="llama",
        seed=seed,
        figures=figures(measured, seed, {arm.name: (arm.giants_min, arm.small_min) for arm in arms}),
        control_alarms=alarms,
        took_s=round(time.monotonic() - began, 1),
    )


def next_turn(arms: Sequence[Arm], measured: Mapping[str, Measured]) -> Arm | None:
    """The arm furthest from what it needs; None when all have it."""
    left = [arm for arm in arms if arm.progress(measured[arm.name]) < 1]
    return min(left, key=lambda arm: arm.progress(measured[arm.name]) + arm.later, default=None)


async def _giant_words(running: Stage, rng: random.Random) -> int:
    """How many words make GIANT_TOKENS tokens."""
    return round(WORDS_GUESS * GIANT_TOKENS / await running.tokens(giant_text(rng, WORDS_GUESS)))


async def _quiet_control(running: Stage, measured: Measured, rng: random.Random, words: int) -> int:
    """Pieces that were sent although nobody waited and nobody had been there: false alarms of the pacing."""
    before = await _submitted(running)
    shot = await shoot(running.giant(HEADWAY), giant_text(rng, words), max_tokens=GIANT_OUTPUT_TOKENS)
    measured.quiet.append(shot)
    return await _submitted(running) - before - 1


async def _turn(running: Stage, arm: Arm, measured: Measured, rng: random.Random, words: int) -> None:
    """One window of ``arm``; everything that it sent has ended afterwards."""
    before = await _submitted(running)
    small = running.small(arm.feature)
    if arm.giants_min:
        giant = partial(_send_giant, running, arm.feature)
        seen = await window_with(small, rng, giant=giant, giant_words=words)
    else:
        seen = await window_alone(small, rng, alone_s=ALONE_WINDOW_S)
    measured.windows.append(seen)
    measured.pieces += await _submitted(running) - before - seen.calls


async def _send_giant(running: Stage, feature: str, text: str, told_first: Callable[[], None]) -> Shot:
    return await shoot(running.giant(feature), text, max_tokens=GIANT_OUTPUT_TOKENS, told_first=told_first)


async def _submitted(running: Stage) -> int:
    """Calls that the gateway has seen, its own sub-calls included."""
    return int((await metrics(running.product.url))["headway_calls_submitted_total"])


def _status(arms: Sequence[Arm], measured: Mapping[str, Measured], turn: Arm) -> str:
    """One line: how far everything is, and whose turn it is."""
    share = sum(min(1.0, arm.progress(measured[arm.name])) for arm in arms) / len(arms)
    parts = [f"{arm.name} {measured[arm.name].giants}+{measured[arm.name].small}" for arm in arms if measured[arm.name].windows]
    return f"{share:4.0%}  now {turn.name}; giants+small so far: {', '.join(parts) or 'none'}"
