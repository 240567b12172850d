"""The proof of phases on a real engine, without one: the order of what is done, and what its figures make of it."""

import random

import msgspec

from headway.calls.phases.model import Cause, Seen, Verdict
from headway.calls.phases.split import split
from headway.prove.phases_llama import Length, jobs
from headway.prove.phases_llama_calls import Timings
from headway.prove.phases_llama_figures import CAUSES, Done, figures, matrix_of
from headway.prove.phases_llama_stored import Stored


def test_each_cause_is_done_so_often_and_calls_are_left_alone_between() -> None:
    length = Length(each=42, warm=90, stretch=14)
    order = jobs(random.Random(1), length)
    assert order[:90] == [None] * 90
    counted = {cause: order.count(cause) for cause in CAUSES}
    assert counted == dict.fromkeys(CAUSES, 42)
    for job, after in zip(order[90:], order[91:], strict=False):
        if job is not None and job is not Cause.ROUTE_CHANGE:
            assert after is None, "whoever comes after a call that something was done to is left alone"
    runs = "".join("r" if job is Cause.ROUTE_CHANGE else "." for job in order)
    assert [len(run) for run in runs.split(".") if run] == [14, 14, 14]


def test_figures_compare_verdicts_with_what_was_done_and_the_split_with_the_engine() -> None:
    done = [_done("a", Cause.LONG_PROMPT), _done("b", Cause.LONG_PROMPT), _done("c", None), _done("w", None, counts=False)]
    told = {
        "a": _stored("a", Cause.LONG_PROMPT),
        "b": _stored("b", Cause.CANNOT_TELL),
        "c": _stored("c", None),
        "w": _stored("w", Cause.NEIGHBOUR),
    }
    out = figures(done, told, 1, least=2)
    assert out["long_prompt.accuracy_answered"].value == 1
    assert out["long_prompt.coverage"].value == 0.5
    assert out["clean_named"].value == 0, "the first calls, before anything is usual, do not count"
    assert out["split.prefill_error_p50"].value == 0.05
    assert out["split.decode_error_p50"].value == 0.1, "a short phase is held against 150 ms"
    assert "neighbour.coverage" not in out, "what was not done often enough is absent"
    assert matrix_of(done, told)["long_prompt"] == {"long_prompt": 1, "cannot_tell": 1}


def _done(call: str, cause: Cause | None, *, counts: bool = True) -> Done:
    return Done(call=call, cause=cause, timings=Timings(prompt_ms=400.0, predicted_ms=85.0, cache_n=0), counts=counts)


def _stored(call: str, cause: Cause | None) -> Stored:
    seen = Seen(
        call=call,
        at_ms=0,
        duration_ms=520.0,
        first_token_ms=420.0,
        last_token_ms=520.0,
        token_ms=tuple(420.0 + 10 * n for n in range(11)),
    )
    return Stored(msgspec.structs.replace(seen), split(seen), Verdict(call=call, slow=cause is not None, cause=cause))
