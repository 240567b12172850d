"""Replay: traffic is found by name, file or path; scaled and cut as asked; told by part as table, JSON and chart."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest

from headway.cli import root
from headway.lab.engine.fit import FitStepTime
from headway.lab.engine.model import EngineSettings
from headway.lab.replay import POLICIES, Alone, Replayed, replay
from headway.lab.replay_report import Told, as_json, chart, rows, totals
from headway.lab.replay_traffic import UnknownTrace, asks, block_tokens_of, load
from headway.lab.traces.calls import TraceCall
from headway.lab.traces.reading import TraceError
from headway.lab.worlds.model import Ask

TRACES = Path(os.environ.get("HEADWAY_DATA", Path(__file__).resolve().parents[4] / "shared" / "data")) / "traces"
needs_data = pytest.mark.skipif(not TRACES.exists(), reason=f"the traffic files are not in {TRACES}; set HEADWAY_DATA")
FIT = FitStepTime(
    name="fit", source="a test", floor_ms=10.0, base_ms=10.0, token_ms=0.05, pair_ms=0.0, context_ms=0.0, decode_ms=0.0
)
SETTINGS = EngineSettings(sequences_max=4, step_tokens_max=256)
OWN = "arrival_s,tenant,prompt_tokens,output_tokens\n0.5,b,300,5\n0.0,a,40,10\n"


def _asks(count: int = 60) -> list[Ask]:
    """Tenant a sends short ones, b three times as many that are longer."""
    calls = [
        TraceCall(at_ns=n * 5_000_000, tenant="a" if n % 4 == 0 else "b", prompt_tokens=30 if n % 4 == 0 else 600, output_tokens=8)
        for n in range(count)
    ]
    return asks(calls)


def _replays() -> tuple[Replayed, ...]:
    return tuple(replay(_asks(), name, FIT, SETTINGS, tenants=1) for name in ("fcfs", "fair"))


def test_one_s_own_traffic_is_a_csv_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(OWN)
    name, calls = load(str(path), tmp_path, seed=1)
    assert name == "mine.csv"
    assert [(c.tenant, c.at_ns, c.prompt_tokens) for c in calls] == [("a", 0, 40), ("b", 500_000_000, 300)]


def test_a_bad_row_is_named_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(OWN + "0.7,c,-4,5\n")
    with pytest.raises(TraceError, match=r"mine\.csv, line 4: prompt_tokens is -4"):
        load(str(path), tmp_path, seed=1)


def test_what_is_neither_trace_nor_file_says_what_there_is() -> None:
    with pytest.raises(UnknownTrace, match="azure_code, azure_conv"):
        load("azur", Path("/nowhere"), seed=1)


def test_scale_shrinks_gaps_and_limit_takes_the_first() -> None:
    calls = [TraceCall(at_ns=(n + 3) * 10**9, prompt_tokens=10, output_tokens=1) for n in range(5)]
    assert [a.at for a in asks(calls, scale=2.0, limit=3)] == [0, 500_000_000, 10**9]
    assert {a.tenant for a in asks(calls)} == {"all"}


def test_blocks_of_a_trace_are_whole_and_decide_the_engine_s() -> None:
    call = TraceCall(at_ns=0, prompt_tokens=1_300, output_tokens=1, blocks=(7, 8, 9), block_tokens=512)
    assert asks([call])[0].blocks == (7, 8)
    assert block_tokens_of([call], 16) == 512
    assert block_tokens_of([], 16) == 16


def test_every_policy_answers_every_call_and_fair_helps_the_light_tenant() -> None:
    p99 = {}
    for name in POLICIES:
        done = replay(_asks(), name, FIT, SETTINGS)
        by = {(row.kind, row.name): row for row in done.rows}
        assert by[("all", "all")].done == 60
        assert by[("tenant", "a")].calls + by[("tenant", "b")].calls == 60
        assert by[("prompt", "short")].calls == 15
        p99[name] = by[("tenant", "a")].ttft_ms.p99
    assert p99["fair"] < 0.7 * p99["fcfs"]


def test_a_call_alone_has_a_slowdown_of_one() -> None:
    ask = Ask(call="a", at=0, tenant="a", band="", prompt_tokens=600, output_tokens=8)
    alone = Alone(FIT, SETTINGS).e2e_ms(ask)
    assert alone == pytest.approx(3 * 10 + 600 * 0.05 + 7 * 10.05)
    row = replay([ask], "straight", FIT, SETTINGS).rows[0]
    assert row.slowdown.p50 == pytest.approx(1.0, abs=0.02)  # but for the hop


def test_a_replay_is_told_by_part_as_rows_json_and_chart() -> None:
    told = Told(trace="a <b>", engine="fit", scale=1.0, calls=60, seed=1, replays=_replays())
    lines = rows(told)
    assert [line[:2] for line in lines[:2]] == [("all calls", "fcfs"), ("all calls", "fair")]
    assert lines[-1][0] == "1 other tenants"
    assert len(totals(told)) == 2
    assert msgspec.json.decode(msgspec.json.encode(as_json(told)))["replays"][0]["rows"][0]["calls"] == 60
    words = " ".join(ElementTree.fromstring(chart(told)).itertext())
    assert "tenant b" in words
    assert "Replay of a <b>" in words


def test_the_same_seed_tells_the_same() -> None:
    assert _replays() == _replays()


@needs_data
def test_known_files_are_found_by_their_name() -> None:
    name, calls = load("vtc_arena_27clients.csv.gz", TRACES, seed=1)
    assert (name, len(calls)) == ("arena", 1_500)


@needs_data
def test_the_command_compares_policies_and_writes_a_chart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    svg = tmp_path / "chart.svg"
    words = ["lab", "replay", "arena", "--limit", "20", "--policy", "fcfs,fair", "--data", str(TRACES.parent), "--svg", str(svg)]
    assert root.run(words) == 0
    out = capsys.readouterr().out
    assert "20 calls of arena at 1 times their rate" in out
    assert ElementTree.parse(svg).getroot().tag.endswith("svg")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["arena", "--policy", "fiar"], "--policy fair"),
        (["arena", "--engine", "pro600_8b"], "--engine pro6000_8b"),
        (["nothing_such"], "there is nothing to replay"),
        (["arena", "--data", "/nowhere"], "the trace is not here"),
    ],
)
def test_what_cannot_be_replayed_is_told_in_three_lines(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert root.run(["lab", "replay", *words]) in (2, 3)
    assert told in capsys.readouterr().err


def test_ctrl_c_ends_a_replay_and_its_processes_at_once(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("arrival_s,tenant,prompt_tokens,output_tokens\n" + "".join(f"{n / 50},t,200,400\n" for n in range(20_000)))
    words = [sys.executable, "-m", "headway", "lab", "replay", str(path), "--data", str(tmp_path)]
    # A parent that ignores Ctrl-C, as one in the background does, hands that down.
    with subprocess.Popen(
        words,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_heeds_ctrl_c,
    ) as process:
        assert process.stderr is not None
        assert b"fcfs" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(15) == 130
        deadline = time.monotonic() + 10
        while (left := _of_session(process.pid)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert left == []


def _heeds_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _of_session(session: int) -> list[int]:
    """Processes that still run in ``session``; those that only wait to be reaped do not."""
    found = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, its_session = place.read_text().rpartition(") ")[2].split()[:4]
        except OSError:
            continue  # it ended meanwhile
        if int(its_session) == session and state != "Z":
            found.append(int(place.parent.name))
    return found
