"""The load of the proof on a real engine, against the simulated engine on a socket; and figures from known windows."""

import asyncio
import random

import pytest

from headway.kernel.limits import LAB_ENGINE_WAITING_MAX
from headway.lab.engine.fit import FitStepTime
from headway.lab.engine.model import EngineSettings
from headway.lab.engine_http import EngineServer, listening
from headway.lab.engine_http_profiles import EngineProfile
from headway.prove.admission_llama import ARMS, Arm, curve_arms, next_turn
from headway.prove.admission_llama_figures import Measured, figures
from headway.prove.admission_llama_load import (
    CALL_S_MAX,
    Beat,
    Endpoint,
    Shot,
    Window,
    giant_text,
    shoot,
    small_text,
    window_alone,
    window_with,
)

BEAT = Beat(every_s=0.05, lead_in_s=0.2)


def engine(*, token_ms: float = 0.1, waiting_max: int = LAB_ENGINE_WAITING_MAX, sequences_max: int = 64) -> EngineServer:
    time = FitStepTime(
        name="test", source="test", floor_ms=1.0, base_ms=1.0, token_ms=token_ms, pair_ms=0, context_ms=0, decode_ms=0
    )
    profile = EngineProfile(
        name="m", about="", settings=EngineSettings(sequences_max=sequences_max), time=time, context_tokens_max=20_000
    )
    return EngineServer(profile, waiting_max=waiting_max)


async def test_a_shot_times_the_first_token_and_reads_the_usage():
    async with listening(engine(token_ms=0.2)) as url:
        to = Endpoint(url=url, key="k", model="m")
        firsts: list[bool] = []
        shot = await shoot(to, "word " * 1_000, max_tokens=3, told_first=lambda: firsts.append(True))
        again = await shoot(to, "word " * 1_000, max_tokens=3)
        wrong = await shoot(Endpoint(url=url, key="k", model="other"), "x", max_tokens=1)
    assert shot.well
    assert 0.2 < shot.ttft_s < shot.took_s
    assert firsts == [True]
    assert 1_200 < shot.prompt_tokens < 1_300
    assert again.cached_tokens > 1_200 > shot.cached_tokens
    assert (wrong.well, wrong.status, wrong.ttft_s) == (False, 404, None)


async def test_nobody_there_is_a_failed_shot_and_no_error():
    shot = await shoot(Endpoint(url="http://127.0.0.1:9", key="k", model="m"), "x", max_tokens=1)
    assert (shot.well, shot.status) == (False, 0)


async def test_a_window_counts_small_requests_between_the_giant_and_its_first_token():
    server = engine(token_ms=0.1)
    async with listening(server) as url:
        to = Endpoint(url=url, key="k", model="m")

        async def giant(text, told_first):
            return await shoot(to, text, max_tokens=2, told_first=told_first)

        seen = await window_with(to, random.Random(1), giant=giant, giant_words=5_000, beat=BEAT)
        assert not server.engine.busy, "everything has ended"
    assert seen.giant.well
    assert seen.giant.ttft_s > 0.5
    begun, first = seen.giant.sent_s, seen.giant.sent_s + seen.giant.ttft_s
    assert all(begun - 0.02 <= shot.sent_s <= first + 0.02 for shot in seen.small)
    assert abs(len(seen.small) - seen.giant.ttft_s / BEAT.every_s) <= 2
    assert seen.calls == sum(server.metrics.ended.values())
    assert seen.calls - len(seen.small) - 1 >= BEAT.lead_in_s / BEAT.every_s, "the lead-in was sent and not counted"
    late = [shot for shot in seen.small if shot.ttft_s > 0.1]
    assert late, "they met the giant's step"


async def test_the_beat_goes_on_while_answers_are_outstanding():
    async with listening(engine(token_ms=8.0, sequences_max=1)) as url:
        to = Endpoint(url=url, key="k", model="m")
        seen = await window_alone(to, random.Random(1), alone_s=0.5, beat=BEAT)
    assert 8 <= len(seen.small) <= 12
    assert max(shot.ttft_s for shot in seen.small) > 0.5


def test_no_two_texts_begin_alike():
    rng = random.Random(1)
    assert len({small_text(rng)[:8] for _ in range(200)}) > 195
    assert len({giant_text(rng, 10)[:10] for _ in range(50)}) == 50
    assert giant_text(random.Random(7), 20) == giant_text(random.Random(7), 20)


# --- figures ---


def shots(*ttft_s: float | None) -> tuple[Shot, ...]:
    return tuple(Shot(sent_s=0, ttft_s=t, took_s=1, status=200 if t is not None else 503, prompt_tokens=3_100) for t in ttft_s)


