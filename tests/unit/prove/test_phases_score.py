"""Scoring of verdicts: what counts as answered, as right, as attributed wrongly."""

import pytest

from headway.calls.phases.model import Cause, Verdict
from headway.lab.phase_worlds.model import Truth
from headway.prove.phases_matrix import as_text
from headway.prove.phases_score import (
    CANNOT_TELL,
    CLEAN,
    QUIET,
    Scored,
    accuracy,
    accuracy_answered,
    cannot_tell,
    coverage,
    figure,
    matrix,
    nearest_duration,
    scored,
    wrong_ms_share,
)


def call(
    done: str = "", said: str = QUIET, *, world: str = "w", ms: float = 400.0, explained: float = 0.0, lasts: float = 1_000.0
) -> Scored:
    causes = (done,) if done else ()
    return Scored(world, causes, (ms,) if done else (), 4.0, said, explained, lasts)


def test_answered_is_a_cause_and_neither_silence_nor_doubt() -> None:
    calls = [call("retry", "retry"), call("retry", "neighbour"), call("retry", CANNOT_TELL), call("retry", QUIET)]
    assert coverage(calls) == 0.5
    assert accuracy_answered(calls) == 0.5
    assert accuracy(calls) == 0.25
    assert cannot_tell(calls) == 0.25
    assert accuracy_answered([call("retry")]) is None


def test_a_call_with_too_short_a_history_is_one_that_nobody_could_tell() -> None:
    unknown = Verdict(call="c", slow=False, cause=Cause.CANNOT_TELL)
    assert scored("w", Truth(), unknown, 1.0).said == CANNOT_TELL
    assert scored("w", Truth(), Verdict(call="c", slow=False, cause=None), 1.0).said == QUIET


def test_milliseconds_are_wrong_at_a_wrong_cause_and_beyond_a_right_one() -> None:
    assert wrong_ms_share([call("retry", "retry", explained=500)]) == pytest.approx(100 / 400)
    assert wrong_ms_share([call("retry", "neighbour", explained=500)]) == pytest.approx(500 / 400)
    assert wrong_ms_share([call("retry", CANNOT_TELL, explained=500)]) == 0


def test_intervals_are_of_worlds() -> None:
    one = [call("retry", "retry", world="a") for _ in range(50)]
    assert figure(one, coverage, 1, "how").low is None, "one world says nothing of others"
    two = one + [call("retry", QUIET, world="b") for _ in range(50)]
    told = figure(two, coverage, 1, "how")
    assert (told.value, told.low, told.high, told.n) == (0.5, 0.0, 1.0, 100)


def test_the_rule_that_knows_durations_only() -> None:
    known = [call("retry", lasts=100), call("neighbour", lasts=200), call("tool_wait", lasts=900)]
    asked = [call("retry", lasts=120), call("neighbour", lasts=140), call("tool_wait", lasts=5_000), call("retry", lasts=1)]
    assert nearest_duration(known, asked) == 0.75
    assert nearest_duration([], asked) is None


def test_the_matrix_has_doubt_as_a_column_and_pairs_in_no_row() -> None:
    calls = [
        call("retry", "retry"),
        call("retry", CANNOT_TELL),
        call(),
        Scored("w", ("retry", "neighbour"), (1.0, 2.0), 8.0, "retry", 0.0, 1.0),
    ]
    counts = matrix(calls, ["retry", CLEAN])
    assert counts == {"retry": {"retry": 1, CANNOT_TELL: 1}, CLEAN: {QUIET: 1}}
    head, *rows = as_text(counts).splitlines()[2:]
    assert "can't tell" in head
    assert rows[0].split() == ["retry", "50", "50", "2"]
    assert rows[1].split() == ["clean", "100", "1"]
