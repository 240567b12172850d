"""``headway lab accuracy``: the simulated engine against measured ones (data folder, HEADWAY_DATA)."""

import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from headway.cli.lab import command
from headway.cli.trouble import Trouble
from headway.kernel.figure import Proof
from headway.lab.accuracy import FITTED, METRICS, RUNS, bounds, prove, replay
from headway.lab.engine.engine import ContinuousEngine
from headway.lab.engine.fitted import PRO6000_8B
from headway.lab.engine.model import EngineRequest, EngineSettings
from headway.lab.traces.measured import Request
from headway.lab.traces.mooncake import load_mooncake
from headway.lab.traces.reading import traces_folder

TRACES = traces_folder()
needs_data = pytest.mark.skipif(not TRACES.is_dir(), reason=f"no traces in {TRACES}; set HEADWAY_DATA")


@pytest.fixture(scope="module")
def proof() -> Proof:
    if not TRACES.is_dir():
        pytest.skip(f"no traces in {TRACES}; set HEADWAY_DATA")
    return prove(TRACES, seed=5)


def test_every_figure_that_is_asked_for_is_there(proof: Proof) -> None:
    wanted = {f"{run}.{metric}_{share}_error" for run in RUNS for metric in METRICS for share in ("p50", "p99")}
    wanted |= {f"{run}.{name}" for run in RUNS for name in ("max_running_error", "preemptions", "fitted")}
    assert set(RUNS) == {"4090_8b", "pro6000_8b", "pro6000_30b"}
    assert set(proof.figures) == wanted


def test_exactly_one_run_is_fitted(proof: Proof) -> None:
    assert [run for run in RUNS if proof.figures[f"{run}.fitted"].value == 1] == [FITTED]
    assert {proof.figures[f"{run}.fitted"].value for run in RUNS} == {0, 1}


def test_bounds_are_those_that_were_asked_for() -> None:
    told = bounds()
    assert told["4090_8b.tpot_p50_error"] == told["pro6000_8b.tpot_p99_error"] == 0.08
    assert told["4090_8b.e2e_p99_error"] == told["pro6000_8b.e2e_p50_error"] == 0.09
    assert told["pro6000_8b.ttft_p50_error"] == told["pro6000_30b.ttft_p99_error"] == 0.08
    assert told["pro6000_30b.ttft_p50_error"] == 0.25
    assert (told["pro6000_30b.tpot_p50_error"], told["pro6000_30b.tpot_p99_error"], told["pro6000_30b.e2e_p99_error"]) == (
        0.03,
        0.05,
        0.05,
    )
    assert {told[f"{run}.max_running_error"] for run in RUNS} == {2}


def test_all_bounds_hold(proof: Proof) -> None:
    missed = {name: proof.figures[name].method for name, most in bounds().items() if proof.figures[name].value > most}
    assert missed == {}


def test_errors_have_intervals_and_say_what_was_compared(proof: Proof) -> None:
    for name, figure in proof.figures.items():
        if name.endswith(("p50_error", "p99_error")):
            assert 0 <= figure.low <= figure.high
            assert figure.n in (299, 300)
            assert "against measured" in figure.method
            assert ("fitted here" in figure.method) == name.startswith(FITTED)


def request(id: str, arrived_s: float, output: int) -> Request:
    return Request(
        id=id,
        prompt_tokens=10,
        output_tokens=output,
        arrived_s=arrived_s,
        queued_s=0,
        scheduled_s=0,
        first_token_s=0,
        last_token_s=0,
    )


class TenMs:
    name = "ten"

    def step_ms(self, work) -> float:
        return 10.0


def test_a_request_counts_from_the_step_that_takes_note_of_it() -> None:
    """The second comes in the middle of the first's second step; the third when the engine is idle again."""
    requests = [request("a", 0, 3), request("b", 0.015, 1), request("c", 5.0, 2)]
    told = replay(requests, ContinuousEngine(EngineSettings(), TenMs()))
    assert told.ttft == pytest.approx([0.01, 0.01, 0.01])
    assert told.e2e == pytest.approx([0.03, 0.01, 0.02])
    assert told.tpot == pytest.approx([10.0, None, 10.0])
    assert (told.running_max, told.preemptions) == (1, 0)