def measured(small: tuple[Shot, ...], giant: float | None = None, *, times: int = 1) -> Measured:
    made = Measured()
    for _ in range(times):
        giants = shots(giant) if giant is not None else ()
        made.windows.append(Window(giant=giants[0] if giants else None, small=small, calls=len(small) + len(giants)))
    return made


WANTED = {"alone": (0, 20), "fifo": (2, 20), "headway": (2, 20)}


def test_figures_are_quantiles_of_pooled_windows_and_ratios_of_arms():
    slow = tuple(float(i) for i in range(1, 21))
    told = figures(
        {
            "alone": measured(shots(*[0.1] * 20)),
            "fifo": measured(shots(*slow), 20.0, times=2),
            "headway": measured(shots(*[t / 20 for t in slow]), 30.0, times=2),
        },
        1,
        WANTED,
    )
    assert told["one_giant.fifo.small_ttft_p95"].value == 19.0
    assert told["one_giant.fifo.small_ttft_p95"].n == 40
    assert told["one_giant.headway_over_fifo.small_ttft_p95"].value == 0.05
    assert told["one_giant.headway_over_fifo.giant_ttft"].value == 1.5
    assert told["one_giant.headway_over_fifo.giant_ttft"].n == 2
    assert told["one_giant.headway_over_alone.small_ttft_p50"].value == 5.0
    assert told["one_giant.fifo.giant_prompt"].value == 3_100
    assert told["one_giant.headway.failed"].value == 0


def test_what_was_not_measured_enough_is_absent():
    told = figures({"fifo": measured(shots(*[1.0] * 20), 20.0), "headway": measured(shots(*[1.0] * 30), 20.0, times=2)}, 1, WANTED)
    assert not any("fifo.small" in name or "over_fifo" in name for name in told)
    assert "one_giant.headway.small_ttft_p95" in told


def test_a_small_request_that_failed_is_not_left_out_of_its_quantile():
    one = measured(shots(*[0.1] * 18, None, None, None), 20.0, times=2)
    told = figures({"headway": one}, 1, WANTED)
    assert told["one_giant.headway.small_ttft_p95"].value == CALL_S_MAX
    assert told["one_giant.headway.small_ttft_p50"].value == 0.1
    assert told["one_giant.headway.failed"].value == 6


def test_a_window_whose_giant_failed_gives_nothing_but_its_failure():
    one = measured(shots(*[0.1] * 20), 20.0, times=2)
    one.windows.append(Window(giant=shots(None)[0], small=shots(*[9.0] * 20), calls=21))
    told = figures({"headway": one}, 1, WANTED)
    assert told["one_giant.headway.small_ttft_p99"].value == 0.1
    assert told["one_giant.headway.failed"].value == 1


def test_intervals_widen_with_what_differs_between_windows():
    apart = measured(shots(*[0.1] * 20), 20.0)
    apart.windows += measured(shots(*[0.9] * 20), 30.0).windows
    figure = figures({"headway": apart}, 1, WANTED)["one_giant.headway.giant_ttft"]
    assert (figure.low, figure.value, figure.high) == (20.0, 25.0, 30.0)


# --- turns ---


def test_arms_take_turns_by_what_they_still_need():
    arms = (*ARMS, *curve_arms())
    made = {arm.name: Measured() for arm in arms}
    turns: list[str] = []
    while (arm := next_turn(arms, made)) is not None:
        turns.append(arm.name)
        small = {"alone": 30, "fifo": 34}.get(arm.name, 70)
        made[arm.name].windows += measured(shots(*[0.1] * small), 20.0 if arm.giants_min else None).windows
    assert {name: turns.count(name) for name in ("alone", "fifo", "headway")} == {"alone": 10, "fifo": 9, "headway": 5}
    assert all(turns.count(arm.name) == arm.giants_min for arm in curve_arms())
    first_half = turns[: len(turns) // 2]
    assert {"alone", "fifo", "headway"} <= set(first_half[:3])
    assert 2 <= first_half.count("headway") <= 3, "arms stay abreast of each other"


@pytest.mark.parametrize(("small_min", "giants_min", "expected"), [(10, 0, 0.5), (0, 2, 0.5), (10, 1, 0.5), (5, 1, 1.0)])
def test_progress_is_that_of_the_scarcer(small_min, giants_min, expected):
    arm = Arm(name="a", feature="a", giants_min=giants_min, small_min=small_min)
    assert arm.progress(measured(shots(*[0.1] * 5), 9.0)) == expected


async def test_a_load_that_is_cancelled_leaves_nothing_behind():
    server = engine(token_ms=50.0)
    async with listening(server) as url:
        to = Endpoint(url=url, key="k", model="m")
        task = asyncio.create_task(window_alone(to, random.Random(1), alone_s=30, beat=BEAT))
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.1)
        assert len(asyncio.all_tasks()) <= 2
        assert not server.engine.waiting
