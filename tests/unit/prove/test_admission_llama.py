"""The proof on the real engine in small: one giant an arm through the running product. Minutes; figures of a busy machine are not judged."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from headway.kernel.figure import Proof
from headway.lab.model_build import model_folder
from headway.prove import admission_llama

needs_model = pytest.mark.skipif(not model_folder().ready(), reason="the local model is not built: make model")


def small_run(say: list[str]) -> Proof:
    arms = tuple(
        msgspec.structs.replace(arm, giants_min=min(1, arm.giants_min), small_min=min(10, arm.small_min))
        for arm in admission_llama.ARMS
    )
    return admission_llama.prove(3, say.append, arms=arms)


@pytest.mark.llama
@pytest.mark.slow
@needs_model
def test_a_giant_is_paced_and_the_small_ones_get_through_sooner() -> None:
    told: list[str] = []
    proof = small_run(told)
    figures = {name: figure.value for name, figure in proof.figures.items()}
    assert figures["one_giant.headway.pieces_per_giant"] > 5
    assert figures["one_giant.fifo.pieces_per_giant"] == 0
    assert proof.control_alarms == 0
    assert all(figures[f"one_giant.{arm}.failed"] == 0 for arm in ("alone", "fifo", "headway"))
    assert 2_800 < figures["one_giant.headway.giant_prompt"] < 3_400
    assert figures["one_giant.headway_over_fifo.small_ttft_p50"] < 0.5
    assert any("now headway" in line for line in told)


def test_without_the_model_it_says_what_to_do(tmp_path: Path) -> None:
    words = [str(Path(sys.executable).with_name("headway")), "prove", "admission", "--engine", "llama", "--json"]
    env = {**os.environ, "HEADWAY_MODEL_DIR": str(tmp_path)}
    ran = subprocess.run(words, env=env, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 3, ran.stderr
    assert "make model" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not ran.stdout
