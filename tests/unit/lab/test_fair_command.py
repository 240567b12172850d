"""``headway lab fair`` says what is missing, and where."""

from pathlib import Path

from click.testing import CliRunner

from headway.cli.root import headway


def test_measured_runs_that_are_not_here_end_with_status_3(tmp_path: Path) -> None:
    done = CliRunner().invoke(headway, ["lab", "fair", "--data", str(tmp_path)])
    assert done.exit_code == 3
    assert "vtc_measured_runs.csv.gz" in done.output
    assert "HEADWAY_DATA" in done.output


def test_it_is_told_of_in_the_help_of_lab() -> None:
    assert "fair" in CliRunner().invoke(headway, ["lab", "--help"]).output