def test_the_command_prints_figures_and_the_seed_moves_their_intervals_only(proof: Proof) -> None:
    told = CliRunner().invoke(command, ["accuracy", "--json", "--seed", "6"])
    assert told.exit_code == 0, told.output
    printed = msgspec.json.decode(told.stdout)
    assert (printed["pillar"], printed["engine"], printed["seed"], printed["control_alarms"]) == ("accuracy", "lab", 6, 0)
    assert printed["took_s"] > 0
    assert {name: figure["value"] for name, figure in printed["figures"].items()} == {n: f.value for n, f in proof.figures.items()}
    assert printed["figures"]["4090_8b.tpot_p50_error"]["high"] != proof.figures["4090_8b.tpot_p50_error"].high


def test_the_table_shows_bounds_and_one_that_does_not_hold_is_status_1(proof: Proof, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a seed given twice is twice the same: the intervals too."""
    again: list[Proof] = []

    def kept(*given: Any, **named: Any) -> Proof:
        again.append(prove(*given, **named))
        return again[0]

    monkeypatch.setattr("headway.lab.accuracy.prove", kept)
    monkeypatch.setattr("headway.lab.accuracy.bounds", lambda: {"4090_8b.e2e_p50_error": 1e-6, "pro6000_30b.ttft_p50_error": 0.25})
    told = CliRunner().invoke(command, ["accuracy", "--seed", "5"])
    assert told.exit_code == 1
    assert "FAILS" in told.output
    assert "pro6000_30b.ttft_p50_error" in told.output
    assert "<= 0.25" in told.output
    assert msgspec.json.encode(again[0].figures) == msgspec.json.encode(proof.figures)


def test_without_the_measurements_the_status_is_3_and_a_broken_one_2(tmp_path: Path) -> None:
    told = CliRunner().invoke(command, ["accuracy", "--data", str(tmp_path)], standalone_mode=False)
    assert isinstance(told.exception, Trouble)
    assert told.exception.exit_code == 3
    assert "vllm_measured__RTX4090" in told.exception.why
    folder = tmp_path / "traces" / "calibration" / "llmservingsim"
    folder.mkdir(parents=True)
    (folder / "vllm_measured__RTX4090_Llama-3.1-8B__requests.jsonl.gz").write_bytes(b"no gzip")
    told = CliRunner().invoke(command, ["accuracy", "--data", str(tmp_path)], standalone_mode=False)
    assert told.exception.exit_code == 2


def test_300_requests_take_under_two_seconds() -> None:
    """Of this process' own time, so that a busy machine says nothing."""
    began = time.process_time()
    replay([request(f"r{i}", i / 10, 450) for i in range(300)], ContinuousEngine(EngineSettings(), PRO6000_8B))
    assert time.process_time() - began < 2


@needs_data
def test_an_hour_of_mooncake_takes_under_two_minutes() -> None:
    """12,031 requests, 4.1 million output tokens."""
    began = time.process_time()
    calls = load_mooncake(TRACES, spread_seed=1)
    built, now, place = ContinuousEngine(EngineSettings(block_tokens=512, kv_blocks=4_000), PRO6000_8B), 0, 0
    while place < len(calls) or built.busy:
        if not built.busy:
            now = max(now, calls[place].at_ns)
        while place < len(calls) and calls[place].at_ns <= now:
            call = calls[place]
            built.submit(
                EngineRequest(
                    id=str(place), prompt_tokens=call.prompt_tokens, output_tokens=call.output_tokens, blocks=call.blocks
                ),
                now,
            )
            place += 1
        now, _ = built.step(now)
    assert built.scheduler.tokens_produced == sum(call.output_tokens for call in calls)
    assert time.process_time() - began < 120
