"""Known answers of the measured runs (data folder, HEADWAY_DATA), and the figures that are checked from outside."""

import gzip
from pathlib import Path

import pytest

from headway.lab.fair import figures
from headway.lab.fair.compare import Comparison, compare
from headway.lab.fair.figures import told
from headway.lab.fair.measured import COLUMNS, FILE, Run, load_runs
from headway.lab.fair.measures import seen, service_gap
from headway.lab.fair.table import HEAD, RATIO_HEAD, notes, ratio_rows, rows
from headway.lab.fair.workloads import SHORT_LONG, SIX, Workload, names_of
from headway.lab.traces.reading import TraceError, TraceMissing, traces_folder

TRACES = traces_folder()
needs_data = pytest.mark.skipif(not (TRACES / FILE).exists(), reason=f"{TRACES / FILE} is not here: set HEADWAY_DATA")
KNOWN = {  # light p50, p99 under FCFS; under VTC; heavy p50, p99 under VTC: README of the data folder, known answer 9
    "on_off_less": (84.7, 173.6, 2.68, 8.34, 110.6, 181.1),
    "proportional": (96.1, 196.0, 4.65, 10.38, 145.3, 202.5),
    "increase": (0.43, 48.0, 0.26, 0.71, 3.30, 50.1),
    "on_off_overload": (374, 748, 75.8, 152.9, 568, 787),
    "overload": (290, 576, 124, 250, 430, 554),
    "arena": (66.9, 137.6, 1.51, 21.7, 25.8, 216.3),
}
GAPS = {"FCFS.overload": 157_458, "VTC.overload": 7_858, "FCFS.poisson_short_long": 221_880, "VTC.poisson_short_long": 18_726}


@pytest.fixture(scope="module")
def runs() -> dict[str, Run]:
    return load_runs(TRACES, [name for workload in (*SIX, SHORT_LONG) for name in names_of(workload)])


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    """The exact replays alone: about seven seconds."""
    return compare(TRACES, 1, jittered=0)


@needs_data
@pytest.mark.parametrize("workload", SIX, ids=lambda workload: workload.name)
def test_measured_waits_are_those_of_the_data_folder(workload: Workload, runs: dict[str, Run]) -> None:
    fcfs, vtc = (runs[name].until(workload.until_s) for name in names_of(workload))
    light, heavy = workload.sides(fcfs)
    first, second = (seen(run, run.first_s, run.end_s, light, heavy) for run in (fcfs, vtc))
    found = (
        first.light_p50_s,
        first.light_p99_s,
        second.light_p50_s,
        second.light_p99_s,
        second.heavy_p50_s,
        second.heavy_p99_s,
    )
    assert found == pytest.approx(KNOWN[workload.name], rel=0.012)
    assert (fcfs.arrival_s == vtc.arrival_s).all()
    assert (fcfs.output == vtc.output).all()


@needs_data
def test_measured_gaps_of_service_are_those_of_the_data_folder(runs: dict[str, Run]) -> None:
    for name, gap in GAPS.items():
        run = runs[name].until(360.4 if name.endswith(".overload") else float("inf"))
        assert round(service_gap(run, run.first_s, run.end_s)) == gap


@needs_data
def test_figures_that_are_wanted_are_there_and_hold(comparison: Comparison) -> None:
    found = told(comparison)
    for workload in SIX:
        assert found[f"fair.{workload.name}.light_ttft_p99_over_vtc"].value == pytest.approx(1.0, abs=1e-9)
        heavy = found[f"fair.{workload.name}.heavy_ttft_p99_over_vtc"].value
        assert heavy is not None
        assert heavy <= 1.05
        error = found[f"fair.{workload.name}.vtc_over_fcfs_error"].value
        assert error is not None
        assert error <= 0.30
        throughput = found[f"fair.{workload.name}.tokens_per_s_over_fcfs"].value
        assert throughput is not None
        assert throughput >= 0.99
        for arm in ("fcfs", "vtc", "ours"):
            assert found[f"fair.{workload.name}.{arm}_light_ttft_p99_s"].unit == "s"
    assert found["fair.ranking_matches"].value == 6
    assert found["fair.arena.light_ttft_p99_over_vtc"].n == 301
    assert found["fair.overload.vtc_over_fcfs_error"].n == 540


