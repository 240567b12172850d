"""The proof of hops on the shared traces (data folder, HEADWAY_DATA), and what it says without them."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from headway.cli.prove import command
from headway.lab.traces.ops import ops_folder
from headway.prove.hops import WANTED, prove
from headway.prove.report import NotMeasurable, Wanted, exit_code

FOLDER = ops_folder()


def test_without_traces_it_cannot_be_measured(tmp_path: Path) -> None:
    with pytest.raises(NotMeasurable, match="nezha"):
        prove(1, data=str(tmp_path), say=lambda text: None)


def test_a_bound_may_have_two_sides() -> None:
    both = Wanted(at_least=1, at_most=2)
    assert [both.holds(value) for value in (0.9, 1, 2, 2.1, None)] == [False, True, True, False, False]
    assert both.text == "1 to 2"


@pytest.mark.slow
@pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no traces in {FOLDER}; set HEADWAY_DATA")
def test_the_proof_holds() -> None:
    proof = prove(7, data=None, say=lambda text: None)
    assert exit_code(proof, WANTED) == 0
    assert proof.figures["spans"].value == 789_336 + 134 + 57
    assert proof.figures["nezha.ours.top1"].n >= 15
    assert round(proof.figures["trainticket.auth_halved.p50_saved_ms"].value or 0) == 27
    assert round(proof.figures["trainticket.order_halved.p50_saved_ms"].value or 0) == 2


def test_its_command_is_there() -> None:
    told = CliRunner().invoke(command, ["hops", "--help"])
    assert told.exit_code == 0
    assert "--data" in told.output
