"""A proof is told as it was measured: what does not hold says so, what is absent is absent."""

from headway.kernel.figure import Figure, Proof
from headway.prove.report import Wanted, as_json, as_table, exit_code, failing


def _proof(*, alarms: int = 0, **values: float | None) -> Proof:
    figures = {name: Figure(value=value, unit="ratio", n=20, method="worst of 20 seeds") for name, value in values.items()}
    return Proof(pillar="admission", engine="lab", seed=1, figures=figures, control_alarms=alarms, took_s=1.0)


WANTED = {"small": Wanted(at_most=0.1), "flow": Wanted(at_least=0.9)}


def test_bounds_hold_at_their_edge_and_not_beyond() -> None:
    assert exit_code(_proof(small=0.1, flow=0.9), WANTED) == 0
    assert failing(_proof(small=0.1001, flow=0.9), WANTED) == ["small"]
    assert failing(_proof(small=0.1, flow=0.8999), WANTED) == ["flow"]
    assert exit_code(_proof(small=0.2, flow=0.9), WANTED) == 1


def test_what_is_wanted_and_was_not_measured_does_not_hold() -> None:
    proof = _proof(small=0.05)
    assert failing(proof, WANTED) == ["flow"]
    assert "does not hold: flow: not measured" in as_table(proof, WANTED)


def test_an_alarm_in_the_quiet_control_fails_the_proof() -> None:
    assert exit_code(_proof(alarms=1, small=0.05, flow=1.0), WANTED) == 1


def test_json_has_the_form_of_every_proof_and_no_nulls() -> None:
    told = as_json(_proof(small=0.05, flow=None))
    assert set(told) == {"pillar", "engine", "seed", "figures", "control_alarms", "took_s"}
    assert told["figures"] == {"small": {"value": 0.05, "unit": "ratio", "n": 20, "method": "worst of 20 seeds"}}


def test_the_table_shows_bounds_first_and_gives_the_rest() -> None:
    lines = as_table(_proof(extra=3.0, small=0.05, flow=1.0), WANTED).splitlines()
    order = [line.split()[0] for line in lines if line.startswith(("small", "flow", "extra"))]
    assert order == ["small", "flow", "extra"]
    assert not any(line.startswith("extra") and ("holds" in line or "FAILS" in line) for line in lines)
    assert any(line.startswith("small") and line.endswith("holds") for line in lines)