@needs_data
def test_step_times_are_fitted_on_first_come_first_served_alone(comparison: Comparison) -> None:
    assert "VTC" not in comparison.time.source
    assert comparison.time.rms_error < 0.01
    assert comparison.time.decode_step_ms(7_000) == pytest.approx(40, abs=2)


@needs_data
def test_absolute_waits_under_fcfs_and_throughput_are_near_what_was_measured(comparison: Comparison) -> None:
    for compared in comparison.compared[:6]:
        measured, simulated = compared.measured["fcfs"], compared.simulated["fcfs"][0]
        assert simulated.light_p99_s == pytest.approx(measured.light_p99_s, rel=0.10)
        assert simulated.tokens_per_s == pytest.approx(measured.tokens_per_s, rel=0.03)


@needs_data
def test_fair_orders_favour_few_long_requests_over_many_short_ones(comparison: Comparison) -> None:
    found = told(comparison)
    ours, fcfs = (
        {side: found[f"fair.poisson_short_long.{arm}_{side}_ttft_p99_s"].value for side in ("long", "short")}
        for arm in ("ours", "fcfs")
    )
    assert ours["long"] < fcfs["long"]  # type: ignore[operator]
    assert ours["short"] > fcfs["short"]  # type: ignore[operator]


@needs_data
def test_tables_have_a_cell_for_each_heading(comparison: Comparison) -> None:
    assert all(len(row) == len(HEAD) for row in rows(comparison))
    assert [row[0] for row in ratio_rows(comparison)] == [workload.name for workload in SIX]
    assert all(len(row) == len(RATIO_HEAD) for row in ratio_rows(comparison))
    assert any("arena" in line for line in notes(comparison))


def test_measurements_that_are_not_here_name_the_variable(tmp_path: Path) -> None:
    with pytest.raises(TraceMissing, match="HEADWAY_DATA"):
        figures(1, tmp_path)


def written(folder: Path, *lines: str) -> Path:
    path = folder / FILE
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.compress("\n".join((",".join(COLUMNS), *lines)).encode()))
    return folder


def test_a_bad_cell_is_named_with_its_line(tmp_path: Path) -> None:
    traces = written(tmp_path, "FCFS.x,0,1.0,256,256,0.5,9.0", "FCFS.x,0,soon,256,256,0.5,9.0")
    with pytest.raises(TraceError, match="line 3: arrival_s is 'soon'"):
        load_runs(traces, ["FCFS.x"])


def test_a_refused_request_makes_no_run(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="ttft_s"):
        load_runs(written(tmp_path, "LShare.x,0,1.0,256,256,-1,-1"), ["LShare.x"])


def test_a_run_that_is_absent_is_named(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"no run VTC\.x"):
        load_runs(written(tmp_path, "FCFS.x,0,1.0,256,256,0.5,9.0"), ["FCFS.x", "VTC.x"])


def test_rows_are_read_as_they_stand_in_order_of_arrival(tmp_path: Path) -> None:
    (run,) = load_runs(
        written(tmp_path, "FCFS.x,3,2.0,256,10,0.5,9.0", "OTHER,0,0,1,1,0,0", "FCFS.x,1,1.0,40,20,0.25,4.0"), ["FCFS.x"]
    ).values()
    assert list(run.client) == [1, 3]
    assert list(run.first_s) == [1.25, 2.5]
    assert list(run.end_s) == [5.0, 11.0]
    assert list(run.prompt + run.output) == [60, 266]
    assert len(run.until(1.5)) == 1
