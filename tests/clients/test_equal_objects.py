"""Every client sees the same objects direct and through Headway, against recorded upstreams of its dialect."""

import importlib.util
import subprocess
import sys

import pytest
from clients_setup import MODEL_BY_DIALECT
from programs_run import PROGRAMS, Program, run, scenarios

SCENARIOS = scenarios()
PAIRS = [(program, scenario) for program in PROGRAMS for scenario in SCENARIOS if scenario.kind in program.kinds]


@pytest.fixture(scope="session")
def saw(upstream, way, clients_python, request):
    """What each program saw on either way, each program run once a way."""
    kept: dict[str, tuple[dict, dict]] = {}

    def both(program: Program) -> tuple[dict, dict]:
        if program.name not in kept:
            node = request.getfixturevalue("node") if program.module == "node" else ""
            _need(program, clients_python)
            common = {"python": clients_python, "node": node, "model": MODEL_BY_DIALECT[program.dialect], "which": SCENARIOS}
            kept[program.name] = (
                run(program, base_url=upstream.url, key="direct", **common),
                run(program, base_url=way.url, key=way.key, **common),
            )
        return kept[program.name]

    return both


def _need(program: Program, python: str) -> None:
    if program.module == "node":
        return
    if python == sys.executable:
        found = importlib.util.find_spec(program.module) is not None
    else:
        found = subprocess.run([python, "-c", f"import {program.module}"], capture_output=True).returncode == 0
    if not found:
        pytest.skip(f"{program.module} is not installed: make clients puts it into .venv-clients")


@pytest.mark.parametrize(("program", "scenario"), PAIRS, ids=lambda item: item.name)
def test_the_same_object_direct_and_through_headway(saw, program, scenario):
    direct, through = saw(program)
    assert scenario.name in direct, "the program left the scenario out"
    if scenario.name.startswith(("error_4", "error_5")):
        assert "raised" in direct[scenario.name], "the recorded error was not raised"
    assert through[scenario.name] == direct[scenario.name]
